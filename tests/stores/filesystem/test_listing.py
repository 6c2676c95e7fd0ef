"""Scans: page by page, from one listing of the folder, as long as that is what listing it anew would give."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.stores.filesystem import files, listing
from learning_observer_kvs.stores.filesystem.listing import (
    CHUNK,
    MAX_IDLE,
    MAX_KEPT,
    MAX_SCANS,
    Listing,
    ListingCache,
    sorted_chunks,
)
from learning_observer_kvs.stores.filesystem.names import FileNames, wrap
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS


class Folder:
    """A folder whose listings are counted. It never says that a listing is current, unless ``rests`` is set."""

    def __init__(self, *names: str) -> None:
        self.names = set(names)
        self.now, self.listed, self.rests = 1000.0, 0, False
        self.cache = ListingCache(self._list, lambda listing: self.rests, lambda: self.now)

    def _list(self) -> Listing:
        self.listed += 1
        return Listing(sorted_chunks(self.names), self.now, b'', {}, True)

    def page(self, cursor: str | None, limit: int, *beginnings: str) -> tuple[list[str], str | None]:
        self.now += 1
        return self.cache.page(beginnings or ('',), cursor, limit, self.now - 0.5)

    def scan(self, limit: int, *beginnings: str) -> Iterator[list[str]]:
        cursor = None
        while True:
            names, cursor = self.page(cursor, limit, *beginnings)
            yield names
            if cursor is None:
                return


def test_a_scan_lists_once() -> None:
    folder = Folder(*(f'{number:05}' for number in range(12_000)))
    assert [name for page in folder.scan(1000) for name in page] == sorted(folder.names)
    assert folder.listed == 1


def test_scans_have_what_begins_with_one_of_their_beginnings() -> None:
    names = [f'{letter}{number:05}' for letter in 'abcd' for number in range(3 * CHUNK)]
    folder = Folder(*names, 'b', 'b\U0010ffff', 'c\udcff', 'b\U0010ffff\U0010ffff')
    for beginnings in (('b', 'd01'), ('c',), ('e',), ('b00001',), ('b\U0010ffff',), ('',)):
        found = [name for page in folder.scan(999, *beginnings) for name in page]
        assert found == sorted(name for name in folder.names if name.startswith(beginnings))


def test_two_scans_at_once_are_both_right_and_list_once_each() -> None:
    folder = Folder(*(f'{number:05}' for number in range(1000)))
    first, second = folder.scan(10), folder.scan(9)
    found: list[list[str]] = [[], []]
    for _ in range(50):
        found[0] += next(first)
    for _ in range(50):
        found[0] += next(first)
        found[1] += next(second)
    for page in second:
        found[1] += page
    list(first)
    assert found == [sorted(folder.names)] * 2
    assert folder.listed <= 3


def test_a_new_scan_sees_what_was_added_since_another_began() -> None:
    folder = Folder('a', 'b')
    assert folder.page(None, 1) == (['a'], 'a')
    folder.names.add('c')
    assert folder.page(None, 10) == (['a', 'b', 'c'], None)
    assert folder.page('a', 10) == (['b', 'c'], None)


def test_new_scans_of_a_folder_that_rests_do_not_list() -> None:
    folder = Folder('a', 'b', 'c')
    folder.rests = True
    for _ in range(3):
        assert folder.page(None, 10) == (['a', 'b', 'c'], None)
        assert folder.page(None, 10, 'b') == (['b'], None)
        assert folder.page('b', 10) == (['c'], None)  # a cursor that another process returned
    assert folder.listed == 1


def test_scans_that_were_asked_for_before_the_listing_was_begun_share_it() -> None:
    folder = Folder('a', 'b')
    for asked in (folder.now - 1, folder.now - 2, folder.now):
        assert folder.cache.page(('',), None, 10, asked) == (['a', 'b'], None)
    assert folder.listed == 1
    folder.cache.page(('',), None, 10, folder.now + 1)
    assert folder.listed == 2


def test_abandoned_scans_are_forgotten_and_go_on_all_the_same() -> None:
    folder = Folder(*(f'{number:05}' for number in range(MAX_SCANS + 10)))
    cursors = [folder.page(f'{number:05}', 1)[1] for number in range(MAX_SCANS + 2)]
    folder.listed = 0
    assert folder.page(cursors[-1], 1)[0] == [f'{MAX_SCANS + 3:05}']
    assert folder.listed == 0
    assert folder.page(cursors[0], 1)[0] == ['00002']
    assert folder.listed == 1
    folder.now += MAX_IDLE + 1
    assert folder.page(cursors[50], 1)[0] == ['00052']
    assert folder.listed == 2


def test_a_long_listing_is_kept_only_while_scans_go_on() -> None:
    folder = Folder(*map(str, range(MAX_KEPT + 1)))
    _, cursor = folder.page(None, 10)
    assert len(folder.cache) == MAX_KEPT + 1
    folder.page(cursor, MAX_KEPT)
    assert len(folder.cache) == 0


def test_names_are_sorted_in_chunks() -> None:
    chunks = sorted_chunks(map(str, range(CHUNK * 3)))
    assert [len(chunk) for chunk in chunks] == [CHUNK] * 3


@pytest.fixture
def listings(monkeypatch: pytest.MonkeyPatch) -> list[Listing]:
    """The listings that stores make. Every folder counts as one that has been at rest."""
    made = []

    def counted(*arguments: Any) -> Listing:
        made.append(list_files(*arguments))
        return made[-1]

    list_files = listing.list_files
    monkeypatch.setattr(files, 'list_files', counted)
    monkeypatch.setattr(listing, 'SETTLED_SECONDS', -10.0)
    return made


async def test_what_pages_ask_of_a_store_at_rest_lists_it_once(nested: FilesystemKVS, listings: list[Listing]) -> None:
    there = ['a/b', 'a/c', 'd', 'x' * 300]
    await nested.multiset(dict.fromkeys(there, 1))
    for _ in range(3):
        assert sorted(await nested.keys()) == there
        assert sorted(await nested.keys('a/')) == ['a/b', 'a/c']
        assert (await nested.scan('x')).keys == ['x' * 300]
        assert await nested.multiget(there) == [1] * 4
    assert len(listings) == 1


async def test_scans_at_once_of_a_store_that_changes_list_it_twice_at_most(
    store: FilesystemKVS, listings: list[Listing]
) -> None:
    for number in range(5):
        listings.clear()
        await store.set(f'{number}', number)
        found = await asyncio.gather(*(store.keys() for _ in range(10)))
        assert all(len(keys) == number + 1 for keys in found)
        assert len(listings) <= 2


def long_file(key: str) -> tuple[str, str]:
    """Return where a long key is, and what its file has."""
    return FileNames(subdirs=True).path_of(key), wrap(key, b'1').decode()


def by_another_process(root: Path) -> None:
    async def write() -> None:
        async with FilesystemKVS(root, subdirs=True) as other:
            await other.set('new', 1)

    asyncio.run(write())


def by_another_program(root: Path) -> None:
    (root / 'new').write_text('1')


def by_another_program_in_a_subfolder(root: Path) -> None:
    (root / '_a' / 'new').write_text('1')


def by_another_program_in_a_new_folder(root: Path) -> None:
    (root / '_b').mkdir()
    (root / '_b' / 'new').write_text('1')


def by_another_program_with_a_long_key(root: Path) -> None:
    path, text = long_file('new' * 100)
    (root / path).write_text(text)


def by_a_program_that_sets_times(root: Path) -> None:
    before = root.stat()
    (root / 'new').write_text('1')
    os.utime(root, ns=(before.st_atime_ns, before.st_mtime_ns))


def by_a_program_that_removes(root: Path) -> None:
    (root / '_a' / 'b').unlink()


CHANGES = [function for name, function in sorted(vars().items()) if name.startswith('by_a')]


@pytest.mark.parametrize('change', CHANGES, ids=lambda change: change.__name__)
async def test_the_next_scan_of_a_store_at_rest_sees_what_was_changed(
    nested: FilesystemKVS, root: Path, listings: list[Listing], change: Callable[[Path], None]
) -> None:
    await nested.multiset({'a/b': 1, 'x' * 300: 1})
    before = set(await nested.keys())
    await asyncio.to_thread(let_the_clock_of_files_tick, root)
    assert set(await nested.keys()) == before
    await asyncio.to_thread(change, root)
    [[key]] = [set(await nested.keys()) ^ before]
    assert key == 'a/b' or 'new' in key
    assert len(listings) == 2


def let_the_clock_of_files_tick(root: Path) -> None:
    """Wait until what is changed now gets another time than what was changed before."""
    trial, began = root.with_name('trial'), root.stat().st_ctime_ns
    while True:
        trial.touch()
        if trial.stat().st_ctime_ns > began:
            return


async def test_a_listing_of_a_folder_that_was_just_changed_is_not_trusted(store: FilesystemKVS, root: Path) -> None:
    await store.set('a', 1)
    fresh = listing.list_files(store.directory, False, time.monotonic)
    assert not fresh.is_settled
    assert not listing.is_current(fresh, store.directory)
    for number in range(100):
        await asyncio.to_thread((root / f'b{number}').write_text, '1')
        assert len(await store.keys()) == number + 2


async def test_a_counted_change_is_seen_on_a_disk_that_notes_no_times(store: FilesystemKVS) -> None:
    await store.set('a', 1)
    found = listing.list_files(store.directory, False, time.monotonic)
    on_such_a_disk = found._replace(folders={}, is_settled=True)
    assert listing.is_current(on_such_a_disk, store.directory)
    await store.set('b', 1)
    assert not listing.is_current(on_such_a_disk, store.directory)


async def test_reads_and_listings_run_in_threads_of_the_store_that_end_with_it(store: FilesystemKVS) -> None:
    before = set(threading.enumerate())

    def names() -> set[str]:
        new = {thread.name.rsplit('_', 1)[0] for thread in set(threading.enumerate()) - before}
        return {name for name in new if name.startswith('kvs-')}

    await store.set('k', 1)
    assert (await store['k'], await store.keys()) == (1, ['k'])
    assert names() == {'kvs-writer', 'kvs-files-reader', 'kvs-files-scanner'}
    await store.close()
    assert names() == set()


async def test_a_cursor_is_valid_after_the_store_was_closed(store: FilesystemKVS) -> None:
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
