"""What becomes of commands on their way to the nodes of a cluster, over nodes whose connections a test writes down."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from redis import exceptions
from redis.crc import key_slot

from learning_observer_kvs.errors import Overloaded, StoreUnavailable
from learning_observer_kvs.stores.redis.cluster_client import ClusterClient, Command, NodePermits
from learning_observer_kvs.stores.redis.errors import ReplyLost, unavailable

BROKEN = exceptions.ConnectionError('Connection closed by server.')


class Connection:
    """A connection on which replies come that are written down: an exception is raised, after an event none comes."""

    def __init__(self, *replies: Any, refused: Exception | None = None, unread: Any = False) -> None:
        self.replies = list(replies)
        self.refused = refused
        self.unread, self.is_connected = unread, bool(unread)
        self.happened: list[str] = []

    async def can_read(self) -> bool:
        if isinstance(self.unread, Exception):
            raise self.unread
        return bool(self.unread)

    async def connect(self) -> None:
        if self.refused is not None:
            raise self.refused
        self.is_connected = True
        self.happened.append('connect')

    async def disconnect(self, nowait: bool) -> None:
        self.is_connected = self.unread = False
        self.happened.append('disconnect')

    async def send_packed_command(self, packed: list[bytes], check_health: bool) -> None:
        self.happened.append('send')

    async def read_response(self) -> Any:
        reply = self.replies.pop(0)
        if isinstance(reply, asyncio.Event):
            reply.set()
            await asyncio.get_running_loop().create_future()
        if isinstance(reply, Exception):
            raise reply
        return reply


class Cluster:
    """Stands for redis-py's client, and for its one node with one connection, which has every slot but some."""

    name = '1.2.3.4:5'

    def __init__(self, connection: Connection, *missing: int, redirected: Any = None) -> None:
        self.slots: list[int] = []
        self.maps_read = self.released = 0
        self._connection = connection
        self._redirected = redirected
        self._missing = missing
        self.nodes_manager = SimpleNamespace(get_node_from_slot=self._node_of, initialize=self._read_map)

    async def initialize(self) -> None: ...

    def acquire_connection(self) -> Connection:
        return self._connection

    def release(self, connection: Connection) -> None:
        self.released += 1

    def _node_of(self, slot: int) -> Any:
        self.slots.append(slot)
        if slot in self._missing:
            raise exceptions.SlotNotCoveredError('Slot is not covered by the cluster.')
        return self

    async def _read_map(self) -> None:
        self.maps_read += 1

    async def execute_command(self, *command: Any) -> Any:
        if isinstance(self._redirected, Exception):
            raise self._redirected
        return self._redirected


async def exchange(cluster: Cluster, *commands: Command) -> list[Any]:
    """Send commands to a cluster; its one connection is free again afterwards."""
    client: Any = cluster
    permits = NodePermits(1)
    nodes = ClusterClient(client, permits, 20, lambda error: unavailable(error, '1.2.3.4:5', {}))
    replies = await nodes.exchange(commands)
    assert not any(of_node.locked() for of_node in permits.values())
    return replies


def get(*keys: str) -> list[Command]:
    return [('GET', key) for key in keys]


async def test_a_slot_that_no_node_has_concerns_its_own_commands_alone() -> None:
    cluster = Cluster(Connection(b'1', b'3'), key_slot(b'b'))
    first, second, third = await exchange(cluster, *get('a', 'b', 'c'))
    assert (first, type(second), third) == (b'1', StoreUnavailable, b'3')
    assert cluster.maps_read == 1


@pytest.mark.parametrize('refused', [OSError('Connection refused'), exceptions.BusyLoadingError('Redis is loading')])
async def test_what_was_not_sent_is_not_lost(refused: Exception) -> None:
    cluster = Cluster(Connection(refused=refused))
    for reply in await exchange(cluster, *get('a', 'b')):
        assert isinstance(reply, StoreUnavailable)
        assert str(refused) in str(reply)
    assert cluster.released == 1


@pytest.mark.parametrize('unread', [True, BROKEN, OSError()])
async def test_a_connection_on_which_something_waits_to_be_read_is_opened_again_before_it_is_used(unread: Any) -> None:
    connection = Connection(b'1', unread=unread)
    assert await exchange(Cluster(connection), *get('a')) == [b'1']
    assert connection.happened == ['disconnect', 'connect', 'send']


async def test_an_open_connection_is_used_as_it_is() -> None:
    connection = Connection(b'1')
    connection.is_connected = True
    cluster = Cluster(connection)
    assert await exchange(cluster, *get('a')) == [b'1']
    assert connection.happened == ['send']
    assert cluster.maps_read == 0


async def test_a_refusal_that_redis_py_takes_for_a_broken_connection_is_the_reply_and_the_rest_is_lost() -> None:
    refused = exceptions.BusyLoadingError('Redis is loading the dataset in memory')
    connection = Connection(b'1', refused, b'3')
    first, second, third = await exchange(Cluster(connection), *get('a', 'b', 'c'))
    assert (first, type(second), type(third)) == (b'1', exceptions.ResponseError, ReplyLost)
    assert str(second) == 'LOADING Redis is loading the dataset in memory'
    assert not connection.is_connected


async def test_an_exchange_that_is_cancelled_gives_back_a_connection_on_which_nothing_is_under_way() -> None:
    waits = asyncio.Event()
    connection = Connection(waits)
    cluster = Cluster(connection)
    task = asyncio.create_task(exchange(cluster, *get('a')))
    await waits.wait()
    task.cancel()
    await asyncio.wait([task], timeout=3)
    assert task.cancelled()
    assert (connection.is_connected, cluster.released) == (False, 1)


MOVED = exceptions.MovedError(f'{key_slot(b"a")} 1.2.3.4:6')


@pytest.mark.parametrize(
    ('redirected', 'expected'),
    [
        (b'1', b'1'),
        (exceptions.NoPermissionError('NOPERM'), exceptions.NoPermissionError),
        (exceptions.BusyLoadingError('Redis is loading'), exceptions.ResponseError),
        (BROKEN, ReplyLost),
        (TimeoutError(), ReplyLost),
    ],
)
async def test_what_comes_where_a_redirection_leads_is_the_reply(redirected: Any, expected: Any) -> None:
    [reply] = await exchange(Cluster(Connection(MOVED), redirected=redirected), *get('a'))
    assert reply == expected or type(reply) is expected


@pytest.mark.parametrize(
    'command', [('GET', 'é'), ('EVAL', 'return 1', 1, 'é', 'b'), ('EVALSHA', 'f' * 40, 1, 'é'.encode())]
)
async def test_a_command_goes_to_the_node_that_has_the_slot_of_its_first_key(command: Command) -> None:
    cluster = Cluster(Connection(b'1'))
    assert await exchange(cluster, command) == [b'1']
    assert cluster.slots == [key_slot('é'.encode())]


async def test_where_all_connections_of_a_node_are_busy_nothing_is_sent() -> None:
    client: Any = Cluster(Connection())
    nodes = ClusterClient(client, NodePermits(0), 0.01, lambda error: unavailable(error, '1.2.3.4:5', {}))
    assert [type(reply) for reply in await nodes.exchange(get('a'))] == [Overloaded]
    assert client.released == 0
