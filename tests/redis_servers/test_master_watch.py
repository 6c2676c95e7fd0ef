"""What Sentinels say about the master, where they disagree, stand still, come and go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.stores.redis import failover
from learning_observer_kvs.stores.redis.failover import MasterWatch
from tests.support.scripted_sentinel import ScriptedSentinel

A, B, C = 1001, 1002, 1003
"""The ports of servers; nothing connects to them."""


class Watched:
    """A watch, and where the master was each time that connections had to be closed."""

    def __init__(self, *ports: int, timeout: float = 5) -> None:
        options: dict[str, Any] = {'socket_timeout': None, 'retry': Retry(NoBackoff(), 0), 'protocol': 2}
        self.clients = [Redis(host='127.0.0.1', port=port, **options) for port in ports]
        self.moves = 0
        self.moved = asyncio.Event()
        self.watch = MasterWatch('class', 'class (Sentinels s:1)', self.clients, timeout, self._on_move)

    async def port(self) -> int:
        """Return the port of the master."""
        _, port = await self.watch.master()
        return port

    async def until_moved(self) -> None:
        """Wait until connections have to be closed."""
        await self.moved.wait()
        self.moved.clear()

    def _on_move(self) -> None:
        self.moves += 1
        self.moved.set()


@asynccontextmanager
async def watching(*ports: int, timeout: float = 5) -> AsyncIterator[Watched]:
    watched = Watched(*ports, timeout=timeout)
    try:
        yield watched
    finally:
        await watched.watch.close()
        for client in watched.clients:
            await client.aclose()


@asynccontextmanager
async def three() -> AsyncIterator[tuple[list[ScriptedSentinel], Watched]]:
    """Three Sentinels that name the same master, each of them followed."""
    async with AsyncExitStack() as stack:
        sentinels = [await stack.enter_async_context(ScriptedSentinel(A)) for _ in range(3)]
        watched = await stack.enter_async_context(watching(*(sentinel.port for sentinel in sentinels)))
        assert await watched.port() == A
        for sentinel in sentinels:
            await sentinel.until(followers=1)
        watched.moved.clear()
        yield sentinels, watched


async def test_the_newest_answer_counts_whichever_sentinel_gives_it() -> None:
    async with three() as (sentinels, watched):
        sentinels[2].say(master=B, epoch=2)
        await watched.until_moved()
        assert await watched.port() == B
        sentinels[0].say(master=C, epoch=1)  # it is late
        sentinels[1].say(master=C, epoch=3)
        await watched.until_moved()
        assert await watched.port() == C
        assert watched.moves == 3  # to A, B and C


async def test_of_two_answers_of_the_same_epoch_the_master_in_use_stays() -> None:
    async with three() as (sentinels, watched):
        sentinels[0].say(master=B)
        await sentinels[0].until(questions=sentinels[0].questions + 1)
        sentinels[1].say(master=C, epoch=1)
        await watched.until_moved()
        assert await watched.port() == C
        assert watched.moves == 2  # to A and C


async def test_a_service_that_is_monitored_anew_with_a_lower_epoch_is_found() -> None:
    async with three() as (sentinels, watched):
        for sentinel in sentinels:
            sentinel.say(epoch=7)
        for sentinel in sentinels:
            sentinel.say(master=B, epoch=0)
        await watched.until_moved()
        assert await watched.port() == B


async def test_while_a_replica_is_promoted_connections_are_closed_and_wait() -> None:
    async with three() as (sentinels, watched):
        sentinels[1].say(state='send_slaveof_noone')
        await watched.until_moved()
        assert not watched.watch.is_master(('127.0.0.1', A))
        waiting = asyncio.create_task(watched.port())
        sentinels[1].say(state='wait_promotion')
        sentinels[1].say(master=B, epoch=1, state='reconf_slaves')
        assert await waiting == B
        assert watched.watch.is_master(('127.0.0.1', B))


async def test_after_an_aborted_promotion_the_master_is_used_again() -> None:
    async with three() as (sentinels, watched):
        sentinels[1].say(state='wait_promotion')
        await watched.until_moved()
        waiting = asyncio.create_task(watched.port())
        sentinels[1].say(state='')
        assert await waiting == A


async def test_when_the_sentinel_that_promotes_is_gone_the_others_are_asked() -> None:
    async with three() as (sentinels, watched):
        sentinels[1].say(state='wait_promotion')
        await watched.until_moved()
        waiting = asyncio.create_task(watched.port())
        await sentinels[1].stop()
        assert await waiting == A


async def test_a_promotion_without_an_end_holds_connections_for_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failover, 'HOLD', 0.5)
    async with three() as (sentinels, watched):
        sentinels[1].say(state='wait_promotion')
        await watched.until_moved()
        assert not watched.watch.is_master(('127.0.0.1', A))
        assert await watched.port() == A
        assert watched.watch.is_master(('127.0.0.1', A))


async def test_a_call_that_waits_for_a_promotion_in_vain_may_be_tried_again() -> None:
    async with ScriptedSentinel(A) as sentinel, watching(sentinel.port) as watched:
        await watched.port()
        await sentinel.until(followers=1)
        watched.moved.clear()
        sentinel.say(state='wait_promotion')
        await watched.until_moved()
        watched.watch._timeout = 0.05
        with pytest.raises(StoreUnavailable, match='its Sentinels are replacing the master') as raised:
            await watched.port()
        assert raised.value.retry


async def test_one_sentinel_that_answers_is_enough() -> None:
    async with ScriptedSentinel(A) as gone:
        await gone.stop()
        async with ScriptedSentinel(A) as sentinel, watching(gone.port, gone.port, sentinel.port) as watched:
            assert await watched.port() == A


async def test_sentinels_that_do_not_answer_are_an_error_that_may_pass() -> None:
    async with ScriptedSentinel(A) as gone, watching(gone.port, gone.port) as watched:
        await gone.stop()
        with pytest.raises(StoreUnavailable, match=r'no Sentinel answers \(.*127.0.0.1:\d+') as raised:
            await watched.port()
        assert raised.value.retry
        assert 'redis_sentinels' in str(raised.value)


async def test_a_sentinel_that_stands_still_is_an_error_in_bounded_time() -> None:
    async with ScriptedSentinel(A) as sentinel, watching(sentinel.port, timeout=0.05) as watched:
        sentinel.mute = True
        with pytest.raises(StoreUnavailable, match=r'no Sentinel answers \(It has not answered for 0.05 s\)'):
            await watched.port()


async def test_while_no_sentinel_can_be_reached_the_master_stays_and_one_line_says_so(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failover, 'MIN_PAUSE', 0.02)
    with caplog.at_level(logging.WARNING):
        async with three() as (sentinels, watched):
            for sentinel in sentinels:
                await sentinel.stop()
            assert await watched.port() == A
            assert watched.watch.is_master(('127.0.0.1', A))
            for sentinel in sentinels:
                sentinel.say(master=B, epoch=1)
                await sentinel.start()
                await sentinel.until(followers=1)
            assert await watched.port() == B
    said = [record.getMessage() for record in caplog.records if record.name == 'learning_observer_kvs']
    assert len(said) == 3
    assert 'No Sentinel of class can be reached' in said[0]
    assert f'127.0.0.1:{A} stays in use' in said[0]
    assert said[1:] == [
        'A Sentinel of class can be reached again.',
        f'The master of class is 127.0.0.1:{B} now; it was 127.0.0.1:{A}.',
    ]
    assert [record.exc_info for record in caplog.records if record.exc_info] == []


async def test_an_idle_process_asks_nothing() -> None:
    async with three() as (sentinels, watched):
        before = [sentinel.questions for sentinel in sentinels]
        for _ in range(100):
            await watched.port()
        assert [sentinel.questions for sentinel in sentinels] == before


async def test_a_silent_sentinel_is_asked_whether_it_is_there_and_left_if_it_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(failover, 'QUIET', 0.3)
    async with three() as (sentinels, _):
        silent = sentinels[0]
        await silent.until(pings=3)
        await silent.until(questions=silent.questions + 1)
        assert silent.followers == 1
        silent.mute = True
        pings, questions = silent.pings, silent.questions
        await silent.until(followers=0)
        assert (silent.pings, silent.questions) == (pings + 1, questions)


async def test_sentinels_that_refuse_to_be_followed_are_asked_instead(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failover, 'POLL', 0.01)
    async with ScriptedSentinel(A) as sentinel, watching(sentinel.port) as watched:
        sentinel.refuses_to_be_followed = True
        assert await watched.port() == A
        async with asyncio.timeout(30):
            await sentinel.until(questions=40)  # the time in between does not grow
        watched.moved.clear()
        sentinel.say(master=B, epoch=1)
        await watched.until_moved()
        assert await watched.port() == B
    [line] = [record.getMessage() for record in caplog.records if 'refuse to be followed' in record.getMessage()]
    assert '+psubscribe allchannels' in line


async def test_a_closed_watch_has_no_task_and_no_connection_and_starts_none() -> None:
    before = asyncio.all_tasks()
    async with ScriptedSentinel(A) as sentinel:
        async with watching(sentinel.port) as watched:
            await watched.port()
            await sentinel.until(followers=1)
        await sentinel.until(followers=0)
        with pytest.raises(StoreUnavailable, match='was closed'):
            await watched.port()
    assert asyncio.all_tasks() == before


async def test_closing_ends_at_once_at_whatever_moment_it_comes() -> None:
    async with ScriptedSentinel(A) as sentinel:
        for steps in range(60):
            async with asyncio.timeout(12), watching(sentinel.port) as watched:
                using = asyncio.create_task(watched.port())
                for _ in range(steps):
                    await asyncio.sleep(0)
                await watched.watch.close()
                await asyncio.wait([using])
                assert using.exception() is None or isinstance(using.exception(), StoreUnavailable)
