"""What belongs to one event loop: several loops at once, closed loops."""

from __future__ import annotations

import asyncio
import threading

import pytest

from learning_observer_kvs.per_loop import PerLoop, call_in


async def here(objects: PerLoop[object]) -> object:
    return objects.here()


async def drop(objects: PerLoop[object]) -> None:
    assert objects.pop() is None


async def test_one_loop_has_one_object_until_it_is_popped() -> None:
    objects: PerLoop[object] = PerLoop(object)
    assert objects.peek() is None
    assert objects.pop() is None
    made = objects.here()
    assert objects.here() is objects.peek() is made
    assert list(objects) == [made]
    assert objects.pop() is made
    assert list(objects) == []
    assert objects.here() is not made


def test_objects_of_closed_loops_are_dropped_when_another_loop_makes_or_drops_its_own() -> None:
    objects: PerLoop[object] = PerLoop(object)
    first = asyncio.run(here(objects))
    assert list(objects) == [first]
    second = asyncio.run(here(objects))
    assert list(objects) == [second]
    assert first is not second
    asyncio.run(drop(objects))
    assert list(objects) == []


def test_without_a_running_loop_there_is_no_object() -> None:
    objects: PerLoop[object] = PerLoop(object)
    for call in (objects.here, objects.peek, objects.pop):
        with pytest.raises(RuntimeError, match='no running event loop'):
            call()


def test_loops_that_run_at_once_have_an_object_each() -> None:
    """Another loop, in another thread, makes its own while the object of the first is made."""
    others: list[object] = []

    def make() -> object:
        if not others:
            others.append(None)
            other = threading.Thread(target=lambda: others.append(asyncio.run(here(objects))))
            other.start()
            other.join(20)
        return object()

    objects: PerLoop[object] = PerLoop(make)

    async def ask_twice() -> object:
        mine = objects.here()
        assert objects.here() is mine
        return mine

    mine = asyncio.run(ask_twice())
    assert others[1] is not None
    assert others[1] is not mine


def test_an_error_while_the_object_is_made_leaves_nothing() -> None:
    outcomes = [KeyError('k'), None]

    def make() -> object:
        if (error := outcomes.pop(0)) is not None:
            raise error
        return object()

    async def ask() -> None:
        with pytest.raises(KeyError) as raised:
            objects.here()
        assert raised.value.__context__ is None
        assert list(objects) == []
        objects.here()

    objects: PerLoop[object] = PerLoop(make)
    asyncio.run(ask())


def test_an_object_is_dropped_from_wherever_its_loop_is_and_no_other_is() -> None:
    objects: PerLoop[object] = PerLoop(object)

    async def here() -> object:
        return objects.here()

    with asyncio.Runner() as first, asyncio.Runner() as second:
        mine, other = first.run(here()), second.run(here())
        objects.drop(mine)
        objects.drop(object())
        assert list(objects) == [other]
        assert first.run(here()) is not mine


def test_a_function_is_called_in_its_loop_wherever_that_is() -> None:
    calls: list[str] = []

    async def running() -> None:
        loop = asyncio.get_running_loop()
        call_in(loop, lambda: calls.append('here'))
        assert calls == ['here']
        done = asyncio.Event()
        await asyncio.to_thread(call_in, loop, done.set)
        async with asyncio.timeout(20):
            await done.wait()
        call_in(stopped, lambda: calls.append('in a loop that does not run'))

    stopped = asyncio.new_event_loop()
    asyncio.run(running())
    stopped.close()
    call_in(stopped, lambda: calls.append('in a loop that is closed'))
    assert calls == ['here', 'in a loop that does not run']
