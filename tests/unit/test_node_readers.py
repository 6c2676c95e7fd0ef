"""The readers of the nodes of a cluster, over a map of slots that a test draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from learning_observer_kvs.errors import Overloaded, StoreUnavailable
from learning_observer_kvs.stores.redis import node_readers, reader
from learning_observer_kvs.stores.redis.names import ClusterNames, slot_of
from learning_observer_kvs.stores.redis.node_readers import NodeReaders

NAMES = ClusterNames('')
A1, A2, B1, NONE = map(NAMES.redis_key, ('a1', 'a2', 'b1', 'unknown'))


class Cluster:
    """Stands for a connection and its client; the nodes are known once they were looked for."""

    def __init__(self) -> None:
        self.searches = 0

    def cluster_client(self) -> Any:
        return self

    def address(self) -> str:
        return 'a test'

    def knows_nodes(self) -> bool:
        return self.searches > 0

    async def find_nodes(self) -> None:
        self.searches += 1

    def owner(self, slot: int) -> str | None:
        return {slot_of(A1): 'A', slot_of(A2): 'A', slot_of(B1): 'B'}.get(slot)


class Reader:
    """Stands for the reader of one node; each key is answered by itself and the number of its reader."""

    made: list[Reader] = []

    def __init__(self, connection: Any, timeout: float | None) -> None:
        self.connection = connection
        self.timeout = timeout
        self.calls: list[list[str]] = []
        self.waiting = (0, 0)
        self.closed: list[float] = []
        self.number = len(Reader.made)
        Reader.made.append(self)

    async def read(self, redis_keys: Sequence[str]) -> list[Any]:
        self.calls.append(list(redis_keys))
        return [(self.number, redis_key) for redis_key in redis_keys]

    def backlog(self) -> tuple[int, int]:
        return self.waiting

    async def close(self, timeout: float) -> None:
        self.closed.append(timeout)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Reader]:
    """The readers that were made."""
    monkeypatch.setattr(node_readers, 'RedisReader', Reader)
    monkeypatch.setattr(Reader, 'made', [])
    return Reader.made


def readers_of(cluster: Cluster, timeout: float | None = None) -> NodeReaders:
    connection: Any = cluster
    return NodeReaders(connection, timeout)


async def test_each_node_is_asked_for_its_keys_and_the_answers_are_in_order(made: list[Reader]) -> None:
    cluster = Cluster()
    readers = readers_of(cluster, 0.5)
    assert await readers.read([A1, B1, A2, A1]) == [(0, A1), (1, B1), (0, A2), (0, A1)]
    assert await readers.read([B1]) == [(1, B1)]
    assert [each.calls for each in made] == [[[A1, A2, A1]], [[B1], [B1]]]
    assert [(each.connection, each.timeout) for each in made] == [(cluster, 0.5)] * 2
    assert cluster.searches == 1
    await readers.close(3)
    assert [each.closed for each in made] == [[3], [3]]


async def test_keys_without_a_node_or_a_slot_have_one_reader(made: list[Reader]) -> None:
    readers = readers_of(Cluster())
    wanted = [NONE, A1, 'x\ud800']
    assert await readers.read(wanted) == [(0, NONE), (1, A1), (0, 'x\ud800')]


@pytest.mark.parametrize(('bound', 'most'), [('MAX_QUEUED_KEYS', 10), ('MAX_QUEUED_BYTES', 10 * len(A1))])
async def test_keys_that_wait_for_all_nodes_are_bounded_together(
    bound: str, most: int, made: list[Reader], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, bound, most)
    readers = readers_of(Cluster())
    await readers.read([A1, B1, *[A1] * 20])  # nothing waits
    for each in made:
        each.waiting = (4, 4 * len(A1))
    await readers.read([A1, B1])
    with pytest.raises(Overloaded, match=r'^8 keys.*a test') as raised:
        await readers.read([A1, B1, A1])
    assert not isinstance(raised.value, StoreUnavailable)
