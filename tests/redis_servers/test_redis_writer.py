"""The retry loop of the writer, over replies that a test writes down: what became of each slot's batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from redis import exceptions

from learning_observer_kvs.errors import CrossSlot, KVSError, Overloaded, StoreUnavailable, WriteUnclear
from learning_observer_kvs.stores.redis.cluster_client import ClusterClient, Command
from learning_observer_kvs.stores.redis.connection import PinnedConnection, RedisConnection
from learning_observer_kvs.stores.redis.names import ClusterNames, Names, slot_of
from learning_observer_kvs.stores.redis.writer import RedisWriter
from learning_observer_kvs.stores.write_queue import WriteRequest

Replies = list[Any] | KVSError
"""What one exchange gives: a reply for each command, or an error that nothing was sent."""

LOST = exceptions.ConnectionError('Connection closed by server.')
NO_CONNECTION = StoreUnavailable('Redis at 127.0.0.1:1 cannot be used.')


class Script:
    """Stands for the servers: each exchange takes the next of the replies that are written down."""

    def __init__(self, *exchanges: Replies) -> None:
        self.exchanges = list(exchanges)
        self.sent: list[Sequence[Command]] = []
        self.laid = 0

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        if commands[0][0] == 'SET':  # the idempotency records are laid down
            self.laid += 1
            return [b'OK'] * len(commands)
        self.sent.append(commands)
        replies = self.exchanges.pop(0)
        if isinstance(replies, KVSError):
            raise replies
        assert len(replies) == len(commands)
        return replies


async def write(
    monkeypatch: pytest.MonkeyPatch, script: Script, keys: Sequence[str | tuple[str, ...]], *, clustered: bool = True
) -> list[WriteRequest]:
    """Write one batch, with a request for each key, or for the keys of a tuple."""
    monkeypatch.setattr('learning_observer_kvs.stores.redis.writer.MAX_PAUSE', 0)
    kind: Any = ClusterClient if clustered else PinnedConnection
    monkeypatch.setattr(kind, 'exchange', lambda _, commands: script.exchange(commands))
    connection = RedisConnection({'redis_host': '127.0.0.1', 'redis_port': 1, 'redis_cluster': clustered})
    names = (ClusterNames if clustered else Names)('')
    clock = iter(range(1_000_000))
    wrong_type: Callable[[str], Exception] = ValueError
    writer = RedisWriter(connection, names, wrong_type, 0, retry_timeout=20, now=lambda: next(clock) * 3.0)
    batch = [
        WriteRequest(dict.fromkeys((key,) if isinstance(key, str) else key, b'1'), {}, lambda outcome: None)
        for key in keys
    ]
    done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    writer.write_batch(batch, done.set_result)
    assert await done == batch
    await writer.close()
    await connection.close()
    assert script.exchanges == []
    return batch


def outcomes(batch: Sequence[WriteRequest]) -> list[Any]:
    return [type(request.error) if request.error else request.result for request in batch]


def sequences(script: Script) -> list[list[Any]]:
    """For each exchange the record and the sequence that each of its commands carries."""
    return [[(command[3], command[3 + int(command[2])]) for command in commands] for commands in script.sent]


async def test_the_batches_of_several_slots_travel_together_and_a_request_over_two_slots_is_not_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = Script([b'1', b'1'])
    batch = await write(monkeypatch, script, ['a', ('a', 'b'), 'b'])
    assert outcomes(batch) == [True, CrossSlot, True]


async def test_a_slot_that_was_answered_keeps_its_answer_when_the_retry_for_another_finds_no_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moving = exceptions.TryAgainError('TRYAGAIN')
    script = Script([b'1', moving], NO_CONNECTION)
    assert outcomes(await write(monkeypatch, script, ['a', 'b'])) == [True, StoreUnavailable]


async def test_a_retry_sends_the_slots_without_an_answer_alone_and_with_the_same_sequence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = Script([b'1', LOST], Overloaded('busy'), [b'1'])
    assert outcomes(await write(monkeypatch, script, ['a', 'b'])) == [True, True]
    [[_, second], *retries] = sequences(script)
    assert retries == [[second], [second]]


async def test_a_node_that_does_not_know_the_script_gets_its_text_and_the_others_are_not_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = Script([LOST, exceptions.NoScriptError('NOSCRIPT')], [b'1'], [exceptions.ResponseError('OOM')])
    assert outcomes(await write(monkeypatch, script, ['a', 'b'])) == [WriteUnclear, True]
    [[first, second], *retries] = sequences(script)
    assert retries == [[second], [first]]
    assert script.sent[1][0][0] == 'EVAL'


async def test_a_slot_whose_first_sending_is_refused_is_not_unclear_because_another_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refused = exceptions.ResponseError('OOM command not allowed')
    script = Script([LOST, refused], [b'1'])
    batch = await write(monkeypatch, script, ['a', 'b'])
    assert outcomes(batch) == [True, StoreUnavailable]
    assert 'raise maxmemory' in str(batch[1].error)


async def test_a_cluster_that_cannot_be_reached_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(StoreUnavailable('Redis at 127.0.0.1:1 cannot be used: LOADING.'))
    assert outcomes(await write(monkeypatch, script, ['a', 'b'])) == [StoreUnavailable] * 2


async def test_the_nodes_of_a_cluster_are_waited_for_and_a_single_server_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loading = exceptions.ResponseError('LOADING Redis is loading')
    assert outcomes(await write(monkeypatch, Script([loading], [b'1']), ['a'])) == [True]
    assert outcomes(await write(monkeypatch, Script([loading]), ['a'], clustered=False)) == [StoreUnavailable]


@pytest.mark.parametrize('clustered', [True, False], ids=['cluster', 'single server'])
@pytest.mark.parametrize('reply', [LOST, Overloaded('busy'), exceptions.ReadOnlyError('READONLY')])
async def test_a_write_whose_reply_was_lost_is_unclear_after_the_retry_timeout_whatever_comes_then(
    reply: Exception, clustered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    later: Replies = reply if isinstance(reply, KVSError) else [reply]
    script = Script([LOST], *[later] * 6)  # the clock goes on by three seconds with each, and the timeout is 20
    [request] = await write(monkeypatch, script, ['a'], clustered=clustered)
    assert isinstance(request.error, WriteUnclear)
    assert 'no reply came for 20 s. The write may or may not have been applied' in str(request.error)


async def test_a_writer_has_a_record_in_each_slot_and_one_on_a_single_server(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script([b'1', b'1'])
    await write(monkeypatch, script, ['a', 'b'])
    assert [slot_of(command[4]) for command in script.sent[0]] == [  # type: ignore[arg-type]
        slot_of('{' + str(command[3]).rpartition('{')[2]) for command in script.sent[0]
    ]
    script = Script([b'11'])
    await write(monkeypatch, script, ['a', 'b'], clustered=False)
    assert len(script.sent[0]) == 1
