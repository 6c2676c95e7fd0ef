"""A single value where several are asked for is an error, as a text would be taken for its characters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs import privacy, queries, redis_connection
from learning_observer_kvs.arguments import several
from learning_observer_kvs.errors import InvalidKey
from learning_observer_kvs.queries.kept import kept
from learning_observer_kvs.stores.memory import InMemoryKVS

IDS = privacy.Ids(['bob'])


@pytest.mark.parametrize('values', [['a'], ('a',), {'a': 1}, {'a'}, iter(['a']), (letter for letter in 'a')])
def test_whatever_has_several_values_has_them_one_by_one(values: Iterable[str]) -> None:
    assert several(values, 'students') == ['a']


@pytest.mark.parametrize('value', ['bob', '', b'bob', bytearray(b'b'), Path('logs'), 7, None, queries.students])
def test_a_single_value_is_an_error_that_names_the_argument(value: Any) -> None:
    with pytest.raises(ValueError, match=r'students is a single value, of type \w+; it must be a list'):
        several(value, 'students')


def test_ids_are_several_as_the_characters_of_one_would_be_those_of_others() -> None:
    with pytest.raises(ValueError, match='ids is a single value, of type str'):
        privacy.Ids('ls-1')
    with pytest.raises(ValueError, match='students is a single value, of type str'):
        kept(students='bob')


async def exhausted(found: Any) -> None:
    async for _ in found:
        pass


STORES = {'default': InMemoryKVS()}
CALLS: dict[str, Callable[[Any], Awaitable[object]]] = {
    'find': lambda value: exhausted(privacy.find(STORES, IDS, folders=value)),
    'plan': lambda value: privacy.plan(STORES, IDS, folders=value),
    'erase': lambda value: privacy.erase(STORES, IDS, who='a', folders=value),
    'erase, leave': lambda value: privacy.erase(STORES, IDS, who='a', leave=value),
    'erase, not reached': lambda value: privacy.erase(STORES, IDS, who='a', not_reached=value),
    'export': lambda value: privacy.export(STORES, IDS, folders=value),
    'export, not reached': lambda value: privacy.export(STORES, IDS, not_reached=value),
    'mget': redis_connection.mget,
}


@pytest.mark.parametrize('call', CALLS.values(), ids=CALLS.keys())
async def test_calls_that_take_several_do_nothing_with_one(call: Callable[[Any], Awaitable[object]]) -> None:
    with pytest.raises(ValueError, match='is a single value, of type str'):
        await call('./logs')


async def test_a_store_asked_for_several_keys_is_not_asked_for_the_characters_of_one() -> None:
    for call in (InMemoryKVS().multiget, InMemoryKVS().describe_all):
        with pytest.raises(InvalidKey, match=r"one text is given: 'bob'\. Give a list"):
            await call('bob')


@pytest.mark.parametrize('value', [['bob'], {'user_id': 'bob'}, ('bob',), {'bob'}, b'bob'])
async def test_a_student_or_document_that_no_key_can_have_is_an_error_and_not_found_nowhere(value: Any) -> None:
    store = InMemoryKVS()
    for find in (queries.documents, queries.students_of, queries.states_of):
        with pytest.raises(ValueError, match='is given as in keys, by text or a number'):
            await exhausted(find(store, value))
