"""Scans: page by page, each listed once."""

from __future__ import annotations

import threading
from typing import Any

from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.stores.filesystem.listing import CHUNK, MAX_IDLE, MAX_LISTINGS, ListingCache, sorted_chunks
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS


def scan_all(listings: ListingCache, prefix: str, limit: int) -> Any:
    cursor = None
    while True:
        names, cursor = listings.page(prefix, cursor, limit)
        yield names
        if cursor is None:
            return


def test_a_scan_lists_once_and_keeps_nothing() -> None:
    listed = []

    def names(prefix: str) -> list[str]:
        listed.append(prefix)
        return [f'{number:05}' for number in reversed(range(12_000))]

    listings = ListingCache(names, lambda: 0.0)
    pages = list(scan_all(listings, '', 1000))
    assert [name for page in pages for name in page] == sorted(names(''))
    assert listed == ['', '']
    assert len(listings) == 0


def test_two_scans_at_once_are_both_right_and_list_once_each() -> None:
    there = {f'{number:05}' for number in range(1000)}
    listed = []

    def names(prefix: str) -> set[str]:
        listed.append(prefix)
        return there

    listings = ListingCache(names, lambda: 0.0)
    first, second = scan_all(listings, '', 10), scan_all(listings, '', 10)
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
    assert len(listings) == 0


def test_a_new_scan_sees_what_was_added_since_another_began() -> None:
    there = ['a', 'b']
    listings = ListingCache(lambda prefix: there, lambda: 0.0)
    assert listings.page('', None, 1) == (['a'], 'a')
    there.append('c')
    assert listings.page('', None, 10) == (['a', 'b', 'c'], None)
    assert listings.page('', 'a', 10) == (['b', 'c'], None)


def test_listings_of_abandoned_scans_are_dropped() -> None:
    now = 0.0
    listings = ListingCache(lambda prefix: [f'{prefix}{number}' for number in range(10)], lambda: now)
    for number in range(100):
        listings.page(str(number), None, 5)
    assert len(listings) == MAX_LISTINGS
    now = MAX_IDLE + 1
    listings.page('', None, 20)
    assert len(listings) == 0


def test_scans_of_several_prefixes_list_once_each_while_they_go_on() -> None:
    now = 1000.0
    listed = []

    def names(prefix: str) -> list[str]:
        listed.append(prefix)
        return [f'{prefix}{number}' for number in range(10)]

    listings = ListingCache(names, lambda: now)
    for prefix in 'abab':
        cursor = f'{prefix}{listed.count(prefix) - 1}' if prefix in listed else None
        listings.page(prefix, cursor, 1)
    assert listed == ['a', 'b']
    now += 2 * MAX_IDLE
    listings.page('a', 'a1', 1)
    listings.page('b', 'b1', 1)
    assert listed == ['a', 'b', 'b']


def test_names_are_sorted_in_chunks() -> None:
    chunks = sorted_chunks(map(str, range(CHUNK * 3)))
    assert [len(chunk) for chunk in chunks] == [CHUNK] * 3


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
