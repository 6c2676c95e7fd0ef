"""The retry loop of the writer, over replies that a test writes down: what became of each slot's batch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hiredis import pack_command
from redis import exceptions
from redis._parsers.base import BaseParser
from redis.exceptions import InvalidResponse

from learning_observer_kvs.errors import CrossSlot, KVSError, Overloaded, StoreUnavailable, WriteUnclear
from learning_observer_kvs.stores.redis import errors
from learning_observer_kvs.stores.redis.cluster_client import ClusterClient, Command
from learning_observer_kvs.stores.redis.connection import PinnedConnection, RedisConnection
from learning_observer_kvs.stores.redis.errors import refusal
from learning_observer_kvs.stores.redis.names import ClusterNames, Names, slot_of
from learning_observer_kvs.stores.redis.writer import RedisWriter
from learning_observer_kvs.stores.write_request import WriteRequest

Replies = list[Any] | KVSError
"""What one exchange gives: a reply for each command, or an error that nothing was sent."""

LOST = exceptions.ConnectionError('Connection closed by server.')
NO_CONNECTION = StoreUnavailable('Redis at 127.0.0.1:1 cannot be used.', retry=True)


class Script:
    """Stands for the servers: each exchange takes the next of the replies that are written down."""

    def __init__(self, *exchanges: Replies) -> None:
        self.exchanges = list(exchanges)
        self.sent: list[Sequence[Command]] = []
        self.timeouts: list[float | None] = []

    async def exchange(self, commands: Sequence[Command], timeout: float | None) -> list[Any]:
        if commands[0][0] == 'SET':  # the idempotency records are laid down
            return [b'OK'] * len(commands)
        self.sent.append(commands)
        replies = self.exchanges.pop(0)
        if isinstance(replies, KVSError):
            raise replies
        assert len(replies) == len(commands)
        self.timeouts.append(timeout)
        return replies


class Hanging(Script):
    """Servers that do not answer."""

    async def exchange(self, commands: Sequence[Command], timeout: float | None) -> list[Any]:
        self.sent.append(commands)
        await asyncio.get_running_loop().create_future()
        raise AssertionError


class Faulty(Script):
    """An exchange that raises what it should not, where the commands begin so."""

    def __init__(self, error: Exception, *commands: str) -> None:
        super().__init__()
        self.error = error
        self.commands = commands

    async def exchange(self, commands: Sequence[Command], timeout: float | None) -> list[Any]:
        if commands[0][0] in self.commands:
            raise self.error
        return await super().exchange(commands, timeout)


async def write(
    monkeypatch: pytest.MonkeyPatch, script: Script, keys: Sequence[str | tuple[str, ...]], *, clustered: bool = True
) -> list[WriteRequest]:
    """Write one batch, with a request for each key, or for the keys of a tuple, 20 s before their deadline."""
    batch = [
        WriteRequest(dict.fromkeys((key,) if isinstance(key, str) else key, b'1'), {}, lambda outcome: None, (), 20)
        for key in keys
    ]
    await write_requests(monkeypatch, script, batch, clustered=clustered)
    return batch


async def write_requests(
    monkeypatch: pytest.MonkeyPatch,
    script: Script,
    *batches: list[WriteRequest],
    clustered: bool = False,
    pause_after: Callable[[float], float] = lambda seconds: 0,
) -> None:
    """Write batches of requests one after the other, each until it is answered."""
    monkeypatch.setattr('learning_observer_kvs.stores.redis.writer.pause_after', pause_after)
    kind: Any = ClusterClient if clustered else PinnedConnection
    monkeypatch.setattr(kind, 'exchange', lambda _, commands, timeout: script.exchange(commands, timeout))
    connection = RedisConnection({'redis_host': '127.0.0.1', 'redis_port': 1, 'redis_cluster': clustered})
    names = (ClusterNames if clustered else Names)('')
    clock = iter(range(1_000_000))
    wrong_type: Callable[[str], Exception] = ValueError
    writer = RedisWriter(connection, names, wrong_type, 0, now=lambda: next(clock) * 3.0)
    for batch in batches:
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        writer.write_batch(batch, done.set_result)
        if isinstance(script, Hanging):
            while not script.sent:  # noqa: ASYNC110  (the writer tells nobody)
                await asyncio.sleep(0)
            await writer.close()
            assert done.done()
        assert await done == batch
    await writer.close()
    await connection.close()
    assert script.exchanges == []


def request(writes: dict[str, bytes | None], expected: dict[str, bytes | None], *refresh: str) -> WriteRequest:
    """Make a request whose deadline is at 20 s."""
    return WriteRequest(writes, expected, lambda outcome: None, refresh, 20)


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


async def test_a_slot_that_was_answered_keeps_its_answer_when_another_is_to_be_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moving = exceptions.TryAgainError('TRYAGAIN')
    batch = await write(monkeypatch, Script([b'1', moving]), ['a', 'b'])
    assert outcomes(batch) == [True, StoreUnavailable]
    assert isinstance(batch[1].error, StoreUnavailable)
    assert batch[1].error.retry


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
    script = Script([LOST, exceptions.NoScriptError('NOSCRIPT')], [b'1'], [exceptions.NoPermissionError('NOPERM')])
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


async def test_what_was_not_sent_is_given_back_to_the_queue_which_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = await write(monkeypatch, Script(NO_CONNECTION), ['a', 'b'])
    assert [request.error for request in batch] == [NO_CONNECTION] * 2


REFUSALS = {
    'LOADING Redis is loading the dataset in memory': True,
    'MASTERDOWN Link with MASTER is down': True,
    'NOREPLICAS Not enough good replicas to write.': True,
    'CLUSTERDOWN The cluster is down': True,
    'TRYAGAIN Multiple keys request during rehashing of slot': True,
    'READONLY You can not write against a read only replica.': True,
    'UNBLOCKED force unblock from blocking operation': True,
    'ERR max number of clients reached': True,
    'BUSY Redis is busy running a script.': True,
    'MISCONF Redis is configured to save RDB snapshots': True,
    'OOM command not allowed': True,
    'NOAUTH Authentication required.': False,
    'WRONGPASS invalid username-password pair': False,
    'NOPERM this user has no permissions': False,
    'MOVED 1 127.0.0.1:1': False,
    'ERR unknown command': False,
}
"""What a server may answer, and whether waiting may help."""


@pytest.mark.parametrize('clustered', [True, False], ids=['cluster', 'single server'])
@pytest.mark.parametrize('reply', REFUSALS)
async def test_a_refusal_is_an_error_that_says_whether_waiting_may_help(
    reply: str, clustered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    error: Exception = BaseParser.parse_error(reply)  # type: ignore[no-untyped-call]
    [request] = await write(monkeypatch, Script([refusal(error) or error]), ['a'], clustered=clustered)
    assert isinstance(request.error, StoreUnavailable)
    assert request.error.retry is REFUSALS[reply]


@pytest.mark.parametrize('clustered', [True, False], ids=['cluster', 'single server'])
@pytest.mark.parametrize('reply', [LOST, Overloaded('busy'), exceptions.ReadOnlyError('READONLY')])
async def test_a_write_whose_reply_was_lost_is_unclear_after_its_deadline_whatever_comes_then(
    reply: Exception, clustered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    later: Replies = reply if isinstance(reply, KVSError) else [reply]
    script = Script([LOST], *[later] * 7)  # the clock goes on by three seconds with each, and the deadline is at 20
    [request] = await write(monkeypatch, script, ['a'], clustered=clustered)
    assert isinstance(request.error, WriteUnclear)
    assert 'the reply to a write was lost (Connection closed by server)' in str(request.error)
    assert 'no reply came until the deadline. The write may or may not have been applied' in str(request.error)


async def test_a_lost_write_is_sent_again_at_once_and_then_after_pauses_and_answered_at_its_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, 'sleep', pause)
    script = Script(*[[LOST]] * 8)
    await write_requests(monkeypatch, script, [request({'a': b'1'}, {})], pause_after=lambda seconds: seconds + 100)
    assert pauses == [0, 100, 103, 106, 109, 112, 115]  # nothing more after the last try


async def test_no_try_lasts_longer_than_the_latest_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(*[[LOST]] * 8)
    await write(monkeypatch, script, ['a'], clustered=False)
    assert script.timeouts == [None, 5, 5, 5, 5, 5, 5, 2]


@pytest.mark.parametrize('reply', [None, 1, b'11', b'', [b'1'], InvalidResponse('Protocol error'), UnicodeError()])
async def test_a_reply_that_is_none_is_lost_and_the_batch_is_sent_again(
    reply: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = errors.lost(reply) if isinstance(reply, Exception) else reply
    script = Script([lost], [b'1'])
    assert outcomes(await write(monkeypatch, script, ['a'], clustered=False)) == [True]
    [first, second] = sequences(script)
    assert first == second


async def test_requests_of_a_lost_batch_are_answered_at_their_own_deadlines(monkeypatch: pytest.MonkeyPatch) -> None:
    early: list[Any] = []
    deadlines = iter([6, 20])

    class Request(WriteRequest):
        def __init__(self, writes: Any, expected: Any, on_done: Any, refresh: Any, deadline: float) -> None:
            super().__init__(writes, expected, on_done, refresh, next(deadlines))

        def answer_early(self, outcome: Exception) -> None:
            early.append((next(iter(self.writes)), type(outcome), len(script.sent)))
            super().answer_early(outcome)

    monkeypatch.setattr(f'{__name__}.WriteRequest', Request)
    script = Script(*[[LOST]] * 4, [b'11'])
    assert outcomes(await write(monkeypatch, script, ['a', 'b'], clustered=False)) == [True, True]
    assert early == [('a', WriteUnclear, 3)]


async def test_slots_that_are_given_up_at_their_deadlines_leave_the_others_to_theirs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    early = [WriteRequest({key: b'1'}, {}, lambda outcome: None, (), 6) for key in 'ac']
    script = Script(*[[LOST] * 3] * 3, [b'1'])
    await write_requests(monkeypatch, script, [early[0], later := request({'b': b'1'}, {}), early[1]], clustered=True)
    assert outcomes([*early, later]) == [WriteUnclear, WriteUnclear, True]
    *_, [_, lost, _], [again] = sequences(script)
    assert again == lost


@pytest.mark.parametrize('clustered', [True, False], ids=['cluster', 'single server'])
async def test_what_cannot_be_sent_fails_its_own_request_alone(
    clustered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Packing(Script):
        async def exchange(self, commands: Sequence[Command], timeout: float | None) -> list[Any]:
            for command in commands:
                pack_command(tuple(command))  # type: ignore[arg-type]
            return await super().exchange(commands, timeout)

    script = Packing([b'1', b'1'] if clustered else [b'11'])
    batch = await write(monkeypatch, script, ['a', '\ud800', 'b'], clustered=clustered)
    assert outcomes(batch) == [True, UnicodeEncodeError, True]


async def test_a_writer_has_a_record_in_each_slot_and_one_on_a_single_server(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script([b'1', b'1'])
    await write(monkeypatch, script, ['a', 'b'])
    assert [slot_of(command[4]) for command in script.sent[0]] == [  # type: ignore[arg-type]
        slot_of('{' + str(command[3]).rpartition('{')[2]) for command in script.sent[0]
    ]
    script = Script([b'11'])
    await write(monkeypatch, script, ['a', 'b'], clustered=False)
    assert len(script.sent[0]) == 1


@pytest.mark.parametrize('clustered', [True, False])
async def test_a_batch_that_is_under_way_when_a_writer_is_closed_is_unclear_once_that_is_done(
    clustered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = await write(monkeypatch, Hanging(), ['a', 'b'], clustered=clustered)
    assert outcomes(batch) == [WriteUnclear] * 2
    assert 'the store was closed' in str(batch[0].error)


@pytest.mark.parametrize('commands', [('SET', 'EVALSHA'), ('EVALSHA',)], ids=['at once', 'after the records'])
@pytest.mark.parametrize('error', [LookupError('a fault'), TypeError('no text is the cause')], ids=repr)
async def test_an_error_that_no_server_sent_is_that_of_each_request(
    error: Exception, commands: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = await write(monkeypatch, Faulty(error, *commands), ['a', 'b'])
    assert [request.error for request in batch] == [error] * 2


async def test_a_text_of_two_keys_is_sent_once(monkeypatch: pytest.MonkeyPatch) -> None:
    text = b'x' * 1000
    script = Script([b'111'])
    await write_requests(
        monkeypatch,
        script,
        [
            request({'a': text, 'b': text}, {'a': None}),
            request({'c': text}, {}),
            request({'d': b'1', 'e': text, 'f': text}, {}),
        ],
    )
    [[command]] = script.sent
    assert [part for part in command if part in (text, b'1')] == [text, text, b'1', text]


async def test_a_write_of_very_many_keys_is_put_together_in_a_time_that_grows_with_their_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = tuple(f'k{number}' for number in range(800_000))
    began = time.process_time()
    assert outcomes(await write(monkeypatch, Script([b'1']), [keys], clustered=False)) == [True]
    assert time.process_time() - began < 8  # seconds of computing
