"""A cluster of several nodes whose answers a test writes down: pages, INFO, and which node gets which command."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from redis import exceptions
from redis.crc import key_slot

from learning_observer_kvs.errors import KVSError, Overloaded, StoreUnavailable
from learning_observer_kvs.stores.redis.cluster_client import ClusterClient, NodePermits, apart
from learning_observer_kvs.stores.redis.errors import ReplyLost, unavailable
from tests.support.answers import NEVER, answer

BROKEN = exceptions.ConnectionError('Connection closed by server.')


class Node:
    """A node with one connection, for as many commands as there are answers.

    Attributes:
        answers: to what comes over its connection, in order.
        asked: what redis-py is asked to send.
        sent: the packets that came over its connection.
    """

    connection_class = dict

    def __init__(self, name: str, answers: Sequence[Any] = ()) -> None:
        self.name = name
        self.answers = list(answers)
        self.asked: list[tuple[Any, ...]] = []
        self.sent: list[bytes] = []
        self.released: list[Any] = []
        self.is_connected = True
        self.connection_kwargs = {'host': name, 'protocol': 3}
        self.permits: NodePermits | None = None

    async def execute_command(self, *command: Any) -> Any:
        self._check_permitted()
        self.asked.append(command)
        return await answer(self.answers.pop(0))

    def acquire_connection(self) -> Any:
        self._check_permitted()
        return self

    def release(self, connection: Any) -> None:
        self.released.append(connection)

    async def can_read(self) -> bool:
        return False

    async def connect(self) -> None:
        self.is_connected = True

    async def disconnect(self, nowait: bool) -> None:
        self.is_connected = False

    async def send_packed_command(self, packed: list[bytes], check_health: bool) -> None:
        self.sent.append(b''.join(packed))

    async def read_response(self) -> Any:
        return await answer(self.answers.pop(0))

    def _check_permitted(self) -> None:
        assert self.permits is not None
        assert self.permits[self.name].locked()


class Cluster:
    """Stands for redis-py's client.

    Attributes:
        maps_read: how often the map was read again.
        map_answer: what comes of that.
        redirected: what comes of a command that redis-py sends where a redirection leads.
        is_known: what comes of finding the nodes.
    """

    def __init__(self, *nodes: Node, size: int = 1) -> None:
        self.nodes = nodes
        self.permits = NodePermits(size)
        for node in nodes:
            node.permits = self.permits
        self.maps_read = 0
        self.map_answer: Any = None
        self.redirected: Any = b'redirected'
        self.busy_while_redirected: set[str] = set()
        self.is_known: Any = None
        self.slots_cache: dict[int, list[Node]] = {}
        self.nodes_manager = SimpleNamespace(
            get_node_from_slot=self._node_of, initialize=self._read_map, slots_cache=self.slots_cache
        )

    def client(self, timeout: float = 1000) -> ClusterClient:
        client: Any = self
        return ClusterClient(client, self.permits, timeout, lambda error: unavailable(error, 'the cluster', {}))

    async def initialize(self) -> None:
        await answer(self.is_known)

    def get_primaries(self) -> Sequence[Node]:
        return self.nodes

    def _node_of(self, slot: int) -> Node:
        return self.slots_cache[slot][0]

    async def _read_map(self) -> None:
        self.maps_read += 1
        await answer(self.map_answer)

    async def execute_command(self, *command: Any) -> Any:
        self.busy_while_redirected = {name for name, permits in self.permits.items() if permits.locked()}
        return await answer(self.redirected)

    def has(self, **keys: Node) -> Cluster:
        """Put the slots of keys on nodes."""
        self.slots_cache.update({key_slot(key.encode()): [node] for key, node in keys.items()})
        return self

    def is_idle(self) -> bool:
        """Whether no permit is held, and none was given back twice."""
        return all(permits._value == self.permits._size for permits in self.permits.values())


def get(*keys: str) -> list[tuple[str, str]]:
    return [('GET', key) for key in keys]


# Finding the nodes


async def test_whether_the_nodes_are_known_and_who_has_a_slot_is_told_from_the_map() -> None:
    node = Node('a:1')
    cluster = Cluster(node)
    assert cluster.client().knows_nodes() is False
    cluster.has(k=node)
    cluster.slots_cache[key_slot(b'k')].append(Node('replica:1'))
    cluster.slots_cache[5] = []
    assert cluster.client().knows_nodes() is True
    assert [cluster.client().owner(slot) for slot in (key_slot(b'k'), 5, 6)] == ['a:1', None, None]


@pytest.mark.parametrize(
    'call',
    [
        lambda client: client.find_nodes(),
        lambda client: client.exchange(get('k')),
        lambda client: client.scan(None),
        lambda client: client.masters(refresh=True),
        lambda client: client.one_for_each_node(['k']),
        lambda client: client.info(),
    ],
)
async def test_a_cluster_whose_nodes_cannot_be_found_is_away(call: Callable[[ClusterClient], Any]) -> None:
    cluster = Cluster()
    cluster.is_known = exceptions.RedisClusterException('Redis Cluster cannot be connected')
    with pytest.raises(StoreUnavailable, match='the cluster cannot be used: Redis Cluster cannot be conn') as raised:
        await call(cluster.client())
    assert raised.value.__suppress_context__


async def test_masters_are_asked_for_again_where_that_is_wanted() -> None:
    cluster = Cluster(Node('a:1'), Node('b:2'))
    assert [*await cluster.client().masters(refresh=False)] == ['a:1', 'b:2']
    assert cluster.maps_read == 0
    masters = await cluster.client().masters(refresh=True)
    assert cluster.maps_read == 1
    assert {name: make() for name, make in masters.items()} == {
        'a:1': {'host': 'a:1', 'protocol': 2},
        'b:2': {'host': 'b:2', 'protocol': 2},
    }


def test_a_connection_apart_speaks_resp2_and_is_made_as_those_of_its_source_are() -> None:
    assert apart(Node('a:1')) == {'host': 'a:1', 'protocol': 2}


async def test_of_some_keys_the_first_of_each_master_is_taken() -> None:
    one, other = Node('a:1'), Node('b:2')
    cluster = Cluster(one, other).has(a=one, b=other, c=one)
    assert await cluster.client().one_for_each_node(['nowhere', 'c', 'a', 'b']) == ['c', 'b']


async def test_info_is_asked_of_each_master_and_one_that_refuses_says_nothing() -> None:
    refused = exceptions.NoPermissionError('NOPERM')
    nodes = [Node('a:1', [{'role': 'master', 'maxmemory': 0}]), Node('b:2', [refused]), Node('c:3', [BROKEN])]
    cluster = Cluster(*nodes)
    assert await cluster.client().info() == {'a:1': {'role': 'master', 'maxmemory': '0'}, 'b:2': {}, 'c:3': {}}
    assert [node.asked for node in nodes] == [[('INFO',)]] * 3
    assert cluster.is_idle()


async def test_info_of_a_node_whose_connections_are_all_busy_is_not_waited_for_forever() -> None:
    cluster = Cluster(Node('a:1'), size=0)
    async with asyncio.timeout(10):
        with pytest.raises(Overloaded):
            await cluster.client(0.01).info()


# Pages


async def pages(cluster: Cluster, cursor: str | None = None) -> list[Any]:
    """All pages from a cursor on, with their cursors."""
    found: list[Any] = []
    while True:
        page, cursor = await cluster.client().scan(cursor, 'COUNT', 10)
        found.append((page, cursor))
        if cursor is None:
            return found


async def test_one_node_after_the_other_is_gone_through_in_the_order_of_their_names() -> None:
    one, other = Node('a:1', [(7, [b'k']), (0, [b'l'])]), Node('b:2', [(0, [b'm'])])
    cluster = Cluster(other, one)
    assert await pages(cluster) == [([b'k'], 'a:1 7'), ([b'l'], 'b:2 0'), ([b'm'], None)]
    assert one.asked == [('SCAN', '0', 'COUNT', 10), ('SCAN', '7', 'COUNT', 10)]
    assert other.asked == [('SCAN', '0', 'COUNT', 10)]
    assert cluster.is_idle()


async def test_a_cursor_of_a_node_that_is_gone_begins_anew() -> None:
    one, other = Node('a:1', [(0, [])]), Node('b:2', [(0, [])])
    cluster = Cluster(one, other)
    assert await pages(cluster, 'gone:3 9') == [([], 'b:2 0'), ([], None)]
    assert one.asked == [('SCAN', '0', 'COUNT', 10)]


@pytest.mark.parametrize('instead', [BROKEN, NEVER])
@pytest.mark.parametrize('of_the_map', [None, BROKEN, NEVER])
async def test_after_a_page_that_does_not_come_the_map_is_read_again(instead: Any, of_the_map: Any) -> None:
    cluster = Cluster(Node('a:1', [instead]))
    cluster.map_answer = of_the_map
    async with asyncio.timeout(10):
        with pytest.raises(StoreUnavailable, match='the cluster cannot be used') as raised:
            await cluster.client(0.01).scan(None)
    assert raised.value.__suppress_context__
    assert cluster.maps_read == 1
    assert cluster.is_idle()


async def test_a_page_of_a_node_whose_connections_are_all_busy_is_not_waited_for_forever() -> None:
    cluster = Cluster(Node('a:1'), size=0)
    async with asyncio.timeout(10):
        with pytest.raises(Overloaded):
            await cluster.client(0.01).scan(None)


async def test_a_map_that_cannot_be_read_again_is_kept() -> None:
    cluster = Cluster(Node('a:1'))
    for instead in (BROKEN, NEVER):
        cluster.map_answer = instead
        async with asyncio.timeout(10):
            assert [*await cluster.client(0.01).masters(refresh=True)] == ['a:1']


# Exchanges


async def test_each_node_gets_the_commands_of_its_slots_in_one_packet() -> None:
    one, other = Node('a:1', [b'1', b'3']), Node('b:2', [b'2'])
    cluster = Cluster(one, other).has(a=one, b=other, c=one)
    assert await cluster.client().exchange(get('a', 'b', 'c')) == [b'1', b'2', b'3']
    assert (one.sent, other.sent) == (
        [b'*2\r\n$3\r\nGET\r\n$1\r\na\r\n*2\r\n$3\r\nGET\r\n$1\r\nc\r\n'],
        [b'*2\r\n$3\r\nGET\r\n$1\r\nb\r\n'],
    )
    assert (one.released, other.released) == ([one], [other])
    assert cluster.is_idle()
    assert cluster.maps_read == 0


async def test_the_failure_of_one_node_is_not_that_of_another_and_says_which_it_was() -> None:
    one, other = Node('a:1', [b'1', b'3', BROKEN]), Node('b:2', [b'2'])
    cluster = Cluster(one, other).has(a=one, b=other, c=one, e=one)
    first, second, third, fourth = await cluster.client().exchange(get('a', 'b', 'c', 'e'))
    assert (first, second, third) == (b'1', b'2', b'3')
    assert isinstance(fourth, ReplyLost)
    assert str(fourth) == 'a:1: Connection closed by server'
    assert cluster.maps_read == 1


async def test_a_command_that_no_node_can_get_has_the_error_that_says_why() -> None:
    node = Node('a:1', [b'1'])
    cluster = Cluster(node).has(a=node)
    first, second = await cluster.client().exchange(get('a', 'nowhere'))
    assert first == b'1'
    assert isinstance(second, StoreUnavailable)
    assert f'no node of the cluster has slot {key_slot(b"nowhere")}' in str(second)
    assert cluster.maps_read == 1


@pytest.mark.parametrize(('by_settings', 'of_the_exchange'), [(0.01, None), (1000, 0.01)])
@pytest.mark.parametrize('of_the_map', [None, NEVER])
async def test_a_node_that_does_not_answer_is_waited_for_no_longer_than_allowed(
    by_settings: float, of_the_exchange: float | None, of_the_map: Any
) -> None:
    node = Node('a:1', [NEVER])
    cluster = Cluster(node).has(a=node)
    cluster.map_answer = of_the_map
    async with asyncio.timeout(10):
        [reply] = await cluster.client(by_settings).exchange(get('a'), of_the_exchange)
    assert isinstance(reply, ReplyLost)
    assert cluster.is_idle()


async def test_a_node_gets_no_more_at_once_than_it_has_connections() -> None:
    node = Node('a:1', [b'1', b'2'])
    cluster = Cluster(node).has(a=node)
    await cluster.permits['a:1'].acquire()
    waiting = [asyncio.ensure_future(cluster.client().exchange(get('a'))) for _ in range(2)]
    for _ in range(10):
        await asyncio.sleep(0)
    assert node.sent == []
    cluster.permits['a:1'].release()
    assert await asyncio.gather(*waiting) == [[b'1'], [b'2']]
    assert cluster.is_idle()


@pytest.mark.parametrize(
    ('reply', 'is_stale'),
    [
        (exceptions.ClusterDownError('CLUSTERDOWN'), True),
        (exceptions.NoPermissionError('NOPERM'), False),
        (exceptions.ResponseError('WRONGTYPE'), False),
        (b'1', False),
    ],
)
async def test_the_map_is_read_again_after_an_error_that_says_so(reply: Any, is_stale: bool) -> None:
    node = Node('a:1', [reply])
    cluster = Cluster(node).has(a=node)
    assert await cluster.client().exchange(get('a')) == [reply]
    assert cluster.maps_read == is_stale


# Redirections


def moved(name: str) -> exceptions.MovedError:
    return exceptions.MovedError(f'{key_slot(b"a")} {name}')


@pytest.mark.parametrize(
    ('redirection', 'busy'),
    [
        (moved('b:2'), {'a:1', 'b:2'}),
        (exceptions.AskError(f'{key_slot(b"a")} b:2'), {'a:1', 'b:2'}),
        (exceptions.TryAgainError('TRYAGAIN'), {'a:1'}),
    ],
)
async def test_redis_py_follows_a_redirection_while_the_nodes_that_it_leads_to_have_a_connection_free(
    redirection: Any, busy: set[str]
) -> None:
    one, other = Node('a:1', [redirection, b'2']), Node('b:2')
    cluster = Cluster(one, other).has(a=one, b=one)
    assert await cluster.client().exchange(get('a', 'b')) == [b'redirected', b'2']
    assert cluster.busy_while_redirected == busy
    assert cluster.is_idle()


async def test_a_redirection_to_a_node_whose_connections_are_all_busy_is_not_followed() -> None:
    one, other = Node('a:1', [moved('b:2')]), Node('b:2')
    cluster = Cluster(one, other).has(a=one)
    await cluster.permits['b:2'].acquire()
    async with asyncio.timeout(10):
        [reply] = await cluster.client().exchange(get('a'), 0.01)
    assert isinstance(reply, Overloaded)
    assert cluster.busy_while_redirected == set()


async def test_where_a_redirection_leads_is_waited_for_no_longer_than_allowed() -> None:
    one = Node('a:1', [moved('b:2')])
    cluster = Cluster(one).has(a=one)
    cluster.redirected = NEVER
    async with asyncio.timeout(10):
        [reply] = await cluster.client().exchange(get('a'), 0.01)
    assert isinstance(reply, ReplyLost)
    assert not isinstance(reply, KVSError)
    assert cluster.is_idle()


async def test_what_is_lost_where_a_redirection_leads_says_why() -> None:
    one = Node('a:1', [moved('b:2')])
    cluster = Cluster(one).has(a=one)
    cluster.redirected = BROKEN
    [reply] = await cluster.client().exchange(get('a'))
    assert isinstance(reply, ReplyLost)
    assert 'Connection closed by server' in str(reply)
