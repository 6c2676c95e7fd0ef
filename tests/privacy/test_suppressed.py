"""Who was erased: recognized in every form of the id, listed, lifted, and known to each store."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest

from learning_observer_kvs import privacy
from learning_observer_kvs.identifiers import Ids
from learning_observer_kvs.privacy.erasure import erase
from learning_observer_kvs.stores import suppression
from learning_observer_kvs.stores.keys import MAX_KEY_BYTES
from learning_observer_kvs.stores.memory import InMemoryKVS
from learning_observer_kvs.stream_analytics.fields import EventField, KeyField, KeyStateType
from learning_observer_kvs.stream_analytics.keys import Fields, make_key

BOB, EVE = ('Internal,m.r,STUDENT:bob', 'Internal,m.r,STUDENT:eve')
BOB, EVE = ('Internal,m.r,STUDENT:bob', 'Internal,m.r,STUDENT:eve')


@pytest.mark.parametrize('long', ['x' * 1001, 'é' * 400, 'a,b' * 500])
async def test_a_long_id_stays_away_and_is_lifted_also_where_keys_have_its_digest(tmp_path: Path, long: str) -> None:
    written = quote(long, safe='')
    fields: Fields = {KeyField.STUDENT: written, EventField('doc_id'): 'd' * MAX_KEY_BYTES}
    keys = [make_key('m.r', fields, KeyStateType.INTERNAL), f'Internal,m.r,STUDENT:{written}']
    async with InMemoryKVS() as store:
        await store.multiset(dict.fromkeys(keys, 1) | {EVE: 2, 'roster:7': {'students': [{'id': written}]}})
        await store.dump(tmp_path / 'dump.json')
        receipt = await erase({'default': store}, Ids([long]), who='a test')
        assert receipt.erased.total() == 3
        await store.load(tmp_path / 'dump.json')
        assert await store.dump() == {EVE: 2, 'roster:7': {'students': []}}
        found = await privacy.suppressed({'default': store}, long)
        await privacy.lift({'default': store}, found)
        assert await privacy.suppressed({'default': store}) == {'default': []}


async def test_an_id_with_spaces_stays_away_as_the_runtime_writes_it(tmp_path: Path) -> None:
    async with InMemoryKVS() as store:
        await store.multiset({'Internal,m.r,STUDENT:ls-Jo+Lee': 1, EVE: 2})
        await store.dump(tmp_path / 'dump.json')
        await erase({'default': store}, Ids(['ls-Jo Lee']), who='a test')
        await store.load(tmp_path / 'dump.json')
        assert await store.dump() == {EVE: 2}


async def test_each_store_learns_of_an_erasure_also_where_a_clock_went_back() -> None:
    one, two = InMemoryKVS(name='one'), InMemoryKVS(name='two')
    await one.set(BOB, 1)
    await erase({'one': one}, Ids(['bob']), who='a test', clock=lambda: 100.0)
    await two.set(BOB, 1)
    await erase({'one': one, 'two': two}, Ids(['bob']), who='a test', clock=lambda: 50.0)
    assert [(await suppression.read(store)).erased('bob') for store in (one, two)] == [100.0, 100.0]


async def test_lifting_takes_the_entries_that_are_chosen_and_no_others() -> None:
    stores = {name: InMemoryKVS(name=name) for name in ('one', 'two')}
    await stores['one'].multiset({BOB: 1, EVE: 1})
    for student in ('bob', 'eve'):
        await erase(stores, Ids([student]), who='a test')
    every = await privacy.suppressed(stores)
    assert {name: len(entries) for name, entries in every.items()} == {'one': 2, 'two': 2}
    [bobs] = (await privacy.suppressed(stores, 'bob'))['one']
    assert (await privacy.suppressed(stores, hashes=[bobs.hash]))['two'] == [bobs]
    assert await privacy.suppressed(stores, 'eve', [bobs.hash]) == {'one': [], 'two': []}
    await privacy.lift(stores, {'one': [bobs]})
    assert {name: len(entries) for name, entries in (await privacy.suppressed(stores)).items()} == {'one': 1, 'two': 2}
