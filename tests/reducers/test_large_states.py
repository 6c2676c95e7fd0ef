"""Only so many large states are decoded at once, and no wait depends on that number."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from learning_observer_kvs.reducers import batch_worker, worker_of
from tests.support.watched import Watched, count, send, until


@pytest.fixture(autouse=True)
def _one_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_worker, 'LARGE', 10)
    monkeypatch.setattr(batch_worker, 'LARGE_AT_ONCE', 1)


async def test_small_states_do_not_count(watched: Watched) -> None:
    watched.texts |= {'Internal,a': b'1234567890', 'Internal,b': b'1234567890'}
    begun = [asyncio.Event(), asyncio.Event()]

    async def wait_for_the_other(number: int, state: Any) -> Any:
        begun[number].set()
        await begun[1 - number].wait()
        return await count(state)

    events = [send(watched, name, lambda state, n=n: wait_for_the_other(n, state)) for n, name in enumerate('ab')]
    async with asyncio.timeout(12):
        assert await asyncio.gather(*events) == [1234567891] * 2


async def test_a_large_state_is_decoded_while_a_reducer_inside_one_of_a_large_state_waits_for_its_key(
    watched: Watched,
) -> None:
    watched.texts |= {'Internal,a': b'12345678901', 'Internal,c': b'12345678901'}
    large: list[asyncio.Future[Any]] = []

    async def middle(state: Any) -> Any:
        await until(lambda: 'Internal,c' in watched.key_locks.here().held)
        return await send(watched, 'c', count), None

    async def outer(state: Any) -> Any:
        return await worker_of(watched).process('Internal,b', 'External,b', middle), 'done'

    first = send(watched, 'a', outer)
    await until(lambda: worker_of(watched)._large.locked())
    large.append(send(watched, 'c', count))
    async with asyncio.timeout(12):
        assert await first == 'done'
        assert await large[0] == 12345678902
    assert watched.texts['Internal,b'] == b'12345678903'
    assert watched.busy_keys() == 0
    assert not worker_of(watched)._large.locked()


async def test_a_large_state_of_another_key_is_decoded_inside_a_reducer_of_a_large_state(watched: Watched) -> None:
    async def outer(state: Any) -> Any:
        return await worker_of(watched).process('Internal,b', 'External,b', count), True

    watched.texts |= {'Internal,a': b'12345678901', 'Internal,b': b'12345678901'}
    async with asyncio.timeout(12):
        assert await send(watched, 'a', outer) is True
    assert watched.texts['Internal,b'] == b'12345678902'
