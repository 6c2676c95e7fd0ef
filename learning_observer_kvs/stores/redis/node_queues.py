"""The writes to a cluster, in a queue for each node, so that a node that does not answer holds up only its own.

A request goes to the queue of the node that has its slot. A slot keeps to its queue as long as one of its requests is
in there, also when it moves to another node meanwhile: so a slot never has two batches in flight, and its requests keep
their order. Where they are sent is not decided by the queue, but by the map of slots and by redirections.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from itertools import chain
from weakref import WeakValueDictionary

from learning_observer_kvs.errors import Overloaded, StoreUnavailable
from learning_observer_kvs.stores import write_queue
from learning_observer_kvs.stores.redis.cluster_client import ClusterClient
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.names import ClusterNames, Names, slot_of
from learning_observer_kvs.stores.redis.tick_client import TickClient
from learning_observer_kvs.stores.write_queue import RequestQueue, WriteQueue
from learning_observer_kvs.stores.write_request import WriteRequest

_NO_NODE = ''
"""In place of a node's name: for requests that fail before they are sent, and slots that no node is known to have."""


class _Assignment:
    """The queue of a slot; each request of the slot that is not done keeps it alive."""

    __slots__ = ('__weakref__', 'queue')

    def __init__(self, queue: WriteQueue) -> None:
        self.queue = queue


class NodeQueues(RequestQueue):
    """The writes of one store in one event loop.

    Args:
        make_queue: makes a queue; all give their batches to the same writer.
        connection: returns the connection to the cluster.
        names: returns the Redis keys of the store. The store may have come to another server since this was made; if
            that is not a cluster, everything is in one queue.
        location: returns where things are written, for messages.
    """

    def __init__(
        self,
        make_queue: Callable[[], WriteQueue],
        connection: Callable[[], RedisConnection],
        names: Callable[[], Names],
        location: Callable[[], str],
    ) -> None:
        self._make_queue = make_queue
        self._client = TickClient(connection)
        self._names = names
        self._location = location
        self._loop = asyncio.get_running_loop()
        self._queues: dict[str, WriteQueue] = {}
        self._assignments: WeakValueDictionary[int, _Assignment] = WeakValueDictionary()
        self._unassigned: list[tuple[int, WriteRequest]] = []  # with their slots, until the nodes are known
        self._unassigned_bytes = 0
        self._search: asyncio.Task[None] | None = None

    def add(self, request: WriteRequest) -> None:
        """Have a request carried out; see :meth:`RequestQueue.add`."""
        count, size = self.backlog()
        if count and (count >= write_queue.MAX_QUEUED or size + request.size > write_queue.MAX_QUEUED_BYTES):
            raise write_queue.overloaded(count, size, self._location())
        slot = self._slot(request)
        if slot is None:
            self._queue_of(_NO_NODE).add(request)
        elif (assignment := self._assignments.get(slot)) is not None:
            _add(request, assignment)
        elif self._search is None and (client := self._client_that_knows_nodes()) is not None:
            _add(request, self._assign(slot, client))
        else:
            self._unassigned.append((slot, request))
            self._unassigned_bytes += request.size
            if self._search is None:
                self._search = self._loop.create_task(self._find_nodes())

    def backlog(self) -> tuple[int, int]:
        """Return what waits to be sent; see :meth:`RequestQueue.backlog`."""
        count, size = len(self._unassigned), self._unassigned_bytes
        for queue in self._queues.values():
            queued, queued_bytes = queue.backlog()
            count += queued
            size += queued_bytes
        return count, size

    def is_away(self) -> bool:
        """Return whether a node was away when it was tried last; see :meth:`RequestQueue.is_away`."""
        return any(queue.is_away() for queue in self._queues.values())

    async def drain(self) -> None:
        """Wait until all is done; see :meth:`RequestQueue.drain`."""
        while self._search is not None:
            await asyncio.wait([self._search])
        await asyncio.gather(*(queue.drain() for queue in self._queues.values()))

    def close(self, why: str) -> None:
        """Give what waits an error; see :meth:`RequestQueue.close`."""
        if self._search is not None:
            self._search.cancel()
            self._search = None
        for _, request in self._take_unassigned():
            request.on_done(StoreUnavailable(why))
        for queue in list(self._queues.values()):
            queue.close(why)

    def _slot(self, request: WriteRequest) -> int | None:
        """Return the slot of a request; one over several, or with a key that cannot be sent, fails in any queue."""
        names = self._names()
        if isinstance(names, ClusterNames):
            for key in chain(request.writes, request.expected, request.refresh):
                try:
                    return slot_of(names.redis_key(key))
                except (TypeError, ValueError):
                    return None
        return None

    def _assign(self, slot: int, client: ClusterClient | None) -> _Assignment:
        """Choose the queue of a slot that has none of its requests in any."""
        owner = None if client is None else client.owner(slot)
        assignment = self._assignments[slot] = _Assignment(self._queue_of(owner or _NO_NODE))
        return assignment

    def _queue_of(self, name: str) -> WriteQueue:
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = self._make_queue()
        return queue

    # Which nodes there are

    def _client_that_knows_nodes(self) -> ClusterClient | None:
        try:
            client = self._client.get()
        except Exception:  # the settings make no client; what is to be sent fails with that
            return None
        return client if client.knows_nodes() else None

    async def _find_nodes(self) -> None:
        """Have the nodes found before the first requests get queues; where that fails, they are tried all the same."""
        with contextlib.suppress(Exception):  # each request finds that out, and waits as long as it is to
            await self._client.get().find_nodes()
        self._search = None
        client = self._client_that_knows_nodes()
        for slot, request in self._take_unassigned():
            try:
                _add(request, self._assignments.get(slot) or self._assign(slot, client))
            except (Overloaded, StoreUnavailable) as error:
                request.on_done(error)

    def _take_unassigned(self) -> list[tuple[int, WriteRequest]]:
        taken, self._unassigned, self._unassigned_bytes = self._unassigned, [], 0
        return taken


def _add(request: WriteRequest, assignment: _Assignment) -> None:
    request.assignment = assignment
    assignment.queue.add(request)
