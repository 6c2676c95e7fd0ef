"""The queues of the nodes of a cluster, over a map of slots that a test draws."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from typing import Any

import pytest

from learning_observer_kvs.errors import Overloaded, StoreUnavailable
from learning_observer_kvs.stores import write_queue
from learning_observer_kvs.stores.redis.names import ClusterNames, Names, slot_of
from learning_observer_kvs.stores.redis.node_queues import NodeQueues
from learning_observer_kvs.stores.write_queue import OnBatchDone, WriteQueue
from learning_observer_kvs.stores.write_request import WriteBatch, WriteRequest
from tests.support.watched import until

NAMES = ClusterNames('')
AWAY = StoreUnavailable('away', retry=True)


def slot(key: str) -> int:
    return slot_of(NAMES.redis_key(key))


class Cluster:
    """Stands for a connection and its client.

    Attributes:
        owners: the node of each key that has one.
        is_known: whether the map of slots has been read.
        reading: the map is read until this is done, with its outcome.
        error: raised in place of a client.
        clients, reads: how often a client was made, and the map was read.
    """

    def __init__(self, *, is_known: bool = True) -> None:
        self.owners = {'a1': 'A', 'a2': 'A', 'b1': 'B', 'b2': 'B'}
        self.is_known = is_known
        self.reading: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.error: Exception | None = None
        self.clients = self.reads = 0

    def cluster_client(self) -> Any:
        self.clients += 1
        if self.error is not None:
            raise self.error
        return self

    def knows_nodes(self) -> bool:
        return self.is_known

    async def find_nodes(self) -> None:
        self.reads += 1
        await self.reading
        self.is_known = True

    def owner(self, number: int) -> str | None:
        return {slot(key): name for key, name in self.owners.items()}.get(number)


class Writes:
    """Queues whose batches a test finishes.

    Attributes:
        batches: what each queue has sent, by its number.
        outcomes: by key.
    """

    def __init__(self, cluster: Cluster, names: Names = NAMES) -> None:
        self.batches: list[tuple[int, list[str], WriteBatch, OnBatchDone]] = []
        self.outcomes: dict[str, Any] = {}
        self.made = 0
        connection: Any = cluster
        self.queues = NodeQueues(self._make, lambda: connection, lambda: names, lambda: 'a test')

    def _make(self) -> WriteQueue:
        number, self.made = self.made, self.made + 1

        def begin(batch: WriteBatch, on_batch_done: OnBatchDone) -> None:
            self.batches.append((number, [key_of(request) for request in batch], batch, on_batch_done))

        return WriteQueue(begin, lambda: 'a test', lambda: 100, 1000)

    def add(self, key: Any, size: int = 10, **options: Any) -> None:
        def on_done(outcome: Any) -> None:
            self.outcomes[key] = outcome

        self.queues.add(WriteRequest({key: b'x' * (size - len(key))}, {}, on_done, **options))

    def sent(self) -> list[tuple[int, list[str]]]:
        """What was sent since the last call."""
        new = [(number, keys) for number, keys, _, _ in self.batches]
        self._done, self.batches = self.batches, []
        return new

    def finish(self, error: Exception | None = None) -> None:
        """Finish what :meth:`sent` returned last."""
        while self._done:
            _, _, batch, on_batch_done = self._done.pop(0)
            for request in batch:
                request.error = error
            on_batch_done(batch)
            del batch, on_batch_done


def key_of(request: WriteRequest) -> str:
    return next(iter((*request.writes, *request.expected, *request.refresh)), '')


async def test_each_node_has_a_queue_that_waits_for_no_other() -> None:
    writes = Writes(Cluster())
    for key in ('a1', 'b1', 'a2', 'b2'):
        writes.add(key)
    await asyncio.sleep(0)
    assert writes.sent() == [(0, ['a1', 'a2']), (1, ['b1', 'b2'])]
    writes.add('a1')
    assert writes.queues.backlog() == (1, 10)
    writes.finish()
    assert writes.sent() == [(0, ['a1'])]
    assert writes.made == 2


async def test_a_slot_that_moves_keeps_its_queue_until_its_requests_are_done() -> None:
    cluster = Cluster()
    writes = Writes(cluster)
    writes.add('a1')
    await asyncio.sleep(0)
    assert writes.sent() == [(0, ['a1'])]
    cluster.owners['a1'] = cluster.owners['a2'] = 'B'
    writes.add('a1')
    writes.add('a2')
    await asyncio.sleep(0)
    assert writes.sent() == [(1, ['a2'])]
    assert writes.queues.backlog() == (1, 10)


async def test_a_slot_has_the_queue_of_its_new_node_once_nothing_of_it_is_in_the_old_one() -> None:
    cluster = Cluster()
    writes = Writes(cluster)
    for key in ('a1', 'b1'):
        writes.add(key)
    await asyncio.sleep(0)
    assert writes.sent() == [(0, ['a1']), (1, ['b1'])]
    writes.finish()
    gc.collect()
    cluster.owners['a1'] = 'B'
    writes.add('a1')
    await asyncio.sleep(0)
    assert writes.sent() == [(1, ['a1'])]


@pytest.mark.parametrize('fails', ['', 'the map', 'the client'])
async def test_what_comes_before_the_nodes_are_known_waits_for_them_and_is_tried_all_the_same(fails: str) -> None:
    cluster = Cluster(is_known=False)
    writes = Writes(cluster)
    for key in ('b1', 'a1', 'a2'):
        writes.add(key)
    writes.add('b1', 7)
    await asyncio.sleep(0)
    assert writes.queues.backlog() == (4, 37)
    assert cluster.reads == 1
    assert writes.sent() == []
    drained = asyncio.ensure_future(writes.queues.drain())
    if fails == 'the map':
        cluster.reading.set_exception(AWAY)
    else:
        if fails:
            cluster.error = AWAY
        cluster.reading.set_result(None)
    await until(lambda: bool(writes.batches))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not drained.done()
    assert writes.sent() == ([(0, ['b1', 'a1', 'a2', 'b1'])] if fails else [(0, ['b1', 'b1']), (1, ['a1', 'a2'])])
    assert writes.queues.backlog() == (0, 0)
    writes.finish()
    await drained
    assert cluster.reads == 1


async def test_a_client_that_cannot_be_made_is_no_error_of_what_is_added() -> None:
    cluster = Cluster()
    cluster.error = ValueError('settings')
    writes = Writes(cluster)
    writes.add('a1')
    await until(lambda: bool(writes.batches))
    assert writes.sent() == [(0, ['a1'])]


@pytest.mark.parametrize('names', [NAMES, Names('')], ids=['cluster', 'single server'])
async def test_what_has_no_slot_of_a_cluster_is_in_one_queue(names: Names) -> None:
    writes = Writes(Cluster(), names)
    if names is NAMES:
        writes.add('\ud800')
        writes.add(b'bytes')
        writes.queues.add(WriteRequest({}, {}, lambda outcome: None))
    else:
        for key in ('a1', 'b1'):
            writes.add(key)
    await asyncio.sleep(0)
    assert writes.sent() == [(0, ['\ud800', b'bytes', ''] if names is NAMES else ['a1', 'b1'])]


async def test_a_slot_without_a_node_is_in_the_queue_of_what_has_none() -> None:
    writes = Writes(Cluster())
    for key in ('unknown', '\ud800', 'a1'):
        writes.add(key)
    await asyncio.sleep(0)
    assert writes.sent() == [(0, ['unknown', '\ud800']), (1, ['a1'])]


@pytest.mark.parametrize('kind', ['expected', 'refresh'])
async def test_a_request_is_in_the_queue_of_its_first_key_whatever_it_does_with_it(kind: str) -> None:
    writes = Writes(Cluster())
    writes.add('a1')
    expected: Any = {'b1': None} if kind == 'expected' else {}
    writes.queues.add(WriteRequest({}, expected, lambda outcome: None, ('b1',) if kind == 'refresh' else ()))
    await asyncio.sleep(0)
    assert writes.sent() == [(0, ['a1']), (1, ['b1'])]


@pytest.mark.parametrize('is_known', [True, False])
@pytest.mark.parametrize(('bound', 'most'), [('MAX_QUEUED', 3), ('MAX_QUEUED_BYTES', 30)])
async def test_what_waits_in_all_queues_is_bounded_together(
    bound: str, most: int, is_known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_queue, bound, most)
    writes = Writes(Cluster(is_known=is_known))
    writes.add('b2', 40)  # one may be larger
    with pytest.raises(Overloaded) if bound == 'MAX_QUEUED_BYTES' else contextlib.nullcontext():
        writes.add('b2', 40)
    writes = Writes(Cluster(is_known=is_known))
    for key in ('a1', 'b1', 'a2'):
        writes.add(key)
    with pytest.raises(Overloaded, match=r'^3 .* a test'):
        writes.add('b2')


async def test_closing_answers_what_waits_and_what_comes_later_is_written() -> None:
    cluster = Cluster(is_known=False)
    writes = Writes(cluster)
    writes.add('a1')
    await asyncio.sleep(0)
    writes.queues.close('closed.')
    assert [str(outcome) for outcome in writes.outcomes.values()] == ['closed.']
    assert isinstance(writes.outcomes.pop('a1'), StoreUnavailable)
    assert writes.queues.backlog() == (0, 0)
    await writes.queues.drain()
    await asyncio.sleep(0)
    assert cluster.reading.cancelled()
    cluster.is_known = True
    writes.add('a1')
    writes.add('b1')
    writes.queues.close('closed again.')
    assert [str(outcome) for outcome in writes.outcomes.values()] == ['closed again.'] * 2
    writes.outcomes.clear()
    writes.add('b1')
    await asyncio.sleep(0)
    assert writes.sent() == [(1, ['b1'])]
    await asyncio.sleep(0)
    assert writes.outcomes == {}


async def test_a_cluster_is_away_where_one_of_its_nodes_is() -> None:
    writes = Writes(Cluster())
    writes.add('a1', deadline=1e12)
    writes.add('b1')
    await asyncio.sleep(0)
    assert not writes.queues.is_away()
    [of_a, of_b] = [writes.batches.pop(0), writes.batches.pop(0)]
    of_a[2][0].error = AWAY
    of_a[3](of_a[2])
    assert writes.queues.is_away()
    of_b[3](of_b[2])
    writes.queues.close('closed.')
    assert not writes.queues.is_away()


async def test_what_its_queue_rejects_once_the_nodes_are_known_ends_with_that(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(is_known=False)
    writes = Writes(cluster)
    for key in ('a1', 'a2'):
        writes.add(key)
    monkeypatch.setattr(write_queue, 'MAX_QUEUED', 1)
    cluster.reading.set_result(None)
    await until(lambda: bool(writes.batches))
    assert writes.sent() == [(0, ['a1'])]
    assert isinstance(writes.outcomes['a2'], Overloaded)


async def test_what_its_queue_cannot_take_because_its_node_is_away_ends_with_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def add(queue: WriteQueue, request: WriteRequest) -> None:
        raise AWAY

    cluster = Cluster(is_known=False)
    writes = Writes(cluster)
    writes.add('a1')
    monkeypatch.setattr(WriteQueue, 'add', add)
    cluster.reading.set_result(None)
    await until(lambda: bool(writes.outcomes))
    assert writes.outcomes == {'a1': AWAY}


async def test_requests_of_one_slot_keep_their_order_where_another_call_finds_the_nodes_meanwhile() -> None:
    cluster = Cluster(is_known=False)
    writes = Writes(cluster)
    requests = [WriteRequest({'a1': text}, {}, lambda outcome: None) for text in (b'1', b'2')]
    for request in requests:
        writes.queues.add(request)
        cluster.is_known = True
    await asyncio.sleep(0)
    assert writes.sent() == []
    cluster.reading.set_result(None)
    await until(lambda: bool(writes.batches))
    [(_, _, batch, _)] = writes.batches
    assert batch == requests
    assert requests[0].assignment is requests[1].assignment  # the slot keeps its queue until both are done


async def test_a_client_is_made_once_for_all_that_comes_in_one_tick() -> None:
    cluster = Cluster()
    writes = Writes(cluster)
    for expected in (1, 2):
        for key in ('a1', 'b1', 'unknown'):
            writes.add(key)
        assert cluster.clients == expected
        await asyncio.sleep(0)
        writes.sent()
        writes.finish()
        gc.collect()
