"""What is special to ``type: filesystem``; the promise of every store stands in ``test_promise.py``."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import random
import socket
import subprocess
import sys
import unicodedata
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning_observer_kvs.errors import CorruptValue, StoreUnavailable, WriteUnclear
from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.stores.filesystem.directory import Folder
from learning_observer_kvs.stores.filesystem.files import READABLE
from learning_observer_kvs.stores.filesystem.listing import PIECE, Walks, _sorted_pieces
from learning_observer_kvs.stores.filesystem.names import DIGESTS, OWN, FileNames, is_digest
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from learning_observer_kvs.stores.types import MISSING, Description
from learning_observer_kvs.testing.keys import KEYS
from tests.support.disks import folder_of_others, read_only, small_disk
from tests.support.killed_writer import check, killer

LONG = 'x' * 300
"""A key without a readable name."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / 'store'


@pytest.fixture
async def store(root: Path) -> AsyncIterator[FilesystemKVS]:
    async with FilesystemKVS(root) as store:
        yield store


@pytest.fixture
async def nested(root: Path) -> AsyncIterator[FilesystemKVS]:
    async with FilesystemKVS(root, subdirs=True) as store:
        yield store


def tree(root: Path) -> dict[str, bytes]:
    """Every file below a folder, but not the count of changes."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob('*'))
        if path.is_file() and path.name != 'lock'
    }


def plant(root: Path, files: dict[str, str]) -> None:
    """Files as somebody else wrote them."""
    root.mkdir(exist_ok=True)
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def link(place: Path, target: Path) -> None:
    """A link as somebody else may plant it."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)


def run(program: str, *arguments: object) -> None:
    """Run a program of Python to its end; it may fork."""
    subprocess.run([sys.executable, '-W', 'ignore', '-c', program, *map(str, arguments)], check=True, timeout=60)


# The layout

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


async def test_a_folder_that_todays_store_wrote_is_read_and_written_on(store: FilesystemKVS, root: Path) -> None:
    plant(root, OLD)
    assert await store.dump() == OLD_KEYS
    await store.multiset(OLD_KEYS)
    assert set(os.listdir(root)) == {*OLD, OWN}
    assert await store.dump() == OLD_KEYS


async def test_a_folder_with_subfolders_that_todays_store_wrote_is_read(nested: FilesystemKVS, root: Path) -> None:
    plant(root, {'_a/b': '1', '_a/_b-44-c/d-46-json': '2', 'top': '3'})
    assert await nested.dump() == {'a/b': 1, 'a/b,c/d.json': 2, 'top': 3}
    assert set(await nested.keys('a/b')) == {'a/b', 'a/b,c/d.json'}


async def test_values_stand_indented_in_their_files(store: FilesystemKVS, root: Path) -> None:
    await store.set('k', {'a': [1, 'é']})
    assert (root / 'k').read_text() == '{\n  "a": [\n    1,\n    "é"\n  ]\n}\n'


async def test_a_value_too_large_to_be_read_by_people_is_not_indented(store: FilesystemKVS, root: Path) -> None:
    await store.set('k', ['x'] * READABLE)
    assert (root / 'k').read_text() == json.dumps(['x'] * READABLE, separators=(',', ':')) + '\n'
    assert await store.compare_and_set('k', ['x'] * READABLE, ['y'] * READABLE)
    assert await fold_anything(store, 'k') == await fold_anything(store, 'k')


async def test_a_key_without_a_readable_name_stands_beside_its_value(store: FilesystemKVS, root: Path) -> None:
    await store.set(LONG, {'a': 1})
    [path] = (root / DIGESTS).iterdir()
    assert json.loads(path.read_text()) == {'key': LONG, 'value': {'a': 1}}
    assert set(os.listdir(root)) == {OWN}


