"""Which files are in the directory of a store: its own, foreign ones, links."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.stores.filesystem.files import MAX_INDENTED
from learning_observer_kvs.stores.filesystem.names import DIGESTS, META_DIR, is_digest
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from learning_observer_kvs.stores.types import MISSING, Description
from tests.support.files import link, plant, tree
from tests.support.reducing import reduce_anything

LONG = 'x' * 300
"""A key without a readable name."""


OLD = {
    'Internal-44-writing_observer-46-reconstruct-44-STUDENT-58-bob': '{"text": "a", "n": [1, 2.5]}',
    'External-44-m-46-r-44-STUDENT-58-ls-45-Jos-37-C3-37-A9': 'null',
    '-128512-': '"emoji"',
    'a-47-b': '1',
    '_a': '2',
    'é': '3',
}
OLD_KEYS = {
    'Internal,writing_observer.reconstruct,STUDENT:bob': {'text': 'a', 'n': [1, 2.5]},
    'External,m.r,STUDENT:ls-Jos%C3%A9': None,
    '😀': 'emoji',
    'a/b': 1,
    '_a': 2,
    'é': 3,
}


async def test_a_directory_of_the_runtimes_store_is_read_and_written(store: FilesystemKVS, root: Path) -> None:
    plant(root, OLD)
    assert await store.dump() == OLD_KEYS
    await store.multiset(OLD_KEYS)
    assert set(os.listdir(root)) == {*OLD, META_DIR}
    assert await store.dump() == OLD_KEYS


async def test_a_directory_with_subdirectories_of_the_runtimes_store_is_read(nested: FilesystemKVS, root: Path) -> None:
    plant(root, {'_a/b': '1', '_a/_b-44-c/d-46-json': '2', 'top': '3'})
    assert await nested.dump() == {'a/b': 1, 'a/b,c/d.json': 2, 'top': 3}
    assert set(await nested.keys('a/b')) == {'a/b', 'a/b,c/d.json'}


async def test_values_are_indented_in_their_files(store: FilesystemKVS, root: Path) -> None:
    await store.set('k', {'a': [1, 'é']})
    assert (root / 'k').read_text() == '{\n  "a": [\n    1,\n    "é"\n  ]\n}\n'


async def test_a_large_value_is_not_indented(store: FilesystemKVS, root: Path) -> None:
    await store.set('k', ['x'] * MAX_INDENTED)
    assert (root / 'k').read_text() == json.dumps(['x'] * MAX_INDENTED, separators=(',', ':')) + '\n'
    assert await store.compare_and_set('k', ['x'] * MAX_INDENTED, ['y'] * MAX_INDENTED)
    assert await reduce_anything(store, 'k') == await reduce_anything(store, 'k')


async def test_a_key_without_a_readable_name_is_kept_beside_its_value(store: FilesystemKVS, root: Path) -> None:
    await store.set(LONG, {'a': 1})
    [path] = (root / DIGESTS).iterdir()
    assert json.loads(path.read_text()) == {'key': LONG, 'value': {'a': 1}}
    assert set(os.listdir(root)) == {META_DIR}


@pytest.mark.parametrize('key', ['k', LONG])
async def test_a_key_is_described_by_its_file(store: FilesystemKVS, root: Path, key: str) -> None:
    await store.set(key, 1)
    [path] = [root / 'k'] if key == 'k' else (root / DIGESTS).iterdir()
    os.utime(path, (1, 1_700_000_000))
    assert await store.describe(key) == Description(path.stat().st_size, None, 1_700_000_000)


async def test_removing_the_last_key_of_a_subdirectory_removes_the_directory(nested: FilesystemKVS, root: Path) -> None:
    await nested.multiset({'a/b/c': 1, 'a/d': 2})
    await nested.remove('a/b/c')
    assert os.listdir(root / '_a') == ['d']
    await nested.clear()
    assert os.listdir(root) == [META_DIR]


async def test_replacing_the_last_key_of_a_subdirectory_keeps_the_directory(nested: FilesystemKVS) -> None:
    await nested.set('a/b', 1)
    assert await nested.commit({'a/b': MISSING, 'a/c': 2})
    assert await nested.dump() == {'a/c': 2}


# Foreign files


async def test_foreign_files_are_not_keys_and_are_left_alone(nested: FilesystemKVS, root: Path) -> None:
    await nested.multiset({'k': 1, 'a/b': 2, LONG: 3})
    plant(
        root,
        {
            '.DS_Store': 'x',
            '.k.swp': 'x',
            'k~': 'x',
            'k.bak': 'x',
            '#k#': 'x',
            '-65-': '"A is written as A"',
            '-56448-': '"half a character"',
            '-99999999999-': '1',
            '_a/.DS_Store': 'x',
            '_a/c (copy)': 'x',
            'folder/k': '1',
            f'{DIGESTS}/readme': '{"key": "forged",\n"value": 1}\n',
            f'{DIGESTS}/{"0" * 64}.bak': '{"key": "forged",\n"value": 1}\n',
        },
    )
    os.close(os.open(os.fsencode(root) + b'/\xff\xfe', os.O_CREAT | os.O_WRONLY))
    (root / 'empty').mkdir()
    before = tree(root)
    assert await nested.dump() == {'k': 1, 'a/b': 2, LONG: 3}
    assert sorted(await nested.keys()) == sorted(['k', 'a/b', LONG])
    assert await nested['folder'] is None
    await nested.clear()
    keys = {'k', '_a/b'} | {name for name in before if is_digest(name)}
    assert tree(root) == {name: text for name, text in before.items() if name not in keys}
    assert (root / 'empty').is_dir()


async def test_a_copy_of_a_file_under_another_digest_is_not_a_key(store: FilesystemKVS, root: Path) -> None:
    await store.set(LONG, 1)
    [path] = (root / DIGESTS).iterdir()
    (root / DIGESTS / ('0' * 64)).write_bytes(path.read_bytes())
    assert await store.scan() == ([LONG], None)


async def test_a_pipe_or_socket_is_not_a_key_and_blocks_nothing(store: FilesystemKVS, root: Path) -> None:
    plant(root, {})
    os.mkfifo(root / 'pipe')
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / 'socket'))
    assert await store.multiget(['pipe', 'socket']) == [None, None]
    assert await store['pipe'] is None
    assert await store.keys() == []
    with pytest.raises(StoreUnavailable, match=r'pipe is not a regular file.*Move it away'):
        await store.set('pipe', 1)


async def test_a_directory_with_the_name_of_a_key_is_reported(nested: FilesystemKVS, root: Path) -> None:
    plant(root, {'k/precious': 'x', '_a': 'x'})
    with pytest.raises(StoreUnavailable, match='store/k is not a regular file'):
        await nested.multiset({'other': 1, 'k': 2})
    with pytest.raises(StoreUnavailable, match='store/_a'):
        await nested.set('a/b', 1)
    assert await nested['a/b'] is None
    assert await nested.keys() == []
    assert tree(root) == {'k/precious': b'x', '_a': b'x'}


# Links


async def test_a_link_with_the_name_of_a_key_is_refused(store: FilesystemKVS, root: Path, tmp_path: Path) -> None:
    secret = tmp_path / 'secret'
    plant(tmp_path, {'secret': '"secret"'})
    link(root / 'k', secret)
    with pytest.raises(StoreUnavailable, match='link'):
        await store['k']
    with pytest.raises(StoreUnavailable, match='not a regular file'):
        await store.set('k', 1)
    assert await store.keys() == []
    assert await store.describe('k') is None
    await store.clear()
    assert (root / 'k').is_symlink()
    assert secret.read_text() == '"secret"'


async def test_a_link_instead_of_a_subdirectory_is_refused(nested: FilesystemKVS, root: Path, tmp_path: Path) -> None:
    plant(tmp_path, {'outside/b': '"secret"'})
    link(root / '_a', tmp_path / 'outside')
    for call in (lambda: nested['a/b'], lambda: nested.set('a/b', 1), lambda: nested.describe('a/b')):
        with pytest.raises(StoreUnavailable, match='_a is a link'):
            await call()
    with pytest.raises(StoreUnavailable, match='_a is a link'):
        await nested.remove('a/b')
    assert await nested.keys() == []
    await nested.clear()
    assert tree(tmp_path / 'outside') == {'b': b'"secret"'}


@pytest.mark.parametrize('name', [META_DIR, DIGESTS, f'{META_DIR}/lock', f'{META_DIR}/journal'])
async def test_a_link_below_the_hidden_directory_is_refused(
    store: FilesystemKVS, root: Path, tmp_path: Path, name: str
) -> None:
    outside = tmp_path / 'outside'
    plant(outside, {'new-0': 'precious', 'keys/x': 'precious'})
    link(root / name, outside / 'new-0' if name.endswith(('lock', 'journal')) else outside)
    with pytest.raises(StoreUnavailable):
        await store.multiset({LONG: 1, 'k': 2})
    assert tree(outside) == {'new-0': b'precious', 'keys/x': b'precious'}


async def test_the_directory_itself_may_be_a_link(root: Path, tmp_path: Path) -> None:
    plant(tmp_path / 'real', {})
    link(root, tmp_path / 'real')
    async with FilesystemKVS(root, subdirs=True) as store:
        await store.multiset({'k': 1, 'a/b': 2})
        assert await store.dump() == {'k': 1, 'a/b': 2}


# Paths


async def test_a_path_that_is_a_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('precious')
    async with FilesystemKVS(tmp_path / 'file') as store:
        for call in (store.keys, lambda: store['k'], lambda: store.set('k', 1), lambda: store.multiget(['a', 'b'])):
            with pytest.raises(StoreUnavailable, match='A folder is needed there'):
                await call()
    assert (tmp_path / 'file').read_text() == 'precious'


async def test_missing_parents_are_made_by_the_first_write_and_not_before(tmp_path: Path) -> None:
    async with FilesystemKVS(tmp_path / 'a' / 'b') as store:
        assert await store.multiget(['k', 'l']) == [None, None]
        assert await store.keys() == []
        assert os.listdir(tmp_path) == []
        await store.set('k', 1)
    assert (tmp_path / 'a' / 'b' / 'k').exists()


async def test_a_relative_path_is_taken_from_the_working_directory_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with FilesystemKVS('store') as store:
        monkeypatch.chdir('/')
        await store.set('k', 1)
        assert store.location() == str(tmp_path / 'store')
    assert (tmp_path / 'store' / 'k').exists()
