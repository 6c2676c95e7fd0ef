"""Records of this package about a store, and the erased students in one of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from learning_observer_kvs.errors import CorruptValue
from learning_observer_kvs.stores import suppression
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from learning_observer_kvs.stores.memory import InMemoryKVS
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.store import EphemeralRedisKVS, PersistentRedisKVS
from learning_observer_kvs.stores.sqlite.store import SQLiteKVS
from learning_observer_kvs.stores.suppression import Suppression
from tests.support.redis_nodes import RedisNodes, settings_of


class Foreign(InMemoryKVS):
    """A store type of another package, which overrides nothing."""

    TYPE: ClassVar[str] = 'foreign'
    _read_hidden = Store._read_hidden
    _commit_hidden = Store._commit_hidden
    _clear = Store._clear


KINDS = ('stub', 'filesystem', 'sqlite', 'redis', 'redis_ephemeral', 'cluster', 'foreign')


def made_of(kind: str, folder: Path) -> Store:
    match kind:
        case 'stub':
            return InMemoryKVS()
        case 'foreign':
            return Foreign()
        case 'filesystem':
            return FilesystemKVS(folder / 'files')
    return SQLiteKVS(folder / 'state.sqlite3')


def adding(text: str, time: float) -> Callable[[Suppression], Suppression]:
    return lambda found: found.with_erased([text], time)


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path, redis: RedisConnection) -> AsyncIterator[Store]:
    kind = request.param
    made: Store
    if kind == 'cluster':
        nodes: RedisNodes = request.getfixturevalue('redis_nodes')
        connection = RedisConnection(settings_of(nodes))
        made = PersistentRedisKVS(connection=connection, prefix='h:')
        await made.clear(force=True)
        await made.commit_hidden('suppressed', None, await made.read_hidden('suppressed'))
    elif kind.startswith('redis'):
        connection = redis
        made = (
            PersistentRedisKVS(connection=connection)
            if kind == 'redis'
            else EphemeralRedisKVS(600, prefix='p:', connection=connection)
        )
    else:
        made = made_of(kind, tmp_path)
    async with made:
        yield made
    if kind == 'cluster':
        await connection.close()


async def test_a_record_is_written_only_if_it_is_as_expected(store: Store) -> None:
    assert await store.read_hidden('suppressed') is None
    assert not await store.commit_hidden('suppressed', b'{}', b'{"a":1}')
    assert await store.commit_hidden('suppressed', b'{"a":1}', None)
    assert not await store.commit_hidden('suppressed', b'{}', None)
    assert await store.read_hidden('suppressed') == b'{"a":1}'
    assert await store.commit_hidden('suppressed', None, b'{"a":1}')
    assert await store.read_hidden('suppressed') is None


async def test_a_record_is_in_no_listing_and_clear_spares_it(store: Store) -> None:
    await store.set('k', 1)
    await store.commit_hidden('suppressed', b'{"a":1}', None)
    if not isinstance(store, Foreign):
        assert await store.keys() == ['k']
        assert await store.dump() == {'k': 1}
        assert await store.unrecognized() == []
    await store.clear()
    assert await store['k'] is None
    assert await store.read_hidden('suppressed') == b'{"a":1}'


async def test_of_many_that_add_erased_students_at_once_none_is_lost(store: Store) -> None:
    ids = [f'ls-{number}' for number in range(12)]
    await asyncio.gather(*(suppression.change(store, adding(text, 5.0)) for text in ids))
    found = await suppression.read(store)
    assert len(list(found)) == 12
    assert all(found.erased(text) == 5.0 for text in ids)
    assert found.erased('ls-12') is None


async def test_the_record_of_erased_students_has_no_id_in_it(store: Store) -> None:
    await suppression.change(store, lambda found: found.with_erased(['ls-17', 'bob@school.example'], 5.0))
    text = await store.read_hidden('suppressed')
    assert text is not None
    assert b'ls-17' not in text
    assert b'bob' not in text


async def test_a_damaged_record_is_an_error_and_not_an_empty_one(store: Store) -> None:
    await store.commit_hidden('suppressed', b'["x"]', None)
    with pytest.raises(CorruptValue, match='erased students is damaged'):
        await suppression.read(store)


# The entries


def erased(ids: dict[str, float]) -> Suppression:
    found = Suppression()
    for text, time in ids.items():
        found = found.with_erased([text], time)
    return found


@pytest.mark.parametrize('form', ['ls-José', 'ls-Jos%C3%A9', 'ls-Jos%c3%a9', r'ls-Jos\u00e9', 'ls-Jose\u0301'])
def test_every_form_of_an_id_counts(form: str) -> None:
    assert erased({'ls-José': 5.0}).erased(form) == 5.0
    assert erased({form: 5.0}).erased('ls-José') == 5.0


@pytest.mark.parametrize(('time', 'is_out'), [(4.9, True), (5.0, True), (5.1, False), (None, True)])
def test_what_is_older_than_the_erasure_or_of_unknown_age_is_kept_out(time: float | None, is_out: bool) -> None:
    found = erased({'bob': 5.0})
    assert found.keeps_out(['x', 'bob'], time) is is_out
    assert not found.keeps_out(['eve'], time)
    assert not Suppression().keeps_out(['bob'], time)


def test_a_second_erasure_counts_with_the_later_time_in_whatever_order() -> None:
    one = erased({'bob': 5.0})
    later: Any = one.with_erased(['bob'], 9.0)
    assert [found.erased('bob') for found in (later, one.merged(later), later.merged(one))] == [9.0] * 3
    assert later.with_erased(['bob'], 7.0).erased('bob') == 9.0


def test_entries_of_two_stores_with_their_own_keys_are_kept_side_by_side() -> None:
    both = erased({'bob': 5.0}).merged(erased({'bob': 3.0, 'eve': 4.0}))
    assert both.erased('bob') == 5.0
    assert both.erased('eve') == 4.0
    assert len(both.hashes_of('bob')) == 2
    assert not both.without([*both.hashes_of('bob'), *both.hashes_of('eve')])