@pytest.mark.parametrize('key', ['k', LONG])
async def test_a_key_is_described_by_its_file(store: FilesystemKVS, root: Path, key: str) -> None:
    await store.set(key, 1)
    [path] = [root / 'k'] if key == 'k' else (root / DIGESTS).iterdir()
    os.utime(path, (1, 1_700_000_000))
    assert await store.describe(key) == Description(path.stat().st_size, None, 1_700_000_000)


async def test_removing_the_last_key_of_a_subfolder_removes_the_folder(nested: FilesystemKVS, root: Path) -> None:
    await nested.multiset({'a/b/c': 1, 'a/d': 2})
    await nested.remove('a/b/c')
    assert os.listdir(root / '_a') == ['d']
    await nested.clear()
    assert os.listdir(root) == [OWN]


async def test_replacing_the_last_key_of_a_subfolder_by_another_keeps_it(nested: FilesystemKVS) -> None:
    await nested.set('a/b', 1)
    assert await nested.commit({'a/b': MISSING, 'a/c': 2})
    assert await nested.dump() == {'a/c': 2}


# Hostile keys

HOSTILE = [
    *KEYS,
    *('/'.join(parts) for parts in [('a', '..', 'b'), ('..', 'a'), ('a', '', ''), ('', '', 'a'), ('_', '_a'), ('_',)]),
    *(f'/{OWN}/journal', f'{OWN}/lock', OWN, f'{OWN}/keys/' + 'a' * 64, '.DS_Store', 'a.', 'a~', '#a#'),
    *('-', '--', '-47-', '-47', '47-', '-1114112-', '-99999999999-', '-55357-', '-65-', '-95-a', '_-95-a'),
    *('STRASSE', 'straße', 'strasse', 'ſ', 's', 'S', 'K', '\u212a', 'k\u0301', 'İ', 'ı', 'i', 'I'),
    *('가', '\u1100\u1161', 'Å', '\u212b', 'A\u030a', 'ﬁ', 'fi', '²', '2', '٣', '\u00a0', '\ufeff', '\u202e'),
    *(
        'NUL',
        'aux',
        'CON.txt',
        'c:',
        '\\\\server\\share',
        '~',
        '~root',
        '$HOME',
        '`id`',
        '-rf',
        '"',
        "'",
        '%00',
        '%2e%2e',
    ),
    *('é' * 119, 'é' * 120, 'é' * 121, 'x' * 239, 'x' * 240, 'x' * 241, '/' * 511, '/' * 512, 'a/' * 300 + 'b'),
    *('n' * 1024, 'n/' * 512 + 'n', 'q' * (1 << 20)),
]


@pytest.mark.parametrize('subdirs', [False, True])
@pytest.mark.parametrize('exact', [True, False])
def test_two_hostile_keys_never_have_one_path(subdirs: bool, exact: bool) -> None:
    names = FileNames(subdirs, exact)
    paths = {names.path_of(key): key for key in dict.fromkeys(HOSTILE)}
    assert len(paths) == len(set(HOSTILE))
    for form in ('NFC', 'NFD'):
        assert len({unicodedata.normalize(form, path) for path in paths}) == len(paths)
    assert exact or len({path.casefold() for path in paths}) == len(paths)
    for path in paths:  # a file is never where another key needs a folder
        assert not any(f'{path[:end]}' in paths for end in range(len(path)) if path[end] == '/')


any_key = st.text(st.characters(codec='utf-8'), min_size=1)
likely_key = st.text('aA_-/.0123456789é\u0301,', min_size=1, max_size=12)


@pytest.mark.parametrize('subdirs', [False, True])
@pytest.mark.parametrize('exact', [True, False])
@given(key=any_key | likely_key)
def test_a_readable_name_gives_its_key_again(subdirs: bool, exact: bool, key: str) -> None:
    names = FileNames(subdirs, exact)
    path = names.path_of(key)
    assert is_digest(path) or names.key_of(path) == key
    assert is_digest(path) or all(path.startswith('_') for path in path.split('/')[:-1])


