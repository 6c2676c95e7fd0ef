"""Exclusive access to keys: first come, first served, several keys in one step, and never a wait for oneself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextlib import AsyncExitStack
from typing import Any

import pytest

from learning_observer_kvs.errors import Overloaded, ReducerError
from learning_observer_kvs.stores import key_locks
from learning_observer_kvs.stores.key_locks import KeyLocks


class Record:
    """Blocks that hold keys, and the order in which they began and ended."""

    def __init__(self) -> None:
        self.locks = KeyLocks()
        self.said: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}

    def block(
        self, name: str, keys: Collection[str] | None, then: Callable[[], Any] | None = None
    ) -> asyncio.Task[Any]:
        self.gates[name] = asyncio.Event()

        async def run() -> Any:
            async with self.locks.hold(keys) as hold:
                self.said.append(f'{name} begins')
                result = None
                if then is not None:
                    with hold.running():
                        result = await then()
                await self.gates[name].wait()
                self.said.append(f'{name} ends')
                return result

        return asyncio.ensure_future(run())

    async def end(self, *names: str) -> None:
        for name in names:
            self.gates[name].set()
        await settle()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def record() -> Record:
    return Record()


async def test_a_free_key_is_taken_without_a_wait(record: Record) -> None:
    async def at_once() -> None:
        async with record.locks.hold(['a', 'b']):
            assert set(record.locks.held) == {'a', 'b'}

    coroutine = at_once()
    with pytest.raises(StopIteration):
        coroutine.send(None)
    assert not record.locks.held


async def test_one_key_is_held_by_one_caller_in_the_order_of_arrival(record: Record) -> None:
    tasks = [record.block(name, ['a']) for name in 'xyz']
    await settle()
    assert record.said == ['x begins']
    await record.end('z', 'y', 'x')
    assert record.said == ['x begins', 'x ends', 'y begins', 'y ends', 'z begins', 'z ends']
    await asyncio.gather(*tasks)
    assert not record.locks.held


async def test_callers_of_other_keys_are_not_held_up(record: Record) -> None:
    tasks = [record.block('x', ['a']), record.block('y', ['b'])]
    await settle()
    assert record.said == ['x begins', 'y begins']
    await record.end('x', 'y')
    await asyncio.gather(*tasks)


async def test_several_keys_are_taken_in_one_step_so_that_no_two_callers_block_each_other(record: Record) -> None:
    tasks = [record.block('x', ['a', 'b']), record.block('y', ['b', 'a']), record.block('z', ['a'])]
    await settle()
    await record.end('z', 'y', 'x')
    assert record.said == ['x begins', 'x ends', 'y begins', 'y ends', 'z begins', 'z ends']
    await asyncio.gather(*tasks)
    assert not record.locks.held


async def test_a_caller_that_waits_for_one_of_its_keys_holds_the_others(record: Record) -> None:
    tasks = [record.block('x', ['a']), record.block('y', ['a', 'b']), record.block('z', ['b'])]
    await settle()
    assert record.said == ['x begins']
    await record.end('x', 'y', 'z')
    assert record.said == ['x begins', 'x ends', 'y begins', 'y ends', 'z begins', 'z ends']
    await asyncio.gather(*tasks)


async def test_a_cancelled_wait_leaves_no_trace(record: Record) -> None:
    tasks = [record.block('x', ['a']), record.block('y', ['a', 'b']), record.block('z', ['b'])]
    await settle()
    tasks[1].cancel()
    await settle()
    assert record.said == ['x begins', 'z begins']
    await record.end('x', 'z')
    await asyncio.wait(tasks)
    assert not record.locks.held


async def test_a_wait_that_is_cancelled_in_the_moment_it_is_granted_hands_the_key_on(record: Record) -> None:
    tasks = [record.block('x', ['a']), record.block('y', ['a']), record.block('z', ['a'])]
    await settle()
    record.gates['x'].set()
    while 'x ends' not in record.said:  # noqa: ASYNC110  (the moment is between two steps of the loop)
        await asyncio.sleep(0)
    tasks[1].cancel()
    await record.end('z')
    assert record.said == ['x begins', 'x ends', 'z begins', 'z ends']
    await asyncio.wait(tasks)
    assert not record.locks.held


async def test_a_block_that_raises_lets_go_of_its_keys(record: Record) -> None:
    with pytest.raises(LookupError):
        async with record.locks.hold(['a']):
            raise LookupError
    assert not record.locks.held


async def test_more_than_the_bound_are_rejected(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_locks, 'MAX_WAITERS', 2)
    tasks = [record.block(name, ['a']) for name in 'wxy']
    await settle()
    with pytest.raises(Overloaded, match=r"2 callers wait for 'a'.*Retry later"):
        async with record.locks.hold(['b', 'a']):
            pass
    assert set(record.locks.held) == {'a'}
    await record.end('w', 'x', 'y')
    await asyncio.gather(*tasks)


# Every key


async def test_all_keys_are_held_once_none_is_held_and_later_callers_wait(record: Record) -> None:
    tasks = [record.block('x', ['a']), record.block('all', None), record.block('y', ['b']), record.block('z', ['a'])]
    await settle()
    assert record.said == ['x begins']
    await record.end('x')
    assert record.said == ['x begins', 'x ends', 'all begins']
    await record.end('all')
    assert record.said[3:] == ['all ends', 'y begins', 'z begins']
    await record.end('y', 'z')
    await asyncio.gather(*tasks)
    assert not record.locks.held


async def test_two_callers_for_all_keys_come_one_after_the_other(record: Record) -> None:
    tasks = [record.block('one', None), record.block('two', None), record.block('x', ['a'])]
    await settle()
    assert record.said == ['one begins']
    await record.end('x', 'two', 'one')
    assert record.said.index('one ends') < record.said.index('two begins')
    await asyncio.gather(*tasks)
    assert not record.locks.held
    assert record.locks.barrier is None


async def test_a_cancelled_wait_for_all_keys_lets_the_others_go_on(record: Record) -> None:
    tasks = [record.block('x', ['a']), record.block('all', None), record.block('y', ['b'])]
    await settle()
    tasks[1].cancel()
    await settle()
    assert record.said == ['x begins', 'y begins']
    await record.end('x', 'y')
    await asyncio.wait(tasks)
    assert record.locks.barrier is None


async def test_what_a_holder_needs_to_end_is_not_kept_from_it_by_a_caller_for_all_keys(record: Record) -> None:
    begin = asyncio.Event()

    async def nested() -> None:
        await begin.wait()
        async with record.locks.hold(['b']):
            record.said.append('b is written')

    tasks = [record.block('x', ['a'], nested), record.block('all', None), record.block('y', ['b'])]
    await settle()
    begin.set()
    await record.end('x', 'all', 'y')
    assert record.said == ['x begins', 'b is written', 'x ends', 'all begins', 'all ends', 'y begins', 'y ends']
    await asyncio.gather(*tasks)


async def test_the_bound_is_one_of_each_key_also_while_all_keys_are_held(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_locks, 'MAX_WAITERS', 1)
    tasks = [record.block('all', None), record.block('x', ['a']), record.block('y', ['b']), record.block('next', None)]
    await settle()
    with pytest.raises(Overloaded, match="1 callers wait for 'b'"):
        async with record.locks.hold(['c', 'b']):
            pass
    with pytest.raises(Overloaded, match='the whole store'):
        async with record.locks.hold(None):
            pass
    tasks[1].cancel()
    await settle()
    tasks.append(record.block('z', ['a']))
    await record.end('all', 'next', 'y', 'z')
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes if outcome is not None] == [asyncio.CancelledError]
    assert not record.locks.held


# Waits that could not end


@pytest.mark.parametrize('keys', [['a'], ['b', 'a'], None], ids=['its key', 'also its key', 'all keys'])
async def test_a_holder_that_waits_for_itself_raises(record: Record, keys: list[str] | None) -> None:
    async def nested() -> None:
        async with record.locks.hold(keys):
            pass

    task = record.block('x', ['a'], nested)
    with pytest.raises(ReducerError, match='its own key'):
        await task
    assert not record.locks.held
    assert record.locks.barrier is None


async def test_a_task_of_a_holder_counts_as_the_holder(record: Record) -> None:
    async def nested() -> None:
        async def inner() -> None:
            async with record.locks.hold(['a']):
                pass

        await asyncio.create_task(inner())

    with pytest.raises(ReducerError):
        await record.block('x', ['a'], nested)


async def test_a_task_that_outlives_its_holder_may_take_the_key(record: Record) -> None:
    later: list[asyncio.Task[None]] = []

    async def nested() -> None:
        async def inner() -> None:
            await record.gates['x'].wait()
            await settle()
            async with record.locks.hold(['a']):
                record.said.append('later')

        later.append(asyncio.create_task(inner()))

    task = record.block('x', ['a'], nested)
    await settle()
    await record.end('x')
    await task
    await later[0]
    assert record.said == ['x begins', 'x ends', 'later']


@pytest.mark.parametrize('length', [2, 3, 5])
async def test_holders_that_wait_for_one_another_raise_instead_of_waiting_forever(record: Record, length: int) -> None:
    outcomes = []

    def wants(key: str) -> Callable[[], Any]:
        async def nested() -> None:
            await settle()
            try:
                async with record.locks.hold([key]):
                    pass
            except ReducerError as error:
                outcomes.append(error)

        return nested

    tasks = [record.block(str(n), [str(n)], wants(str((n + 1) % length))) for n in range(length)]
    for n in range(length):
        record.gates[str(n)].set()
    async with asyncio.timeout(12):
        await asyncio.gather(*tasks)
    assert len(outcomes) == 1
    assert not record.locks.held


async def test_a_circle_over_two_stores_raises(record: Record) -> None:
    other = KeyLocks()

    async def wants_other() -> None:
        await settle()
        async with other.hold(['a']):
            pass

    async def wants_first() -> None:
        await settle()
        async with record.locks.hold(['a']):
            pass

    async def second() -> None:
        async with other.hold(['a']) as hold:
            with hold.running():
                await wants_first()

    task = record.block('x', ['a'], wants_other)
    record.gates['x'].set()
    async with asyncio.timeout(12):
        outcomes = await asyncio.gather(task, second(), return_exceptions=True)
    assert sorted(map(type, outcomes), key=str) == sorted([type(None), ReducerError], key=str)


async def test_a_circle_through_a_line_of_waiters_raises(record: Record) -> None:
    """x holds a; y holds b and waits for a; x wants b."""

    async def nested() -> None:
        await settle()
        async with record.locks.hold(['b']):
            pass

    task = record.block('x', ['a'], nested)
    other = record.block('y', ['b', 'a'])
    await settle()
    with pytest.raises(ReducerError):
        await task
    await record.end('y')
    await other
    assert not record.locks.held


async def test_waiters_behind_a_holder_make_no_circle(record: Record) -> None:
    """x holds a and waits for b behind y; z waits for b behind x, and for a: it does not keep x from b."""
    stack = AsyncExitStack()
    await stack.enter_async_context(record.locks.hold(['b']))

    async def nested() -> None:
        async with record.locks.hold(['b']):
            record.said.append('x has b')

    task = record.block('x', ['a'], nested)
    await settle()
    other = record.block('z', ['b', 'a'])
    await settle()
    await stack.aclose()
    await record.end('x', 'z')
    assert record.said == ['x begins', 'x has b', 'x ends', 'z begins', 'z ends']
    await asyncio.gather(task, other)


async def test_a_wait_that_ends_is_no_circle(record: Record) -> None:
    async def nested() -> str:
        async with record.locks.hold(['b']):
            return 'had both'

    tasks = [record.block('y', ['b']), record.block('x', ['a'], nested)]
    await record.end('y', 'x')
    assert await tasks[1] == 'had both'
    await tasks[0]


async def test_a_circle_through_a_block_inside_a_block_raises(record: Record) -> None:
    locks, inner_runs, outer_waits = record.locks, asyncio.Event(), asyncio.Event()

    async def hold(key: str, then: Callable[[], Any] | None = None) -> None:
        async with locks.hold([key]) as held:
            if then is not None:
                with held.running():
                    await then()

    async def wait_for_c() -> None:
        inner_runs.set()
        await outer_waits.wait()
        await hold('c')

    async def wait_for_a() -> None:
        await inner_runs.wait()
        outer_waits.set()
        await settle()
        await hold('a')

    async with asyncio.timeout(12):
        blocks = (hold('a', lambda: hold('b', wait_for_c)), hold('c', wait_for_a))
        outcomes = await asyncio.gather(*blocks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [type(None), ReducerError]
    assert not locks.held


async def test_holders_that_have_ended_are_not_kept_by_the_tasks_they_began(record: Record) -> None:
    locks, depth = record.locks, 0

    async def begin(number: int) -> None:
        nonlocal depth
        async with locks.hold(['ab'[number % 2]]) as held:
            with held.running():
                outer, depth = held.holder.outer, 0
                while outer is not None:
                    outer, depth = outer.outer, depth + 1
                following = asyncio.ensure_future(begin(number + 1)) if number < 50 else None
                await asyncio.sleep(0)
        if following is not None:
            await following

    async with asyncio.timeout(12):
        await begin(0)
    assert depth <= 2


async def test_a_task_that_outlives_its_holder_waits_for_a_caller_for_all_keys(record: Record) -> None:
    locks, goes_on = record.locks, asyncio.Event()

    async def outlive() -> None:
        await goes_on.wait()
        async with locks.hold(['b']):
            record.said.append('task')

    async def begin() -> asyncio.Task[None]:
        return asyncio.ensure_future(outlive())

    record.gates['first'] = asyncio.Event()
    first = record.block('first', ['a'], begin)
    await record.end('first')
    task = await first
    other, everything = record.block('other', ['c']), record.block('all', None)
    await settle()
    goes_on.set()
    await settle()
    await record.end('other', 'all')
    await asyncio.gather(other, everything, task)
    assert record.said[-3:] == ['all begins', 'all ends', 'task']
