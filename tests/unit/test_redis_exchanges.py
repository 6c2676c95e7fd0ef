"""Exchanges with a Redis whose answers a test writes down: what is sent, once or twice, and what a failure comes to."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from redis import exceptions

from learning_observer_kvs.errors import InvalidKey, Overloaded, StoreUnavailable
from learning_observer_kvs.stores.redis.connection import PinnedConnection, RedisConnection
from learning_observer_kvs.stores.redis.errors import ALL_BUSY, ReplyLost
from tests.support.answers import NEVER, answer

BROKEN = exceptions.ConnectionError('Connection closed by server.')
LOADING = exceptions.BusyLoadingError('Redis is loading the dataset in memory')
NO_RIGHTS = exceptions.NoPermissionError('NOPERM this user has no permissions')
WRONG_TYPE = exceptions.ResponseError('WRONGTYPE Operation against a key holding the wrong kind of value')


class Link:
    """A connection on which replies come that are written down.

    Attributes:
        replies: in order; an exception is raised, after ``NEVER`` none comes.
        sent: the packets.
        happened: what was done with it besides.
        is_unread: whether there is something to read though no reply is due.
    """

    def __init__(self, *replies: Any) -> None:
        self.replies = list(replies)
        self.sent: list[bytes] = []
        self.happened: list[str] = []
        self.is_unread = False

    async def can_read(self) -> bool:
        return self.is_unread

    async def send_packed_command(self, packed: list[bytes], check_health: bool) -> None:
        assert not check_health
        self.sent.append(b''.join(packed))

    async def read_response(self, disconnect_on_error: bool) -> Any:
        assert not disconnect_on_error
        return await answer(self.replies.pop(0))

    async def disconnect(self, nowait: bool) -> None:
        assert nowait
        self.happened.append('disconnect')


class Pool:
    """A pool of redis-py with some connections; an exception is raised, after ``NEVER`` none comes."""

    def __init__(self, *links: Any) -> None:
        self.links = list(links)
        self.connection_kwargs = {'host': 'h', 'port': 1}

    async def get_connection(self) -> Any:
        return await answer(self.links.pop(0))

    async def release(self, link: Link) -> None:
        link.happened.append('release')


def over(pool: Pool, **settings: Any) -> RedisConnection:
    connection = RedisConnection(settings)
    client: Any = SimpleNamespace(connection_pool=pool)
    connection.use(client)
    return connection


def answering(*replies: Any) -> tuple[RedisConnection, Link]:
    """A connection with the same one to the server each time."""
    link = Link(*replies)
    return over(Pool(link, link, link)), link


def packet(*words: str) -> bytes:
    return b'*%d\r\n' % len(words) + b''.join(b'$%d\r\n%s\r\n' % (len(word), word.encode()) for word in words)


PINGS = [('PING', 'a'), ('PING', 'b'), ('PING', 'c')]


# One connection for one sender


async def test_commands_go_out_in_one_packet_on_the_same_connection_each_time() -> None:
    link = Link(b'a', NO_RIGHTS, b'c', b'd')
    pinned = PinnedConnection(over(Pool(link)))
    assert await pinned.exchange(PINGS) == [b'a', NO_RIGHTS, b'c']
    assert await pinned.exchange([('PING', 'd')]) == [b'd']
    assert link.sent == [b''.join(packet(*words) for words in PINGS), packet('PING', 'd')]
    assert link.happened == []
    await pinned.close()
    await pinned.close()
    await pinned.drop()
    assert link.happened == ['release']


async def test_a_connection_with_something_to_read_is_given_back_for_another() -> None:
    first, second = Link(b'a'), Link(b'b')
    pinned = PinnedConnection(over(Pool(first, second)))
    await pinned.exchange([('PING', 'a')])
    first.is_unread = True
    assert await pinned.exchange([('PING', 'b')]) == [b'b']
    assert (first.happened, second.happened) == (['release'], [])


async def test_a_connection_of_other_settings_is_given_back_to_its_own_pool() -> None:
    first, second = Link(b'a'), Link(b'b')
    owner = over(Pool(first))
    pinned = PinnedConnection(owner)
    await pinned.exchange([('PING', 'a')])
    client: Any = SimpleNamespace(connection_pool=Pool(second))
    owner.use(client)
    assert await pinned.exchange([('PING', 'b')]) == [b'b']
    assert (first.happened, second.happened) == (['release'], [])


@pytest.mark.parametrize(
    ('refused', 'kind', 'words'),
    [
        (exceptions.ConnectionError('Connection refused'), StoreUnavailable, 'h:1 cannot be used: Connection refused'),
        (exceptions.ConnectionError(ALL_BUSY), Overloaded, 'all its connections were busy'),
        (NEVER, StoreUnavailable, 'h:1 cannot be used'),
    ],
)
async def test_where_no_connection_is_to_be_had_nothing_is_sent(refused: Any, kind: Any, words: str) -> None:
    pinned = PinnedConnection(over(Pool(refused)))
    async with asyncio.timeout(10):
        with pytest.raises(kind, match=words) as raised:
            await pinned.exchange([('PING',)], 0.01)
    assert raised.value.__suppress_context__


async def test_after_a_break_what_was_not_answered_is_lost_and_another_connection_is_taken() -> None:
    broken, other = Link(b'a', BROKEN), Link(b'd')
    pinned = PinnedConnection(over(Pool(broken, other)))
    replies = await pinned.exchange(PINGS)
    assert replies[0] == b'a'
    assert [(type(reply), str(reply)) for reply in replies[1:]] == [(ReplyLost, 'Connection closed by server')] * 2
    assert broken.happened == ['disconnect', 'release']
    assert await pinned.exchange([('PING', 'd')]) == [b'd']


async def test_a_refusal_that_redis_py_takes_for_a_break_is_a_reply_and_the_rest_is_lost() -> None:
    link = Link(b'a', LOADING)
    first, second, third = await PinnedConnection(over(Pool(link))).exchange(PINGS)
    assert (first, type(second), type(third)) == (b'a', exceptions.ResponseError, ReplyLost)
    assert str(second) == 'LOADING Redis is loading the dataset in memory'
    assert str(third) == 'Redis is loading the dataset in memory'
    assert link.happened == ['disconnect', 'release']


@pytest.mark.parametrize(('by_settings', 'of_the_exchange'), [(0.01, None), (1000, 0.01)])
async def test_replies_are_waited_for_no_longer_than_allowed(by_settings: float, of_the_exchange: float | None) -> None:
    link = Link(NEVER)
    async with asyncio.timeout(10):
        [reply] = await PinnedConnection(over(Pool(link), redis_timeout=by_settings)).exchange(
            [('PING',)], of_the_exchange
        )
    assert (type(reply), str(reply)) == (ReplyLost, 'no answer came in time')


async def test_an_exchange_that_is_cancelled_breaks_its_connection() -> None:
    link = Link(NEVER)
    exchanging = asyncio.ensure_future(PinnedConnection(over(Pool(link))).exchange([('PING',)]))
    for _ in range(10):
        await asyncio.sleep(0)
    assert link.sent == [packet('PING')]
    exchanging.cancel()
    await asyncio.wait([exchanging])
    assert exchanging.cancelled()
    assert link.happened == ['disconnect', 'release']


async def test_at_the_end_of_its_loop_an_exchange_waits_for_nothing_more() -> None:
    link = Link(GeneratorExit())
    with pytest.raises(GeneratorExit):
        await PinnedConnection(over(Pool(link))).exchange([('PING',)])
    assert link.happened == []


async def test_a_connection_is_only_taken_for_commands_that_can_be_sent() -> None:
    pool = Pool(Link())
    with pytest.raises(UnicodeError):
        await PinnedConnection(over(pool)).exchange([('GET', '\ud800')])
    assert len(pool.links) == 1


# Any free connection


async def test_an_exchange_gives_its_connection_back_and_a_lost_reply_is_an_error() -> None:
    connection, link = answering(b'a', NO_RIGHTS, b'c', BROKEN)
    assert await connection.exchange(PINGS) == [b'a', NO_RIGHTS, b'c']
    assert link.happened == ['release']
    with pytest.raises(ReplyLost, match='Connection closed by server'):
        await connection.exchange(PINGS)
    async with asyncio.timeout(10):
        with pytest.raises(ReplyLost, match='no answer came in time'):
            await over(Pool(Link(NEVER))).exchange(PINGS, 0.01)


async def test_what_only_reads_is_sent_once_more_where_replies_are_lost_and_not_a_third_time() -> None:
    connection, link = answering(BROKEN, b'a')
    assert await connection.ask(('PING', 'a')) == [b'a']
    assert link.sent == [packet('PING', 'a')] * 2
    connection, link = answering(BROKEN, BROKEN, b'a')
    with pytest.raises(StoreUnavailable, match='Redis at h:1 cannot be used: Connection closed by server') as raised:
        await connection.ask(('PING', 'a'))
    assert raised.value.__suppress_context__
    assert len(link.sent) == 2


async def test_of_refusals_only_that_of_another_type_is_a_reply() -> None:
    connection, _ = answering(b'a', WRONG_TYPE, b'a', NO_RIGHTS)
    assert await connection.ask(('GET', 'a'), ('GET', 'b')) == [b'a', WRONG_TYPE]
    with pytest.raises(StoreUnavailable, match='Redis at h:1 cannot be used: NOPERM'):
        await connection.ask(('GET', 'a'), ('GET', 'b'))


# Pages and INFO


async def test_a_page_has_a_cursor_until_the_last_one() -> None:
    connection, link = answering([b'7', [b'k']], [b'0', []], [b'\xff7', []])
    assert await connection.scan(None, 10, 'p*') == ([b'k'], '7')
    assert await connection.scan('7', 10, 'p*') == ([], None)
    assert link.sent == [packet('SCAN', cursor, 'MATCH', 'p*', 'COUNT', '10') for cursor in '07']
    assert await connection.scan(None, 10) == ([], '\ufffd7')
    assert link.sent[2] == packet('SCAN', '0', 'MATCH', '*', 'COUNT', '10')


async def test_all_pages_are_gone_through_with_their_pattern() -> None:
    connection, link = answering([b'7', [b'k']], [b'0', [b'l']], [b'0', []])
    assert [page async for page in connection.pages(10, 'p*')] == [[b'k'], [b'l']]
    assert link.sent == [packet('SCAN', cursor, 'MATCH', 'p*', 'COUNT', '10') for cursor in '07']
    assert [page async for page in connection.pages(10)] == [[]]
    assert link.sent[2] == packet('SCAN', '0', 'MATCH', '*', 'COUNT', '10')


@pytest.mark.parametrize('reply', [b'0', [b'0'], [0, []], [b'0', b'k'], [b'0', [], b'']])
async def test_what_is_not_a_page_is_an_error(reply: Any) -> None:
    connection, _ = answering(reply)
    with pytest.raises(StoreUnavailable, match=f'the reply to SCAN was {type(reply).__name__}'):
        await connection.scan(None, 10)


@pytest.mark.parametrize('cursor', [f'{1 << 64}', '1' * 21, 'x', ''])
async def test_what_cannot_be_a_cursor_is_not_sent(cursor: str) -> None:
    connection, link = answering()
    with pytest.raises(InvalidKey, match='is not the cursor of a page of Redis keys'):
        await connection.scan(cursor, 10)
    assert link.sent == []
    connection, link = answering([b'0', []])
    assert await connection.scan(f'{(1 << 64) - 1}', 10) == ([], None)


async def test_info_is_what_the_server_says_by_its_address() -> None:
    connection, link = answering(b'# Server\r\nversion:7\r\n\r\nslave0:ip=h:port=1\r\nname:\xff\r\n', NO_RIGHTS, BROKEN)
    assert await connection.info() == {'h:1': {'version': '7', 'slave0': 'ip=h:port=1', 'name': '\ufffd'}}
    assert link.sent == [packet('INFO')]
    assert await connection.info() == {'h:1': {}}
    with pytest.raises(StoreUnavailable, match='Redis at h:1 cannot be used: Connection closed by server') as raised:
        await connection.info()
    assert raised.value.__suppress_context__
