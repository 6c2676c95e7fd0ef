"""Names of files are UTF-8, whatever the locale; files that look like ours and are not are found."""

# ruff: noqa: ASYNC221, ASYNC240, nothing else runs in the loop of these tests

from __future__ import annotations

import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from learning_observer_kvs.stores.filesystem.names import DIGESTS, FileNames, resembles_key
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from tests.support.parts import missing

ROOT = Path(__file__).parent.parent.parent.parent

PROGRAM = r"""
import asyncio, sys
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
assert sys.getfilesystemencoding() not in ('utf-8', 'utf8'), sys.getfilesystemencoding()

async def main():
    options = {'type': 'filesystem', 'path': 'sch\xfcler', 'subdirs': True}
    async with KVSRouter.from_settings({'kvs': {'default': options}}) as router:
        store = router()
        assert sorted(await store.keys()) == ['caf\xe9', '\xfc/\xe9', '\u65e5\u672c/\u8a9e'], ascii(await store.keys())
        assert await store['caf\xe9'] == 1
        assert await store['\u65e5\u672c/\u8a9e'] == 2
        await store.multiset({'caf\xe9': 4, 'ni\xf1o': 5})
        assert await store.remove('\xfc/\xe9')
        assert await store.unrecognized() == []

asyncio.run(main())
"""


@pytest.fixture(params=['ascii', 'latin-1'])
def other_locale(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process whose file names are not UTF-8 by themselves."""
    environment = {'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0', 'PYTHONPATH': str(ROOT)}
    if request.param == 'ascii':
        return environment | {'LC_ALL': 'C'}
    directory = tmp_path_factory.mktemp('locales')
    made = ['localedef', '-i', 'POSIX', '-f', 'ISO-8859-1', str(directory / 'xx_XX.ISO-8859-1')]
    try:
        subprocess.run(made, check=False, capture_output=True)
    except FileNotFoundError:
        missing('there is no localedef')
    if not any(directory.iterdir()):
        missing('there are no sources of locales')
    return environment | {'LOCPATH': str(directory), 'LC_ALL': 'xx_XX.ISO-8859-1'}


async def test_keys_have_the_same_files_under_every_locale(tmp_path: Path, other_locale: dict[str, str]) -> None:
    directory = tmp_path / 'schüler'
    async with FilesystemKVS(directory, subdirs=True) as store:
        await store.multiset({'café': 1, '日本/語': 2, 'ü/é': 3})
    done = subprocess.run(
        [sys.executable, '-c', PROGRAM],
        cwd=tmp_path,
        env=os.environ | other_locale,
        capture_output=True,
        text=True,
        errors='replace',
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, '')
    async with FilesystemKVS(directory, subdirs=True) as store:
        assert await store.dump() == {'café': 4, 'niño': 5, '日本/語': 2}
    assert [path.name for path in tmp_path.iterdir()] == ['schüler']


NFD = unicodedata.normalize('NFD', 'café')


@pytest.mark.parametrize('subdirs', [False, True])
async def test_files_that_look_like_keys_and_are_not_are_found(tmp_path: Path, subdirs: bool) -> None:
    async with FilesystemKVS(tmp_path, subdirs) as store:
        await store.multiset({'key': 1, 'a/b': 2, 'k' * 300: 3})
        assert await store.unrecognized() == []
        [long] = (tmp_path / DIGESTS).iterdir()
        for name in (NFD, 'a-97-', os.fsdecode(b'caf\xe9'), f'{DIGESTS}/{"0" * 64}', f'{DIGESTS}/{long.name}.bak'):
            (tmp_path / name).write_text('1')
        (tmp_path / 'link').symlink_to(long)
        other = '_x' if subdirs else '_d/x'
        (tmp_path / '_d').mkdir()
        (tmp_path / other).write_text('1')
        for name in ('.DS_Store', 'notes.txt', 'key~', '#key#', 'foo bar', '_d/notes.txt'):
            (tmp_path / name).write_text('1')
        (tmp_path / 'folder').mkdir()
        (tmp_path / 'folder' / 'inside').write_text('1')
        (tmp_path / '_link').symlink_to(tmp_path / 'folder')
        (tmp_path / DIGESTS / '_folder').mkdir()
        for name in (f'{DIGESTS}/.hidden', f'{DIGESTS}/_folder/inside'):
            (tmp_path / name).write_text('1')
        os.mkfifo(tmp_path / 'a-98-')
        found = {os.path.relpath(path, tmp_path) for path in await store.unrecognized()}
        long_ones = {f'{DIGESTS}/{"0" * 64}', f'{DIGESTS}/{long.name}.bak'}
        assert found == {NFD, 'a-97-', os.fsdecode(b'caf\xe9'), 'link', '_link', other, *long_ones}
        assert len(await store.unrecognized(3)) == 3


@pytest.mark.parametrize('subdirs', [False, True])
@pytest.mark.parametrize('key', ['a', 'a,b:c', '日本', 'a/b', '_a', '-', '\0', 'a.b'])
def test_what_a_key_is_named_looks_like_a_key(key: str, subdirs: bool) -> None:
    assert resembles_key(FileNames(subdirs).path_of(key))
