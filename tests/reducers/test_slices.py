"""How long reducers run before the event loop has its turn."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.reducers import serving, worker_of
from learning_observer_kvs.stores.overlay import PlainOverlay
from tests.support.watched import EXTERNAL, Watched, count, process

HOUR = 3600.0


class Slow(Watched):
    """A store whose reads from outside wait.

    Attributes:
        answer: what they wait for.
        urgent: how many urgent reads were under way at each.
    """

    def __init__(self) -> None:
        super().__init__(retry_timeout=0)
        self.answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.urgent: list[int] = []

    async def read_bytes(self, keys: Sequence[str]) -> list[bytes | None]:
        if EXTERNAL in keys:
            self.urgent.append(urgent_reads(self))
            await asyncio.shield(self.answer)
        return await super().read_bytes(keys)


def urgent_reads(store: Watched) -> int:
    overlay = worker_of(store)
    assert isinstance(overlay, PlainOverlay)
    return overlay.urgent_reads


@pytest.mark.parametrize(('is_read', 'reduced'), [(False, 10), (True, 1)])
async def test_while_a_read_is_under_way_reducers_run_for_less_long(
    is_read: bool, reduced: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, 'TIME_SLICE', HOUR)
    monkeypatch.setattr(serving, 'URGENT_SLICE', -1.0)
    runs: list[int] = []

    async def note(state: Any) -> Any:
        runs.append(1)
        return await count(state)

    async with Slow() as store:
        pairs = [(f'Internal,{number}', f'External,{number}') for number in range(10)]
        await asyncio.gather(*(worker_of(store).process(*pair, count) for pair in pairs))  # their states are cached
        read = [asyncio.ensure_future(store[EXTERNAL])] if is_read else []
        await asyncio.sleep(0)
        events = [asyncio.ensure_future(worker_of(store).process(*pair, note)) for pair in pairs]
        await asyncio.sleep(0)
        assert len(runs) == reduced
        await asyncio.gather(*events)
        assert len(runs) == 10
        store.answer.set_result(None)
        await asyncio.gather(*read)


async def test_a_read_counts_as_urgent_until_it_has_ended_and_a_dump_does_not() -> None:
    async with Slow() as store:
        await process(store, count)
        assert urgent_reads(store) == 0
        one, several = asyncio.ensure_future(store[EXTERNAL]), asyncio.ensure_future(store.multiget([EXTERNAL]))
        await asyncio.sleep(0)
        assert urgent_reads(store) == 2
        one.cancel()
        with pytest.raises(asyncio.CancelledError):
            await one
        assert urgent_reads(store) == 1
        store.answer.set_exception(StoreUnavailable('away'))
        with pytest.raises(StoreUnavailable):
            await several
        assert urgent_reads(store) == 0
        store.answer = asyncio.get_running_loop().create_future()
        store.answer.set_result(None)
        assert len(await store.dump()) == 2
        assert store.urgent == [1, 2, 0]