@pytest.mark.parametrize('subdirs', [False, True])
@given(path=st.text('aA_-/.0123456789', min_size=1, max_size=12))
def test_a_file_is_a_key_only_if_the_key_has_that_name(subdirs: bool, path: str) -> None:
    names = FileNames(subdirs)
    key = names.key_of(path)
    assert key is None or names.path_of(key) == path


@pytest.mark.parametrize('subdirs', [False, True])
@given(key=any_key | likely_key, length=st.integers(0, 12))
def test_the_places_of_a_prefix_hold_all_its_keys(subdirs: bool, key: str, length: int) -> None:
    names = FileNames(subdirs)
    path = names.path_of(key)
    assert is_digest(path) or path.startswith(names.places_of(key[:length]))


@pytest.mark.parametrize('subdirs', [False, True])
async def test_hostile_keys_stay_in_the_folder_and_apart(tmp_path: Path, subdirs: bool) -> None:
    entries = {key: number for number, key in enumerate(dict.fromkeys(HOSTILE))}
    async with FilesystemKVS(tmp_path / 'outer' / 'store', subdirs) as store:
        for key, number in entries.items():
            await store.set(key, number)
        assert await store.dump() == entries
        assert os.listdir(tmp_path) == ['outer']
        assert os.listdir(tmp_path / 'outer') == ['store']
        await store.clear()
        assert os.listdir(tmp_path / 'outer' / 'store') == [OWN]
        assert os.listdir(tmp_path / 'outer' / 'store' / DIGESTS) == []


async def test_where_cases_are_one_keys_that_differ_in_case_stay_apart(
    store: FilesystemKVS, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Folder, 'tells_cases_apart', lambda self: False)
    entries = {'a': 1, 'A': 2, 'é': 3, 'É': 4, 'Internal,r,STUDENT:Bob': 5, 'Internal,r,STUDENT:bob': 6}
    await store.multiset(entries)
    assert await store.dump() == entries
    names = [name.lower() for name in (*os.listdir(store.path), *os.listdir(f'{store.path}/{DIGESTS}'))]
    assert len(set(names)) == len(names)


def test_cases_are_told_apart_by_looking_at_the_disk(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    assert folder.tells_cases_apart() is None
    (tmp_path / OWN).mkdir()
    assert folder.tells_cases_apart() is True
    (tmp_path / OWN.upper()).mkdir()  # somebody's own
    assert folder.tells_cases_apart() is True


# Foreign files


async def test_foreign_files_are_no_keys_and_are_left_alone(nested: FilesystemKVS, root: Path) -> None:
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
    ours = {'k', '_a/b'} | {name for name in before if is_digest(name)}
    assert tree(root) == {name: text for name, text in before.items() if name not in ours}
    assert (root / 'empty').is_dir()


async def test_a_copy_of_a_file_under_another_digest_is_no_key(store: FilesystemKVS, root: Path) -> None:
    await store.set(LONG, 1)
    [path] = (root / DIGESTS).iterdir()
    (root / DIGESTS / ('0' * 64)).write_bytes(path.read_bytes())
    assert await store.scan() == ([LONG], None)


async def test_a_pipe_or_socket_is_no_key_and_hangs_nobody(store: FilesystemKVS, root: Path) -> None:
    plant(root, {})
    os.mkfifo(root / 'pipe')
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / 'socket'))
    assert await store.multiget(['pipe', 'socket']) == [None, None]
    assert await store['pipe'] is None
    assert await store.keys() == []
    with pytest.raises(StoreUnavailable, match=r'pipe is no regular file.*Move it away'):
        await store.set('pipe', 1)


async def test_a_folder_where_a_key_wants_to_be_is_told(nested: FilesystemKVS, root: Path) -> None:
    plant(root, {'k/precious': 'x', '_a': 'x'})
    with pytest.raises(StoreUnavailable, match='store/k is no regular file'):
        await nested.multiset({'other': 1, 'k': 2})
    with pytest.raises(StoreUnavailable, match='store/_a'):
        await nested.set('a/b', 1)
    assert await nested['a/b'] is None
    assert await nested.keys() == []
    assert tree(root) == {'k/precious': b'x', '_a': b'x'}


