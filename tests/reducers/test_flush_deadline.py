"""``flush_interval``: how long a flush that is asked for waits for a backend that is away."""

from __future__ import annotations

import asyncio

from learning_observer_kvs.errors import StoreUnavailable
from tests.support.watched import INTERNAL, Watched, count, process, until


async def test_asked_for_while_another_flush_fails_it_waits_until_its_own_deadline() -> None:
    def be_away_once() -> None:
        store.before = lambda: None
        raise StoreUnavailable('away', retry=True)

    async with Watched(flush_interval=0.01) as store:
        store.gate.clear()
        await process(store, count)
        await until(lambda: len(store.commits) == 1)  # a flush that nothing waits for
        store.before = be_away_once
        flush = asyncio.ensure_future(store.flush())
        await asyncio.sleep(0)
        store.gate.set()
        await flush
        assert store.texts[INTERNAL] == b'1'


async def test_at_its_deadline_it_ends_with_the_error_of_the_backend() -> None:
    def be_away() -> None:
        raise StoreUnavailable('away', retry=True)

    async with Watched(flush_interval=0.01, retry_timeout=0.1) as store:
        store.before = be_away
        await process(store, count)
        outcome = (await asyncio.gather(store.flush(), return_exceptions=True))[0]
        store.before = lambda: None
    assert isinstance(outcome, StoreUnavailable)
    assert store.texts[INTERNAL] == b'1'
