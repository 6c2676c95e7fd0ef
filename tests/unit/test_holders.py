"""Holders of keys: what they wait for, the permits that they give back, and holders inside holders."""

from __future__ import annotations

import asyncio

import pytest

from learning_observer_kvs.errors import ReducerError
from learning_observer_kvs.stores.key_locks import RESERVED, Holder, KeyLocks, current_holder


async def spin() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_permit_is_given_back_once_by_the_holder_and_those_around_it() -> None:
    permits = asyncio.Semaphore(2)
    outer, inner = Holder(), Holder()
    inner.outer = outer
    for holder in (outer, inner):
        await permits.acquire()
        holder.permit = permits
    inner.give_back_permits()
    inner.give_back_permits()
    outer.give_back_permits()
    await permits.acquire()
    await permits.acquire()
    assert permits.locked()


def test_a_wait_that_is_over_is_taken_off_and_the_others_stay() -> None:
    holder, one, two = Holder(), Holder(), Holder()
    holder.add_wait(one)
    holder.add_wait(two)
    holder.add_wait(one)
    holder.remove_wait(one)
    assert list(holder.waits) == [two, one]
    holder.remove_wait(one)
    holder.remove_wait(two)
    assert list(holder.waits) == []


async def test_a_task_that_outlives_an_inner_holder_still_belongs_to_the_outer_one() -> None:
    locks = KeyLocks()

    async def want_a() -> None:
        await spin()
        async with locks.hold(['a']):
            pass

    async with locks.hold(['a']) as outer, asyncio.timeout(12):
        with outer.running():
            async with locks.hold(['b']) as inner:
                with inner.running():
                    task = asyncio.ensure_future(want_a())
            assert current_holder() is outer.holder
            with pytest.raises(ReducerError, match='its own key'):
                await task
    assert current_holder() is None
    assert locks.held == {}


async def test_a_holder_of_another_store_waits_while_all_keys_are_held() -> None:
    locks, other = KeyLocks(), KeyLocks()
    had: list[str] = []

    async def nested() -> None:
        async with other.hold(['k']) as hold:
            with hold.running():
                async with locks.hold(['a']):
                    had.append('a')

    async with locks.hold(None) as everything:
        assert everything.is_active
        task = asyncio.ensure_future(nested())
        await spin()
        assert had == []
    await task
    assert had == ['a']
    assert (locks.held, other.held, locks.barrier) == ({}, {}, None)


async def test_a_wait_that_is_over_or_raised_leaves_nothing_with_the_outer_holder() -> None:
    locks = KeyLocks()
    async with locks.hold(['a']) as outer:
        with outer.running():
            for keys in (['a'], ['b', 'a'], None):
                with pytest.raises(ReducerError):
                    await locks.hold(keys).__aenter__()
                assert list(outer.holder.waits) == []
                assert list(locks.held) == ['a']
            async with locks.hold(['b']) as inner:
                with inner.running():
                    assert list(outer.holder.waits) == [inner.holder]
                assert list(outer.holder.waits) == []
        assert current_holder() is None
        assert not outer.holder.has_ended
    assert outer.holder.has_ended
    assert locks.held == {}


async def test_a_key_that_is_granted_is_held_for_its_next_holder_at_once() -> None:
    locks = KeyLocks()
    first, second = locks.hold(['a', 'b']), locks.hold(['b', 'c'])
    await first.__aenter__()
    task = asyncio.ensure_future(second.__aenter__())
    await spin()
    assert locks.held == {'a': first.holder, 'b': first.holder, 'c': second.holder}
    assert list(second.missing()) == ['b']
    assert locks.last_waiter('b') is second
    await first.__aexit__(None, None, None)
    assert locks.held == {'b': second.holder, 'c': second.holder}
    assert list(second.missing()) == []
    assert locks.last_waiter('b') is None
    await task
    await second.__aexit__(None, None, None)
    assert locks.held == {}
    assert RESERVED.waits == ()


async def test_a_cancelled_wait_for_a_caller_for_all_keys_withdraws_itself_alone() -> None:
    locks = KeyLocks()
    began: list[str] = []

    async def block(name: str, keys: list[str]) -> None:
        async with locks.hold(keys):
            began.append(name)

    async with locks.hold(None):
        tasks = [asyncio.ensure_future(block(name, [name, 'shared'])) for name in 'xyz']
        await spin()
        tasks[1].cancel()
        await spin()
        assert [task.done() for task in tasks] == [False, True, False]
        assert tasks[1].cancelled()
    async with asyncio.timeout(12):
        await asyncio.wait(tasks)
    assert began == ['x', 'z']
    assert locks.held == {}


class Queue:
    """A waiter that takes keys over without a holder of its own, as a queue of events does."""

    def __init__(self, locks: KeyLocks) -> None:
        self.locks = locks
        self.found: list[Holder] = []

    def granted(self, key: str) -> None:
        self.found.append(self.locks.held[key])

    def missing(self) -> list[str]:
        return []


async def test_a_key_that_is_handed_on_is_reserved_and_belongs_to_no_former_holder() -> None:
    locks = KeyLocks()
    queue, later = Queue(locks), Queue(locks)
    async with locks.hold(['a']):
        assert locks.request(['a'], queue) == []
        assert locks.request(['b'], queue) == ['b']
        assert locks.held['b'] is RESERVED
        locks.release('b')
    assert queue.found == [RESERVED]
    locks.release('a')
    async with locks.hold(None):
        assert locks.last_waiter('a') is None
        assert locks.request(['a'], later) == []
        assert locks.last_waiter('a') is later
    assert later.found == [RESERVED]
    locks.release('a')
    assert locks.held == {}


class Missing(Queue):
    """A waiter that still waits for some keys."""

    def __init__(self, locks: KeyLocks, *keys: str) -> None:
        super().__init__(locks)
        self.keys = list(keys)
        locks.request(self.keys, self)

    def missing(self) -> list[str]:
        return self.keys


def test_a_waiter_comes_after_the_holder_and_what_those_ahead_of_it_wait_for() -> None:
    locks = KeyLocks()
    locks.held |= {key: Holder() for key in 'abc'}
    first, second, elsewhere = Missing(locks, 'a', 'b'), Missing(locks, 'a', 'c'), Missing(locks, 'c')
    holder = locks.held['a']
    assert list(locks.waits_before('a', first)) == [holder]
    assert list(locks.waits_before('a', second)) == [holder, (locks, 'b', first)]
    assert list(locks.waits_before('a', None)) == [holder, (locks, 'b', first), (locks, 'c', second)]
    assert list(locks.waits_before('a', elsewhere)) == [holder]  # it has the key already
    assert list(locks.waits_before('free', None)) == []
    locks.withdraw(['a', 'b'], first)
    assert list(locks.waits_before('a', None)) == [holder, (locks, 'c', second)]


def test_a_caller_for_all_keys_comes_after_each_that_is_held() -> None:
    locks = KeyLocks()
    locks.held |= {key: Holder() for key in ('', 'a', 'b')}
    assert list(locks.waits_before('', None)) == [locks.held[''], (locks, 'a', None), (locks, 'b', None)]