# Links


async def test_a_link_at_a_keys_place_is_refused(store: FilesystemKVS, root: Path, tmp_path: Path) -> None:
    secret = tmp_path / 'secret'
    plant(tmp_path, {'secret': '"secret"'})
    link(root / 'k', secret)
    with pytest.raises(StoreUnavailable, match='link'):
        await store['k']
    with pytest.raises(StoreUnavailable, match='no regular file'):
        await store.set('k', 1)
    assert await store.keys() == []
    assert await store.describe('k') is None
    await store.clear()
    assert (root / 'k').is_symlink()
    assert secret.read_text() == '"secret"'


async def test_a_link_in_place_of_a_subfolder_is_refused(nested: FilesystemKVS, root: Path, tmp_path: Path) -> None:
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


@pytest.mark.parametrize('place', [OWN, DIGESTS, f'{OWN}/lock', f'{OWN}/journal'])
async def test_a_link_in_place_of_what_is_ours_is_refused(
    store: FilesystemKVS, root: Path, tmp_path: Path, place: str
) -> None:
    outside = tmp_path / 'outside'
    plant(outside, {'new-0': 'precious', 'keys/x': 'precious'})
    link(root / place, outside / 'new-0' if place.endswith(('lock', 'journal')) else outside)
    with pytest.raises(StoreUnavailable):
        await store.multiset({LONG: 1, 'k': 2})
    assert tree(outside) == {'new-0': b'precious', 'keys/x': b'precious'}


async def test_the_folder_itself_may_be_a_link(root: Path, tmp_path: Path) -> None:
    plant(tmp_path / 'real', {})
    link(root, tmp_path / 'real')
    async with FilesystemKVS(root, subdirs=True) as store:
        await store.multiset({'k': 1, 'a/b': 2})
        assert await store.dump() == {'k': 1, 'a/b': 2}


# Paths


async def test_a_path_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('precious')
    async with FilesystemKVS(tmp_path / 'file') as store:
        for call in (store.keys, lambda: store['k'], lambda: store.set('k', 1), lambda: store.multiget(['a', 'b'])):
            with pytest.raises(StoreUnavailable, match='A folder is wanted there'):
                await call()
    assert (tmp_path / 'file').read_text() == 'precious'


async def test_missing_parents_are_made_by_the_first_write_and_not_before(tmp_path: Path) -> None:
    async with FilesystemKVS(tmp_path / 'a' / 'b') as store:
        assert await store.multiget(['k', 'l']) == [None, None]
        assert await store.keys() == []
        assert os.listdir(tmp_path) == []
        await store.set('k', 1)
    assert (tmp_path / 'a' / 'b' / 'k').exists()


async def test_a_relative_path_means_the_working_directory_of_the_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with FilesystemKVS('store') as store:
        monkeypatch.chdir('/')
        await store.set('k', 1)
        assert store.location() == str(tmp_path / 'store')
    assert (tmp_path / 'store' / 'k').exists()


# Disks that refuse


async def test_a_full_disk_is_told_and_the_old_value_stays(tmp_path: Path) -> None:
    with small_disk(tmp_path / 'disk') as disk:
        async with FilesystemKVS(disk) as store:
            await store.multiset({'k': 'old', 'l': 'old'})
            for _ in range(3):
                with pytest.raises(StoreUnavailable, match='Nothing was written'):
                    await store.multiset({'l': 'new', 'k': 'x' * (2 << 20)})
            assert await store.dump() == {'k': 'old', 'l': 'old'}
            assert not [name for name in os.listdir(disk / OWN) if name.startswith('new-')]
            await store.set('k', 'small')
            assert await store['k'] == 'small'


