"""The reader of a Redis store, in front of servers whose replies a test lets come: packets, their bounds, errors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from learning_observer_kvs.errors import Overloaded, StoreUnavailable
from learning_observer_kvs.stores.redis import reader as reader_module
from learning_observer_kvs.stores.redis.cluster_client import Command
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.errors import ReplyLost
from learning_observer_kvs.stores.redis.reader import READERS, RedisReader
from tests.support.watched import until

AWAY = StoreUnavailable('away', retry=True)


class Servers:
    """What answers each key with its name.

    Attributes:
        packets: the keys of each call of each packet.
        is_holding: whether answers wait in ``held``, each for what it raises instead, if anything.
    """

    def __init__(self) -> None:
        self.packets: list[list[list[str]]] = []
        self.is_holding = False
        self.held: list[asyncio.Future[Exception | None]] = []

    async def exchange(self, commands: Sequence[Command], timeout: float | None) -> list[Any]:
        calls: list[list[Any]] = [list(command[3:]) for command in commands]
        self.packets.append(calls)
        for key in (key for call in calls for key in call):
            key.encode()
        if self.is_holding:
            self.held.append(asyncio.get_running_loop().create_future())
            if (error := await self.held[-1]) is not None:
                raise error
        return [[key.encode() for key in call] for call in calls]

    def sizes(self) -> list[list[int]]:
        return [[len(call) for call in packet] for packet in self.packets]


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Servers:
    made = Servers()
    monkeypatch.setattr(RedisConnection, 'exchange', lambda _, commands, timeout: made.exchange(commands, timeout))
    return made


Make = Callable[..., RedisReader]


@pytest.fixture
def make() -> Make:
    """Makes readers of a server, or of a cluster."""

    def make_reader(*, clustered: bool = False) -> RedisReader:
        settings = {'redis_host': '127.0.0.1', 'redis_port': 1, 'redis_cluster': clustered}
        return RedisReader(RedisConnection(settings))

    return make_reader


def keys(size: int, start: int = 0) -> list[str]:
    return [f'k{number}' for number in range(start, start + size)]


def texts(names: Sequence[str]) -> list[bytes]:
    return [name.encode() for name in names]


async def test_what_is_asked_in_one_tick_travels_in_packets_of_400_keys(servers: Servers, make: Make) -> None:
    reader = make()
    wanted = [keys(250), keys(150, 250), keys(1, 400), keys(400), keys(30)]
    found = await asyncio.gather(*map(reader.read, wanted))
    assert found == [texts(names) for names in wanted]
    assert servers.sizes() == [[20] * 20, [1], [20] * 20, [20, 10]]
    for sizes in [(300, 60, 60), (60, 300, 60)]:
        servers.packets.clear()
        await asyncio.gather(*(reader.read(keys(size)) for size in sizes))
        assert servers.sizes() == [[20] * 18, [20] * 3]


async def test_a_read_of_more_keys_than_a_packet_is_several_of_them_one_after_the_other(
    servers: Servers, make: Make
) -> None:
    assert await make().read(keys(1000)) == texts(keys(1000))
    assert servers.sizes() == [[20] * 20, [20] * 20, [20] * 10]


async def test_of_many_packets_four_are_under_way_and_the_others_follow(servers: Servers, make: Make) -> None:
    reader = make()
    servers.is_holding = True
    reads = [reader.read(keys(400)) for _ in range(READERS + 2)]
    await until(lambda: len(servers.held) == READERS)
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(servers.packets) == READERS
    servers.held[0].set_result(None)
    await until(lambda: len(servers.packets) == READERS + 1)
    servers.is_holding = False
    for held in servers.held[1:]:
        held.set_result(None)
    assert await asyncio.gather(*reads) == [texts(keys(400))] * (READERS + 2)


async def test_closing_waits_for_what_is_not_sent_yet_and_for_what_is_under_way(servers: Servers, make: Make) -> None:
    reader = make()
    servers.is_holding = True
    closed = asyncio.ensure_future(reader.close(20))
    read = reader.read(['k'])
    await until(lambda: len(servers.held) == 1)
    assert not closed.done()
    servers.held[0].set_result(None)
    await closed
    assert await read == [b'k']


async def test_closing_waits_for_what_was_under_way_already_and_for_what_comes_after_it(
    servers: Servers, make: Make
) -> None:
    reader = make()
    servers.is_holding = True
    reads = [reader.read(keys(400)) for _ in range(READERS)]
    await until(lambda: len(servers.held) == READERS)
    closed = asyncio.ensure_future(reader.close(20))
    await asyncio.sleep(0)
    reads.append(reader.read(['k']))
    for number in range(READERS + 1):
        await until(lambda number=number: len(servers.held) > number)  # type: ignore[misc]
        assert not closed.done()
        servers.held[number].set_result(None)
    await closed
    assert all(read.done() for read in reads)


async def test_what_is_not_read_when_closing_takes_too_long_is_told_so(servers: Servers, make: Make) -> None:
    reader = make()
    servers.is_holding = True
    reads = [reader.read(keys(400)) for _ in range(READERS + 2)]
    await until(lambda: len(servers.held) == READERS)
    await reader.close(0)
    assert all(read.done() for read in reads)
    outcomes = await asyncio.gather(*reads, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * len(reads)
    assert 'until the store was closed' in str(outcomes[-1])


async def cancelled_at_once(reader: RedisReader, *names: str) -> asyncio.Future[list[Any]]:
    """Begin a read, and cancel what was to send it before it has begun, as the end of an event loop does."""
    before = asyncio.all_tasks()
    read = reader.read(names)
    for task in asyncio.all_tasks() - before:
        task.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not read.done()
    return read


async def test_a_read_whose_sending_was_cancelled_is_sent_with_the_next_one(servers: Servers, make: Make) -> None:
    reader = make()
    first = await cancelled_at_once(reader, 'a')
    assert await reader.read(['b']) == [b'b']
    assert await first == [b'a']


async def test_closing_gives_up_a_read_whose_sending_was_cancelled(servers: Servers, make: Make) -> None:
    reader = make()
    read = await cancelled_at_once(reader, 'a')
    await reader.close(20)
    assert isinstance(read.exception(), StoreUnavailable)


async def test_a_read_ends_when_what_sends_it_is_cancelled_under_way(servers: Servers, make: Make) -> None:
    servers.is_holding = True
    before = asyncio.all_tasks()
    read = make().read(['a'])
    [task] = asyncio.all_tasks() - before
    await until(lambda: len(servers.held) == 1)
    task.cancel()
    await asyncio.wait([task])
    assert read.cancelled()


@pytest.mark.parametrize(('bound', 'most'), [('MAX_QUEUED_KEYS', 5), ('MAX_QUEUED_BYTES', 10)])
async def test_keys_that_wait_are_bounded_and_their_bytes(
    bound: str, most: int, servers: Servers, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, bound, most)
    reader = make()
    first = reader.read(keys(3))
    with pytest.raises(Overloaded, match=r'^3 keys'):
        reader.read(keys(3))
    second = reader.read(keys(2))
    await asyncio.gather(first, second)
    assert await reader.read(keys(9)) == texts(keys(9))


@pytest.mark.parametrize(
    ('error', 'failed'), [(AWAY, {0, 4, 5}), (ReplyLost('cut'), {0, 4, 5}), (StoreUnavailable('no'), {0})]
)
async def test_reads_that_wait_fail_with_one_before_them_where_the_server_is_away(
    error: Exception, failed: set[int], servers: Servers, make: Make
) -> None:
    reader = make()
    servers.is_holding = True
    reads = [reader.read(keys(400)) for _ in range(READERS + 2)]
    reads[1].cancel()
    await until(lambda: len(servers.held) == READERS)
    servers.is_holding = False
    servers.held[0].set_result(error)
    for _ in range(5):
        await asyncio.sleep(0)
    for held in servers.held[1:]:
        held.set_result(None)
    outcomes = await asyncio.gather(*reads, return_exceptions=True)
    assert {number for number, outcome in enumerate(outcomes) if isinstance(outcome, StoreUnavailable)} == failed
    assert (reader._keys, reader._bytes) == (0, 0)


async def test_a_read_whose_caller_gave_up_is_passed_over_when_its_packet_fails(servers: Servers, make: Make) -> None:
    reader = make()
    servers.is_holding = True
    given_up, kept = reader.read(['a']), reader.read(['b'])
    await until(lambda: len(servers.held) == 1)
    given_up.cancel()
    servers.held[0].set_result(AWAY)
    with pytest.raises(StoreUnavailable):
        await kept
    assert given_up.cancelled()


@pytest.mark.parametrize('number', [1, 2])
async def test_an_error_that_no_server_sent_fails_the_reads_of_its_packet(
    number: int, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(connection: RedisConnection, commands: Sequence[Command], timeout: float | None) -> list[Any]:
        raise LookupError('a fault')

    monkeypatch.setattr(RedisConnection, 'exchange', fail)
    reader = make()
    async with asyncio.timeout(12):
        outcomes = await asyncio.gather(*(reader.read(['k']) for _ in range(number)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [LookupError] * number


async def test_what_cannot_be_sent_fails_its_own_read_alone(servers: Servers, make: Make) -> None:
    reader = make()
    given_up = reader.read(['c'])
    reads = [reader.read(['a']), reader.read(['\ud800']), reader.read(['b'])]
    given_up.cancel()
    outcomes = await asyncio.gather(*reads, return_exceptions=True)
    assert outcomes[::2] == [[b'a'], [b'b']]
    assert isinstance(outcomes[1], UnicodeError)
    assert (reader._keys, reader._bytes) == (0, 0)


async def test_in_a_cluster_each_slot_has_calls_of_its_own_and_a_key_is_read_once(servers: Servers, make: Make) -> None:
    wanted = [f'{{{number % 3}}}:k{number}' for number in range(60)]
    assert await make(clustered=True).read([*wanted, *wanted]) == texts([*wanted, *wanted])
    [packet] = servers.packets
    assert sorted(key for call in packet for key in call) == sorted(wanted)
    assert [len({key[:3] for key in call}) for call in packet] == [1] * len(packet)


@pytest.mark.parametrize('reply', [None, b'a', [b'a'], [b'a', b'b', b'c'], [b'a', 1], [b'a', [b'b']]], ids=repr)
async def test_a_reply_that_does_not_hold_a_text_for_each_key_is_not_an_answer(
    reply: Any, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def exchange(connection: RedisConnection, commands: Sequence[Command], timeout: float | None) -> list[Any]:
        return [reply]

    monkeypatch.setattr(RedisConnection, 'exchange', exchange)
    with pytest.raises(StoreUnavailable, match='not what Redis answers') as raised:
        await make().read(['a', 'b'])
    assert raised.value.retry


async def test_a_packet_has_the_time_that_its_reader_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    timeouts: list[float | None] = []

    async def exchange(connection: RedisConnection, commands: Sequence[Command], timeout: float | None) -> list[Any]:
        timeouts.append(timeout)
        return [[b'1']]

    monkeypatch.setattr(RedisConnection, 'exchange', exchange)
    connection = RedisConnection({'redis_host': '127.0.0.1', 'redis_port': 1})
    assert [await RedisReader(connection, timeout).read(['a']) for timeout in (None, 0.5)] == [[b'1']] * 2
    assert timeouts == [None, 0.5]
