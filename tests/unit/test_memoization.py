"""``memoize``: equal calls run once, results are kept with their time, errors are not."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from learning_observer_kvs import memoize
from learning_observer_kvs.errors import CorruptValue, InvalidKey, InvalidValue, StoreUnavailable
from learning_observer_kvs.kvs import InMemoryKVS
from learning_observer_kvs.stores.keys import MAX_KEY_BYTES
from tests.support.watched import Watched, watched

__all__ = ['watched']


class Counted:
    """A function that is memoized, which counts its runs and waits for its gate."""

    def __init__(self) -> None:
        self.runs = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.began = asyncio.Event()
        self.error: BaseException | None = None

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.runs += 1
        self.began.set()
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return {'args': args, **kwargs}


def on(store: Any, counted: Counted, **options: Any) -> Callable[..., Any]:
    async def work(*args: Any, **kwargs: Any) -> Any:
        return await counted(*args, **kwargs)

    work.__qualname__ = 'work'  # as a function of this module
    return memoize(store, **options)(work)


async def test_an_equal_call_is_answered_from_the_store_in_one_round_trip(watched: Watched) -> None:
    counted = Counted()
    work = on(watched, counted)
    first = await work('a', b=1)
    reads, commits = watched.reads, len(watched.commits)
    assert await work('a', b=1) == first == {'args': ['a'], 'b': 1}
    assert (counted.runs, watched.reads, len(watched.commits)) == (1, reads + 1, commits)
    await work('a', b=2)
    assert counted.runs == 2


async def test_200_equal_calls_at_once_run_once_and_each_gets_a_copy_of_its_own() -> None:
    counted = Counted()
    work = on(InMemoryKVS(), counted)
    results = await asyncio.gather(*(work(1) for _ in range(200)))
    assert counted.runs == 1
    results[0]['args'].append('changed')
    assert all(result == {'args': [1]} for result in results[1:])
    assert await work(1) == {'args': [1]}


async def test_null_is_a_result_like_any_other() -> None:
    runs = []

    @memoize(InMemoryKVS(), key=lambda: 'nothing')
    async def nothing() -> None:
        runs.append(1)

    await nothing()
    await nothing()
    assert runs == [1]


@pytest.mark.parametrize('skew', [0, 5], ids=['one clock', 'a clock that is ahead'])
async def test_a_result_counts_until_its_expiry_whatever_the_store_and_is_replaced_then(skew: int) -> None:
    counted, store, now = Counted(), InMemoryKVS(), [1000.0 + skew]
    work = on(store, counted, expiry=10, now=lambda: now[0])
    await work()
    now[0] = 1009.9
    await work()
    assert counted.runs == 1
    now[0] = 1010.0 + skew
    await work()
    assert counted.runs == 2
    [key] = await store.keys()
    entry: Any = await store[key]
    assert entry == {'made': now[0], 'value': {'args': []}}


@pytest.mark.parametrize('expiry', [0, -1, float('nan')])
def test_an_expiry_that_nothing_meets_is_an_error_at_once(expiry: float) -> None:
    with pytest.raises(ValueError, match='above 0 seconds'):
        memoize(InMemoryKVS(), expiry)


async def test_errors_are_given_to_all_that_wait_and_are_not_kept() -> None:
    counted, store = Counted(), InMemoryKVS()
    work = on(store, counted)
    counted.error = LookupError('no')
    outcomes = await asyncio.gather(*(work() for _ in range(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [LookupError] * 3
    assert await store.keys() == []
    counted.error = None
    assert await work() == {'args': []}
    assert counted.runs == 2


async def test_a_caller_that_is_cancelled_does_not_cancel_the_others_whichever_it_is() -> None:
    counted = Counted()
    counted.gate.clear()
    work = on(InMemoryKVS(), counted)
    tasks = [asyncio.create_task(work()) for _ in range(3)]
    await counted.began.wait()
    tasks[0].cancel()
    await asyncio.wait([tasks[0]])
    counted.gate.set()
    assert [await task for task in tasks[1:]] == [{'args': []}] * 2
    assert tasks[0].cancelled()
    assert counted.runs == 1


async def test_when_the_last_caller_is_cancelled_the_work_ends_and_the_next_call_begins_anew() -> None:
    counted, ended = Counted(), asyncio.Event()

    @memoize(InMemoryKVS(), key=lambda: 'work')
    async def work() -> Any:
        try:
            return await counted()
        finally:
            ended.set()

    counted.gate.clear()
    task = asyncio.create_task(work())
    await counted.began.wait()
    task.cancel()
    again = asyncio.create_task(work())
    await ended.wait()
    counted.gate.set()
    assert await again == {'args': []}
    assert counted.runs == 2


async def test_the_store_may_be_looked_for_with_each_call_and_results_do_not_mix() -> None:
    counted, stores = Counted(), [InMemoryKVS(), InMemoryKVS()]
    work = on(lambda: stores[0], counted)
    await work()
    stores.reverse()
    await work()
    assert counted.runs == 2


async def test_arguments_that_are_not_json_are_an_error_that_names_the_way_out() -> None:
    with pytest.raises(InvalidKey, match='key='):
        await on(InMemoryKVS(), Counted())(object())


@pytest.mark.parametrize(
    'argument',
    [
        {1: 'a'},
        {None: 1},
        {True: 1},
        {0.5: 1},
        [{'a': ({1: 'a'},)}],
        '\ud83d\ude00',
        {'a': '\ud83d\ude00'},
        {'\ud83d\ude00': 1},
    ],
)
async def test_no_two_calls_have_one_key_so_an_argument_that_json_writes_as_another_one_is_an_error(
    argument: Any,
) -> None:
    counted = Counted()
    work = on(InMemoryKVS(), counted)
    for args, kwargs in (([argument], {}), ([], {'b': argument})):
        with pytest.raises(InvalidKey, match=r'make no key: .* Give memoize a key='):
            await work(*args, **kwargs)
    assert counted.runs == 0
    assert await work('\ud83d', '\U0001f600', {'1': None}) == {'args': ['\ud83d', '\U0001f600', {'1': None}]}


async def plain(text: str) -> str:
    return text


class Client:
    async def ask(self, text: str) -> str:
        return text

    @classmethod
    async def make(cls, text: str) -> str:
        return text

    @staticmethod
    async def join(text: str) -> str:
        return text

    async def __call__(self, text: str) -> str:
        return text


def closure(number: int) -> Callable[[str], Awaitable[Any]]:
    async def inner(text: str) -> int:
        return number

    return inner


def default(number: int) -> Callable[[str], Awaitable[Any]]:
    async def inner(text: str, number: int = number) -> int:
        return number

    return inner


@pytest.mark.parametrize(
    'function',
    [
        closure(1),
        default(1),
        lambda text: plain(text),
        Client().ask,
        Client.make,
        Client(),
        functools.partial(plain, 'a'),
    ],
    ids=['closure', 'default', 'lambda', 'method', 'class method', 'object', 'partial'],
)
async def test_a_function_whose_name_others_may_have_needs_a_key(function: Callable[[str], Awaitable[Any]]) -> None:
    with pytest.raises(ValueError, match=r'may be called .* Give memoize a key='):
        memoize(InMemoryKVS())(function)
    memoize(InMemoryKVS(), key=lambda text: text)(function)


async def test_a_function_of_a_module_or_class_needs_no_key() -> None:
    store = InMemoryKVS()
    assert [await memoize(store)(function)('x') for function in (plain, Client.join)] == ['x', 'x']
    assert {json.loads(key)['func'] for key in await store.keys()} == {
        f'{__name__}.{n}' for n in ('plain', 'Client.join')
    }


async def test_a_key_of_the_caller_stands_for_the_call() -> None:
    counted, store = Counted(), InMemoryKVS()
    work = on(store, counted, key=lambda text, client: f'grammar,{text}')
    with pytest.raises(InvalidValue):
        await work('a', client=object())  # the result has it
    await on(store, counted, key=lambda text: f'grammar,{text}')('b')
    assert await store.keys() == ['grammar,b']


async def test_calls_that_would_make_too_long_a_key_have_a_digest_of_their_arguments() -> None:
    counted, store = Counted(), InMemoryKVS()
    work = on(store, counted)
    for letter in 'xyx':
        assert await work(letter * MAX_KEY_BYTES) == {'args': [letter * MAX_KEY_BYTES]}
    assert counted.runs == 2
    assert {'digest', 'func'} == json.loads((await store.keys())[0]).keys()


async def test_what_others_keep_under_the_key_is_neither_returned_nor_replaced() -> None:
    counted, store = Counted(), InMemoryKVS()
    await store.set('k', 'data')
    with pytest.raises(CorruptValue, match='memoize did not write'):
        await on(store, counted, key=lambda: 'k')()
    assert await store['k'] == 'data'
    assert counted.runs == 0


async def test_a_result_that_cannot_be_stored_is_returned_and_that_is_logged(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    counted = Counted()

    def fail() -> None:
        raise StoreUnavailable('away')

    watched.before = fail
    with caplog.at_level(logging.WARNING):
        assert await on(watched, counted)() == {'args': []}
    assert 'is not kept: away' in caplog.text