async def test_one_value_too_large_does_not_fail_the_writes_beside_it(tmp_path: Path) -> None:
    with small_disk(tmp_path / 'disk') as disk:
        async with FilesystemKVS(disk) as store:
            writes = (store.set(f'k{number}', 'x' * (2 << 20) if number == 5 else number) for number in range(10))
            outcomes = await asyncio.gather(*writes, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes].count(StoreUnavailable) == 1
            assert isinstance(outcomes[5], StoreUnavailable)
            assert len(await store.keys()) == 9


async def test_a_folder_that_may_only_be_read_is_read() -> None:
    with folder_of_others() as folder:
        async with FilesystemKVS(folder) as store:
            await store.multiset({'k': 1, LONG: 2})
            with read_only(folder):
                assert await store['k'] == 1
                assert await store.multiget(['k', LONG]) == [1, 2]
                assert await store.dump() == {'k': 1, LONG: 2}
                for call in (store.set('k', 3), store.remove('k'), store.clear()):
                    with pytest.raises(StoreUnavailable, match='readable and writable'):
                        await call
            assert await store['k'] == 1


async def test_a_disk_that_refuses_in_the_middle_makes_the_write_unclear_and_it_is_finished_later(root: Path) -> None:
    async with FilesystemKVS(root) as store:
        await store.multiset({'a': 1, 'b': 1, 'c': 1})
        words = []

        def refuse(word: str) -> None:
            words.append(word)
            if words.count('rename') == 2:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        folder = store._files._folder
        folder._step, before = refuse, folder._step
        with pytest.raises(WriteUnclear, match='finished as soon as'):
            await store.multiset({'a': 2, 'b': 2, 'c': 2})
        folder._step = before
        assert await store.multiget(['a', 'b', 'c']) == [2, 2, 2]


async def test_a_change_is_finished_though_somebody_removed_the_folder_it_goes_to(root: Path) -> None:
    async with FilesystemKVS(root, subdirs=True) as store:
        await store.set('a', 1)

        def remove_the_folder(word: str) -> None:
            if word == 'rename' and (root / '_b').exists():
                (root / '_b').rmdir()

        store._files._folder._step = remove_the_folder
        await store.multiset({'a': 2, 'b/c': 2})
        assert await store.multiget(['a', 'b/c']) == [2, 2]


# Corrupt files


async def fold_anything(store: FilesystemKVS, key: str) -> Any:
    async def step(state: Any) -> Any:
        return 1, 2

    return await worker_of(store).process(key, 'External', step)


@pytest.mark.parametrize('key', ['k', LONG])
async def test_a_corrupt_file_is_told_and_nothing_is_overwritten(store: FilesystemKVS, root: Path, key: str) -> None:
    await store.set(key, {'a': [1] * 100})
    [path] = [root / name for name in tree(root)]
    path.write_bytes(path.read_bytes()[:200])
    before = tree(root)
    for call in (
        lambda: store[key],
        lambda: store.multiget(['other', key]),
        lambda: store.update(key, lambda value: 1),
        lambda: store.compare_and_set(key, 1, 2),
        lambda: fold_anything(store, key),
    ):
        with pytest.raises(CorruptValue, match='Nothing was overwritten'):
            await call()
    assert tree(root) == before
    assert await store.remove(key)
    assert await store[key] is None


async def test_a_file_that_holds_another_key_is_corrupt(store: FilesystemKVS, root: Path) -> None:
    await store.set(LONG, 1)
    [path] = (root / DIGESTS).iterdir()
    path.write_text('{"key": "another",\n"value": 1}\n')
    with pytest.raises(CorruptValue, match='does not hold this key'):
        await store[LONG]
    assert await store.keys() == []


