"""Keys as file names: hostile ones stay apart, and in the directory."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning_observer_kvs.stores.filesystem.directory import Directory
from learning_observer_kvs.stores.filesystem.names import DIGESTS, META_DIR, FileNames, is_digest
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from learning_observer_kvs.testing.keys import KEYS
from tests.support.generated import CHARACTERS

HOSTILE = [
    *KEYS,
    *('/'.join(parts) for parts in [('a', '..', 'b'), ('..', 'a'), ('a', '', ''), ('', '', 'a'), ('_', '_a'), ('_',)]),
    *(
        f'/{META_DIR}/journal',
        f'{META_DIR}/lock',
        META_DIR,
        f'{META_DIR}/keys/' + 'a' * 64,
        '.DS_Store',
        'a.',
        'a~',
        '#a#',
    ),
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
@pytest.mark.parametrize('case_sensitive', [True, False])
def test_two_hostile_keys_never_have_one_path(subdirs: bool, case_sensitive: bool) -> None:
    names = FileNames(subdirs, case_sensitive)
    paths = {names.path_of(key): key for key in dict.fromkeys(HOSTILE)}
    assert len(paths) == len(set(HOSTILE))
    for form in ('NFC', 'NFD'):
        assert len({unicodedata.normalize(form, path) for path in paths}) == len(paths)
    assert case_sensitive or len({path.casefold() for path in paths}) == len(paths)
    for path in paths:  # a file is never where another key needs a directory
        assert not any(f'{path[:end]}' in paths for end in range(len(path)) if path[end] == '/')


any_key = st.text(CHARACTERS, min_size=1)
likely_key = st.text('aA_-/.0123456789é\u0301,', min_size=1, max_size=12)


@pytest.mark.parametrize('subdirs', [False, True])
@pytest.mark.parametrize('case_sensitive', [True, False])
@given(key=any_key | likely_key)
def test_the_key_of_a_readable_name_is_found(subdirs: bool, case_sensitive: bool, key: str) -> None:
    names = FileNames(subdirs, case_sensitive)
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
def test_the_path_prefixes_of_a_prefix_cover_all_its_keys(subdirs: bool, key: str, length: int) -> None:
    names = FileNames(subdirs)
    path = names.path_of(key)
    assert is_digest(path) or path.startswith(names.path_prefixes(key[:length]))


@pytest.mark.parametrize('subdirs', [False, True])
async def test_hostile_keys_stay_in_the_directory_and_apart(tmp_path: Path, subdirs: bool) -> None:
    entries = {key: number for number, key in enumerate(dict.fromkeys(HOSTILE))}
    async with FilesystemKVS(tmp_path / 'outer' / 'store', subdirs) as store:
        for key, number in entries.items():
            await store.set(key, number)
        assert await store.dump() == entries
        assert os.listdir(tmp_path) == ['outer']
        assert os.listdir(tmp_path / 'outer') == ['store']
        await store.clear()
        assert os.listdir(tmp_path / 'outer' / 'store') == [META_DIR]
        assert os.listdir(tmp_path / 'outer' / 'store' / DIGESTS) == []


async def test_keys_that_differ_in_case_stay_apart_where_names_do_not(
    store: FilesystemKVS, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Directory, 'is_case_sensitive', lambda self: False)
    entries = {'a': 1, 'A': 2, 'é': 3, 'É': 4, 'Internal,r,STUDENT:Bob': 5, 'Internal,r,STUDENT:bob': 6}
    await store.multiset(entries)
    assert await store.dump() == entries
    names = [name.lower() for name in (*os.listdir(store.path), *os.listdir(f'{store.path}/{DIGESTS}'))]
    assert len(set(names)) == len(names)


async def test_whether_names_differ_in_case_is_asked_until_it_is_known(
    store: FilesystemKVS, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool | None] = []

    def is_case_sensitive(directory: Directory) -> bool | None:
        asked.append(False if os.path.exists(directory.absolute(META_DIR)) else None)
        return asked[-1]

    monkeypatch.setattr(Directory, 'is_case_sensitive', is_case_sensitive)
    assert await store['A'] is None
    assert set(asked) == {None}
    entries = {'A': 1, 'a': 2}
    for key, value in entries.items():
        await store.set(key, value)
    assert await store.dump() == entries
    assert asked.count(False) == 1


def test_case_sensitivity_is_found_on_the_disk(tmp_path: Path) -> None:
    directory = Directory(str(tmp_path))
    assert directory.is_case_sensitive() is None
    (tmp_path / META_DIR).mkdir()
    assert directory.is_case_sensitive() is True
    (tmp_path / META_DIR.upper()).mkdir()  # of another program
    assert directory.is_case_sensitive() is True
