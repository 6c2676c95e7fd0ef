"""A Redis Cluster of three nodes for the tests, on free loopback ports."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from redis import Redis

from tests.support.redis_server import RedisServer, until

SLOTS = 16384


class RedisNodes:
    """A context manager: starts three nodes, makes them a cluster, and stops them.

    Args:
        tolerated: seconds for which the nodes do without an answer of one before they take it to be gone; by default
            for longer than a busy machine lets one wait, or a test has one stand still.
    """

    def __init__(self, tolerated: float = 120) -> None:
        self._tolerated = tolerated
        self.nodes = [self._node() for _ in range(3)]
        self._stack = contextlib.ExitStack()

    def move_slot(self, slot: int) -> int:
        """Move a slot with its keys to the next node; return the number of keys."""
        with self.moving(slot, 100_000) as moved:
            return moved

    @contextlib.contextmanager
    def moving(self, slot: int, keys: int) -> Iterator[int]:
        """Begin to move a slot to the next node, and end it when the context ends.

        Args:
            slot: the slot.
            keys: how many of its keys are moved at the beginning; the others follow at the end.

        Yields:
            How many keys were moved at the beginning.
        """
        source = next(node for node in self.nodes if slot in self.slots(node))
        target = self.nodes[(self.nodes.index(source) + 1) % 3]
        with source.client() as giver, target.client() as taker:

            def move(keys: int) -> int:
                names = giver.execute_command('CLUSTER', 'GETKEYSINSLOT', slot, keys)
                if names:
                    giver.execute_command('MIGRATE', '127.0.0.1', target.port, '', 0, 5000, 'KEYS', *names)
                return len(names)

            taker.execute_command('CLUSTER', 'SETSLOT', slot, 'IMPORTING', _id(giver))
            giver.execute_command('CLUSTER', 'SETSLOT', slot, 'MIGRATING', _id(taker))
            yield move(keys)
            while move(100_000):
                pass
            for client in (taker, giver):
                client.execute_command('CLUSTER', 'SETSLOT', slot, 'NODE', _id(taker))

    @contextlib.contextmanager
    def replica_of(self, master: RedisServer) -> Iterator[RedisServer]:
        """Run one more node, which takes over if a master is gone."""
        with self._node() as replica, replica.client() as client, master.client() as owner:
            client.execute_command('CLUSTER', 'MEET', '127.0.0.1', master.port)
            name = _id(owner)
            until(lambda: _knows(client, name), 'the new node to know its master')
            client.execute_command('CLUSTER', 'REPLICATE', name)
            until(lambda: client.info('replication').get('master_link_status') == 'up', 'the replica')
            replica_id = _id(client)
            for node in self.nodes:
                with node.client() as other:
                    until(lambda: _knows(other, replica_id, 'slave'), 'the nodes to know the replica')
            yield replica

    def errors(self, kind: str) -> int:
        """Return how often the nodes have refused a command with an error that begins so."""
        total = 0
        for node in self.nodes:
            with node.client() as client:
                total += int(client.info('errorstats').get(f'errorstat_{kind}', {}).get('count', 0))
        return total

    def flush(self) -> None:
        """Remove every key."""
        for node in self.nodes:
            with node.client() as client:
                client.flushall()

    def __enter__(self) -> Self:
        for node in self.nodes:
            self._stack.enter_context(node)
        for number, node in enumerate(self.nodes):
            first, last = number * SLOTS // 3, (number + 1) * SLOTS // 3 - 1
            with node.client() as client:
                client.execute_command('CLUSTER', 'SET-CONFIG-EPOCH', number + 1)
                client.execute_command('CLUSTER', 'ADDSLOTSRANGE', first, last)
                if number:
                    client.execute_command('CLUSTER', 'MEET', '127.0.0.1', self.nodes[0].port)
        until(lambda: all(self.is_complete(node) for node in self.nodes), 'the nodes to become a cluster')
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _node(self) -> RedisServer:
        options = ['--cluster-enabled', 'yes', '--cluster-config-file', 'nodes.conf', '--cluster-require-full-coverage']
        return RedisServer(*options, 'no', '--cluster-node-timeout', str(int(self._tolerated * 1000)))

    def is_complete(self, node: RedisServer) -> bool:
        """Return whether a node sees all the others, with all the slots."""
        with node.client() as client:
            info = client.cluster('INFO')
            return info['cluster_state'] == 'ok' and int(info['cluster_slots_ok']) == SLOTS

    def slots(self, node: RedisServer) -> set[int]:
        """Return the slots that a node has, as it says itself."""
        with node.client() as client:
            mine: Any = client.cluster('NODES')
        bounds = [bounds for entry in mine.values() if 'myself' in entry['flags'] for bounds in entry['slots']]
        return {slot for some in bounds for slot in range(int(some[0]), int(some[-1]) + 1)}


def _knows(client: Redis, name: str, role: str = 'master') -> bool:
    nodes: Any = client.cluster('NODES')
    return any(entry['node_id'] == name and role in entry['flags'] for entry in nodes.values())


def _id(client: Redis) -> str:
    name: Any = client.cluster('MYID')
    return name.decode() if isinstance(name, bytes) else str(name)


def settings_of(nodes: RedisNodes) -> dict[str, Any]:
    """Return the settings that reach the nodes, with short timeouts."""
    return {
        'redis_host': '127.0.0.1',
        'redis_port': nodes.nodes[0].port,
        'redis_cluster': True,
        'redis_timeout': 0.5,
        'redis_connect_timeout': 0.5,
    }


def names_on(nodes: RedisNodes) -> list[set[str]]:
    """The Redis keys that each node has, also those of this package."""
    found = []
    for node in nodes.nodes:
        with node.client() as client:
            found.append({name.decode() for name in client.keys('*')})
    return found