async def test_a_file_that_somebody_edited_is_read(store: FilesystemKVS, root: Path) -> None:
    await store.multiset({'k': 1, LONG: 1})
    [path] = (root / DIGESTS).iterdir()
    path.write_text(json.dumps({'value': {'edited': 1}, 'key': LONG}))
    (root / 'k').write_text('{"edited":\t1}')
    assert await store.multiget(['k', LONG]) == [{'edited': 1}] * 2
    for key in ('k', LONG):
        assert await store.compare_and_set(key, {'edited': 1}, 2)
    assert await store.multiget(['k', LONG]) == [2, 2]


# Killed, and several processes

STEPS = ['stage', 'stage', 'stage', 'journal', 'count', 'rename', 'rename', 'rename', 'rename', 'forget']
KILL_AT_EACH_STEP = f"""
import os, signal, sys
from learning_observer_kvs.stores.filesystem.directory import Folder
for number in range({len(STEPS)} + 1):
    if not os.fork():
        steps = []
        def step(word):
            steps.append(word)
            if len(steps) == number + 1:
                os.kill(os.getpid(), signal.SIGKILL)
        folder = Folder(f'{{sys.argv[1]}}/{{number}}', step)
        with folder.changing():
            folder.change({{'a': b'"new"', 'b': b'"new"', '_c/d': b'"new"', 'gone': None}})
        assert steps == {STEPS}
        os._exit(7)
    status = os.waitstatus_to_exitcode(os.wait()[1])
    assert status == (7 if number == {len(STEPS)} else -signal.SIGKILL), status
"""


@pytest.mark.parametrize('first', ['multiget', 'one', 'dump', 'write'])
async def test_killed_at_any_step_all_or_nothing_was_written(tmp_path: Path, first: str) -> None:
    old = {'a': 'old', 'b': 'old', 'c/d': 'old', 'gone': 'old'}
    for number in range(len(STEPS) + 1):
        async with FilesystemKVS(tmp_path / str(number), subdirs=True) as store:
            await store.multiset(old)
    run(KILL_AT_EACH_STEP, tmp_path)
    for number in range(len(STEPS) + 1):
        async with FilesystemKVS(tmp_path / str(number), subdirs=True) as store:
            if first == 'multiget':
                found = dict(zip(old, await store.multiget(old), strict=True))
            elif first == 'one':
                found = {key: await store[key] for key in old}
            elif first == 'dump':
                found = {'gone': None, **await store.dump()}
            else:
                await store.set('e', 1)
                found = {key: await store[key] for key in old}
                assert not [name for name in os.listdir(tmp_path / str(number) / OWN) if name.startswith('new-')]
            decided = number > STEPS.index('journal')
            assert found == ({'a': 'new', 'b': 'new', 'c/d': 'new', 'gone': None} if decided else old), number


async def killings(root: Path, count: int) -> None:
    seed = random.randrange(1 << 30)
    print('seed', seed)
    highest = half_done = 0
    with killer('filesystem', root, seed) as program:
        for _ in range(count):
            acknowledged = program.kill_one(highest)
            left = os.listdir(root / OWN)
            half_done += any(name.startswith(('new-', 'journal')) for name in left)
            async with FilesystemKVS(root) as store:
                highest = await check(store, acknowledged)
    assert half_done, 'no writer was killed in the middle of a write'


async def test_a_writer_that_is_killed_leaves_whole_values_and_pairs(root: Path) -> None:
    await killings(root, 20)


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_a_writer_that_is_killed_two_hundred_times_leaves_whole_values_and_pairs(root: Path) -> None:
    await killings(root, 200)


ADD = """
import asyncio, sys
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
async def main():
    async with FilesystemKVS(sys.argv[1]) as store:
        await asyncio.gather(*(store.update('n', lambda value: (value or 0) + 1) for _ in range(100)))
asyncio.run(main())
"""


async def test_updates_of_several_processes_are_all_counted(store: FilesystemKVS, root: Path) -> None:
    await asyncio.gather(*(asyncio.to_thread(run, ADD, root) for _ in range(3)))
    assert await store['n'] == 300


FORK = """
import asyncio, os, sys
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
store = FilesystemKVS(sys.argv[1])
async def add(count):
    await asyncio.gather(*(store.update('n', lambda value: (value or 0) + 1) for _ in range(count)))
async def main():
    adding = asyncio.ensure_future(add(50))
    await asyncio.sleep(0)
    child = os.fork()
    if not child:
        os._exit(os.system(f'"{sys.executable}" -c pass'))
    await adding
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
asyncio.run(main())
if not os.fork():
    asyncio.run(add(50))
    asyncio.run(store.close())
    os._exit(0)
asyncio.run(add(50))
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
asyncio.run(store.close())
"""


async def test_a_forked_child_uses_the_store_beside_its_parent(store: FilesystemKVS, root: Path) -> None:
    run(FORK, root)
    assert await store['n'] == 150


FORKED_IN_THE_LOCK = """
import os, signal, sys
from learning_observer_kvs.stores.filesystem.directory import Folder
with Folder(sys.argv[1]).changing():
    if os.fork():
        os.kill(os.getpid(), signal.SIGKILL)
    print('the child lives', flush=True)
    sys.stdin.read()
    os._exit(0)
"""


def test_a_forked_child_does_not_keep_the_lock_of_its_killed_parent(root: Path) -> None:
    command = [sys.executable, '-W', 'ignore', '-c', FORKED_IN_THE_LOCK, str(root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b'the child lives\n'
        with Folder(str(root)).changing():
            pass


def test_a_lock_that_a_stopped_process_holds_is_not_waited_for_for_ever(root: Path) -> None:
    with (
        Folder(str(root)).changing(),
        pytest.raises(StoreUnavailable, match='held by another process'),
        Folder(str(root), lock_seconds=0.01).changing(),
    ):
        pass


async def test_writes_that_wait_for_the_lock_of_a_stopped_process_are_refused_together(
    store: FilesystemKVS, root: Path
) -> None:
    await store.set('k', 0)
    store._files._folder._lock._seconds = 0.3
    loop = asyncio.get_running_loop()
    began = loop.time()
    with Folder(str(root)).changing():
        outcomes = await asyncio.gather(*(store.set('k', number) for number in range(20)), return_exceptions=True)
    assert loop.time() - began < 2
    assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes)
    await store.set('k', 1)
    assert await store['k'] == 1


async def test_reading_takes_no_lock(store: FilesystemKVS, root: Path) -> None:
    await store.multiset({'a': 1, 'b': 2})
    with Folder(str(root)).changing():
        assert await store.multiget(['a', 'b']) == [1, 2]
        assert await store['a'] == 1


async def test_several_keys_are_read_as_of_one_moment_while_they_change(store: FilesystemKVS) -> None:
    done = False

    async def write() -> None:
        number = 0
        while not done:
            number += 1
            await store.multiset({'a': number, 'b': number})

    await store.multiset({'a': 0, 'b': 0})
    writing = asyncio.ensure_future(write())
    seen: set[int] = set()
    while len(seen) < 100:
        a, b = await store.multiget(['a', 'b'])
        assert a == b
        seen.add(a)
    done = True
    await writing


def test_files_that_change_while_they_are_read_are_read_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, other = Folder(str(root)), Folder(str(root))

    def change(content: bytes) -> None:
        with other.changing():
            other.change({'a': content, 'b': content})

    contents = [b'newer', b'new']

    def read_and_change(path: str) -> bytes | None:
        found = Folder.read(folder, path)
        if contents:
            change(contents.pop())
        return found

    change(b'old')
    monkeypatch.setattr(folder, 'read', read_and_change)
    assert folder.read_together(['a', 'b']) == [b'newer', b'newer']


# Journals of others


@pytest.mark.parametrize(
    'text',
    [
        '',
        '{',
        '[]',
        '{"../escaped": ".lo_kvs/new-0"}',
        '{"/etc/x": null}',
        '{"k": "/etc/passwd"}',
        '{"k": 1}',
        '{"": null}',
    ],
)
async def test_a_journal_that_is_none_of_ours_is_not_followed(store: FilesystemKVS, root: Path, text: str) -> None:
    await store.set('k', 1)
    plant(root, {f'{OWN}/journal': text, f'{OWN}/new-0': 'x'})
    for call in (lambda: store['k'], lambda: store.set('k', 2), lambda: store.multiget(['k', 'l']), store.keys):
        with pytest.raises(StoreUnavailable, match=r'journal is damaged.*Remove that file'):
            await call()
    assert os.listdir(root.parent) == ['store']
    (root / OWN / 'journal').unlink()
    assert await store['k'] == 1


# Walks


def walk_whole(walks: Walks, prefix: str, limit: int) -> Any:
    cursor = None
    while True:
        names, cursor = walks.page(prefix, cursor, limit)
        yield names
        if cursor is None:
            return


def test_a_walk_lists_once_and_keeps_nothing() -> None:
    listed = []

    def names(prefix: str) -> list[str]:
        listed.append(prefix)
        return [f'{number:05}' for number in reversed(range(12_000))]

    walks = Walks(names, lambda: 0.0)
    pages = list(walk_whole(walks, '', 1000))
    assert [name for page in pages for name in page] == sorted(names(''))
    assert listed == ['', '']
    assert len(walks) == 0


def test_two_walks_in_turns_are_both_right_and_list_once_each() -> None:
    there = {f'{number:05}' for number in range(1000)}
    listed = []

    def names(prefix: str) -> set[str]:
        listed.append(prefix)
        return there

    walks = Walks(names, lambda: 0.0)
    first, second = walk_whole(walks, '', 10), walk_whole(walks, '', 10)
    found: list[list[str]] = [[], []]
    for _ in range(50):
        found[0] += next(first)
    for _ in range(50):
        found[0] += next(first)
        found[1] += next(second)
    for page in second:
        found[1] += page
    list(first)
    assert found == [sorted(there)] * 2
    assert len(listed) <= 3
    assert len(walks) == 0


def test_a_new_walk_sees_what_came_since_another_began() -> None:
    there = ['a', 'b']
    walks = Walks(lambda prefix: there, lambda: 0.0)
    assert walks.page('', None, 1) == (['a'], 'a')
    there.append('c')
    assert walks.page('', None, 10) == (['a', 'b', 'c'], None)
    assert walks.page('', 'a', 10) == (['b', 'c'], None)


def test_walks_that_nobody_goes_on_with_are_forgotten() -> None:
    now = 0.0
    walks = Walks(lambda prefix: [f'{prefix}{number}' for number in range(10)], lambda: now)
    for number in range(100):
        walks.page(str(number), None, 5)
    assert len(walks) <= 8
    now = 100.0
    walks.page('', None, 20)
    assert len(walks) == 0


def test_no_more_names_are_sorted_in_one_go_than_take_milliseconds() -> None:
    pieces = _sorted_pieces(map(str, range(PIECE * 3)))
    assert [len(piece) for piece in pieces] == [PIECE] * 3


async def test_a_cursor_is_good_after_the_store_was_closed(store: FilesystemKVS) -> None:
    await store.multiset(dict.fromkeys('abcdef', 1))
    page = await store.scan(limit=4)
    await store.close()
    rest = await store.scan(cursor=page.cursor, limit=4)
    assert sorted(page.keys + rest.keys) == list('abcdef')
    assert rest.cursor is None


async def test_a_reducers_state_that_is_kept_in_the_process_is_not_read_again(store: FilesystemKVS) -> None:
    runs = []

    async def step(state: Any) -> Any:
        runs.append(state)
        return {'n': (state or {'n': 0})['n'] + 1}, None

    for _ in range(10):
        await worker_of(store).process('Internal,r', 'External,r', step)
    assert len(runs) == 10
