"""What the writer makes of a reply, over replies that a test writes down: outcomes of requests, records and scripts."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Sequence
from typing import Any

import pytest
from hiredis import pack_command
from redis import exceptions

from learning_observer_kvs.errors import KVSError, StoreUnavailable, WriteUnclear
from learning_observer_kvs.stores.redis.cluster_client import Command
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.names import ClusterNames, Names
from learning_observer_kvs.stores.redis.scripts import NO_RECORD
from learning_observer_kvs.stores.redis.scripts import Script as LuaScript
from learning_observer_kvs.stores.redis.writer import RedisWriter
from learning_observer_kvs.stores.write_request import WriteRequest
from tests.redis_servers.test_redis_writer import (
    LOST,
    NO_CONNECTION,
    Script,
    outcomes,
    request,
    sequences,
    write,
    write_requests,
)
from tests.support.redis_server import RedisServer

REFUSED = exceptions.NoPermissionError('NOPERM')
NO_SCRIPT = exceptions.NoScriptError('NOSCRIPT No matching script.')


async def test_a_key_of_another_type_fails_its_own_request_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = [request({'a': b'1'}, {}), request({}, {'b': b'1', 'c': None})]
    await write_requests(monkeypatch, Script([b'1T']), batch)
    assert outcomes(batch) == [True, ValueError]
    assert str(batch[1].error) == 'b'


@pytest.mark.parametrize(('text', 'command'), [(None, 'UNLINK'), (b'1', 'PEXPIRE')])
async def test_a_request_that_the_server_refuses_names_the_command_to_allow(
    text: bytes | None, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = [request({'a': text}, {}, 'b')]
    await write_requests(monkeypatch, Script([b'R']), batch)
    assert outcomes(batch) == [StoreUnavailable]
    assert f'it refuses the command {command}; nothing was written' in str(batch[0].error)


async def test_a_request_without_a_key_is_applied_and_sent_to_no_node(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = [request({}, {})]
    await write_requests(monkeypatch, Script(), batch, clustered=True)
    assert outcomes(batch) == [True]


@pytest.mark.parametrize('clustered', [True, False], ids=['cluster', 'single server'])
async def test_what_is_sent_with_a_new_record_is_sent_again_with_the_same_one(
    clustered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Script([NO_RECORD], [LOST], [b'1'])
    assert outcomes(await write(monkeypatch, script, ['a'], clustered=clustered)) == [True]
    [[first], [second], [third]] = sequences(script)
    assert first[0] != second[0]
    assert second == third


async def test_after_a_write_whose_record_is_gone_the_next_one_begins_with_a_new_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batches = [[request({'a': b'1'}, {})], [request({'a': b'2'}, {})]]
    script = Script([LOST], [NO_RECORD], [b'1'])
    await write_requests(monkeypatch, script, *batches)
    assert [outcomes(batch) for batch in batches] == [[WriteUnclear], [True]]
    assert 'was lost (Connection closed by server), and the idempotency record' in str(batches[0][0].error)
    [[first], [second], [third]] = sequences(script)
    assert first == second
    assert third[0] != first[0]


async def test_the_answers_of_other_slots_are_kept_where_the_record_of_one_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch = await write(monkeypatch, Script([NO_RECORD, LOST], [b'1'], [REFUSED]), ['a', 'b'])
    assert outcomes(batch) == [True, WriteUnclear]


class Recording(Script):
    """Servers with other replies to the commands that lay down records: those of the first exchange, of the second …"""

    def __init__(self, records: list[Any], *exchanges: Any) -> None:
        super().__init__(*exchanges)
        self.records = records

    async def exchange(self, commands: Sequence[Command], timeout: float | None) -> list[Any]:
        if commands[0][0] != 'SET':
            return await super().exchange(commands, timeout)
        reply = self.records.pop(0)
        if isinstance(reply, KVSError):
            raise reply
        return [reply] * len(commands)


async def test_a_slot_that_gets_no_new_record_leaves_the_others_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Recording([b'OK', NO_CONNECTION], [LOST, NO_RECORD], [b'1'])
    batch = await write(monkeypatch, script, ['a', 'b'])
    assert [request.error or request.result for request in batch] == [True, NO_CONNECTION]


@pytest.mark.parametrize('reply', [None, b'QUEUED', []])
async def test_nothing_is_sent_after_a_record_whose_reply_is_none(reply: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    [request] = await write(monkeypatch, Recording([reply]), ['a'], clustered=False)
    assert isinstance(request.error, StoreUnavailable)
    assert request.error.retry
    assert 'what came is not what Redis answers' in str(request.error)


@pytest.mark.parametrize('only', ['writes', 'expected', 'refresh'])
async def test_the_record_of_a_batch_is_in_its_slot_whatever_its_first_request_does(
    only: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Script([b'1'])
    kinds = {'writes': request({'a': b'1'}, {}), 'expected': request({}, {'a': b'1'}), 'refresh': request({}, {}, 'a')}
    await write_requests(monkeypatch, script, [kinds[only]], clustered=True)
    [[command]] = script.sent
    assert [ClusterNames('').redis_key('a')] == list(command[4:5])
    assert str(command[3]).startswith(str(command[4]).partition(':')[0])


async def test_a_lost_batch_is_sent_once_more_though_the_deadlines_of_its_requests_are_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for replies, outcome in [(b'1', True), (LOST, WriteUnclear)]:
        late = WriteRequest({'a': b'1'}, {}, lambda outcome: None)
        await write_requests(monkeypatch, Script([LOST], [replies]), [late])
        assert outcomes([late]) == [outcome]


async def test_a_batch_carries_its_sequence_and_that_of_the_last_one_that_was_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batches = [[request({'a': b'1'}, {})] for _ in range(4)]
    script = Script([b'1'], [b'1'], [LOST], [REFUSED], [b'1'])
    await write_requests(monkeypatch, script, *batches)
    carried = [command[3 + int(command[2]) :][:2] for [command] in script.sent]
    assert carried == [(1, 0), (2, 1), (3, 2), (3, 2), (4, 2)]
    assert 'was lost (Connection closed by server), and the server refused' in str(batches[2][0].error)


async def test_a_server_that_keeps_no_record_may_keep_one_later(monkeypatch: pytest.MonkeyPatch) -> None:
    [request] = await write(monkeypatch, Script([NO_RECORD], [NO_RECORD]), ['a'], clustered=False)
    assert isinstance(request.error, StoreUnavailable)
    assert request.error.retry
    assert 'removes idempotency records as soon as they are written' in str(request.error)


async def test_where_the_text_of_the_script_cannot_be_sent_the_answers_that_came_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch = await write(monkeypatch, Script([b'1', NO_SCRIPT], NO_CONNECTION), ['a', 'b'])
    assert [request.error or request.result for request in batch] == [True, NO_CONNECTION]


@pytest.mark.parametrize(('key', 'kind'), [('\ud800', UnicodeEncodeError), (b'a', TypeError)])
async def test_in_a_cluster_a_key_without_a_slot_fails_its_own_request_alone(
    key: Any, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = await write(monkeypatch, Script([b'1']), [(key,), 'a'])
    assert outcomes(batch) == [kind, True]


@pytest.mark.parametrize('unsendable', ['\ud800', ()], ids=['not in UTF-8', 'of another type'])
async def test_a_slot_without_a_record_is_not_the_cause_of_what_cannot_be_sent(
    unsendable: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OneFull(Script):
        """Servers of which that of ``a`` takes no record; what is sent to them is put into bytes."""

        async def exchange(self, commands: Sequence[Command], timeout: float | None) -> list[Any]:
            for command in commands:
                pack_command(tuple(command))  # type: ignore[arg-type]
            if commands[0][0] != 'SET':
                return [b'1'] * len(commands)
            tag = ClusterNames('').redis_key('a').partition(':')[0]
            return [full if str(command[1]).startswith(tag) else b'OK' for command in commands]

    full = exceptions.ResponseError('OOM command not allowed')
    batch = [request({'a': b'1'}, {}), request({'b': unsendable}, {}), request({'c': b'1'}, {})]
    await write_requests(monkeypatch, OneFull(), batch, clustered=True)
    assert outcomes(batch) == [StoreUnavailable, UnicodeEncodeError if unsendable else TypeError, True]
    assert isinstance(batch[0].error, StoreUnavailable)
    assert batch[0].error.retry
    assert 'OOM command not allowed' in str(batch[0].error)


async def test_a_script_is_known_to_the_server_by_its_digest(redis: RedisConnection) -> None:
    script = LuaScript('return 1')
    assert await redis.exchange([('SCRIPT', 'LOAD', script.text)]) == [script.digest.encode()]


async def commit(connection: RedisConnection, *requests: WriteRequest) -> None:
    """Write one batch to a server, with a TTL of a minute, and close the writer."""
    done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    writer = RedisWriter(connection, Names(''), ValueError, 60_000)
    writer.write_batch(requests, done.set_result)
    await done
    await writer.close()


@pytest.mark.parametrize('expected', [{}, {'b': b'2'}], ids=['unseen', 'compared'])
async def test_the_ttl_of_a_key_that_is_only_to_be_kept_begins_anew(
    expected: dict[str, bytes | None], redis: RedisConnection
) -> None:
    await redis.exchange([('SET', 'b', '2', 'PX', 10_000)])
    batch = [request({'a': b'1'}, expected, 'b'), request({'c': b'3'}, {})]
    await commit(redis, *batch)
    assert outcomes(batch) == [True, True]
    assert await redis.exchange([('MGET', 'a', 'b', 'c')]) == [[b'1', b'2', b'3']]
    [ttl_ms] = await redis.exchange([('PTTL', 'b')])
    assert ttl_ms > 10_000


async def test_a_writer_that_is_closed_gives_its_connection_back(redis_server: RedisServer) -> None:
    connection = RedisConnection(
        {'redis_host': '127.0.0.1', 'redis_port': redis_server.port, 'redis_max_connections': 1, 'redis_timeout': 0.5}
    )
    await commit(connection, request({'a': b'1'}, {}))
    assert await connection.ask(['GET', 'a']) == [b'1']
    await connection.close()


async def test_a_writer_keeps_nothing_of_a_batch_that_is_done(redis: RedisConnection) -> None:
    done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    writer = RedisWriter(redis, Names(''), ValueError, 0)
    writer.write_batch([request({'a': b'1'}, {})], lambda batch: done.set_result(weakref.ref(asyncio.current_task())))
    task = await done
    await asyncio.sleep(0)
    gc.collect()
    assert task() is None
    await writer.close()


async def test_the_batch_that_is_asked_for_and_the_one_that_its_end_gives_are_written_in_one_task(
    redis: RedisConnection,
) -> None:
    done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    writer = RedisWriter(redis, Names(''), ValueError, 0)
    tasks: list[Any] = []

    def end(batch: Any) -> None:
        tasks.append(asyncio.current_task())
        done.set_result(None)

    def go_on(batch: Any) -> None:
        tasks.append(asyncio.current_task())
        writer.write_batch([request({'b': b'2'}, {})], end)

    def begin() -> None:
        tasks.append(asyncio.current_task())
        writer.write_batch([request({'a': b'1'}, {})], go_on)

    writer.ask_soon(begin)
    assert tasks == []
    await done
    assert len(tasks) == 3
    assert len(set(tasks)) == 1
    assert await redis.ask(['MGET', 'a', 'b']) == [[b'1', b'2']]
    await writer.close()


async def test_what_is_to_be_asked_soon_is_asked_although_the_writer_is_closed_before(redis: RedisConnection) -> None:
    asked: list[int] = []
    writer = RedisWriter(redis, Names(''), ValueError, 0)
    writer.ask_soon(lambda: asked.append(1))
    await writer.close()
    assert asked == [1]


@pytest.mark.parametrize('order', [['a', 'b', 'c'], ['c', 'a', 'b'], ['b', 'c', 'a']], ids=''.join)
async def test_each_of_several_expected_texts_counts_whether_it_is_long_or_short(
    order: list[str], redis: RedisConnection
) -> None:
    held: dict[str, bytes | None] = {'a': b'1', 'b': b'x' * 2000, 'c': None}
    await redis.exchange([('MSET', *(part for key in 'ab' for part in (key, held[key] or b'')))])
    expected = {key: held[key] for key in order}
    wrong = [
        request({'d': b'2'}, expected | {key: text}) for key, text in [('a', b'2'), ('b', b'y' * 2000), ('c', b'')]
    ]
    right = request({'d': b'1'}, expected)
    await commit(redis, *wrong, right)
    assert outcomes([*wrong, right]) == [False, False, False, True]
    assert await redis.exchange([('GET', 'd')]) == [b'1']


async def test_of_a_long_text_that_is_expected_only_the_digest_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script([b'11'])
    long = b'x' * 2000
    await write_requests(
        monkeypatch, script, [request({'b': b'1', 'a': b'2'}, {'a': long}), request({'c': b'1'}, {'c': long})]
    )
    [[command]] = script.sent
    assert long not in command


async def test_a_pair_that_is_written_on_a_condition_begins_the_ttl_of_a_third_key_anew(redis: RedisConnection) -> None:
    await redis.exchange([('SET', 'a', '0'), ('SET', 'c', '3', 'PX', 10_000)])
    await commit(redis, pair := request({'b': b'1', 'a': b'2'}, {'a': b'0'}, 'c'))
    assert outcomes([pair]) == [True]
    [ttl_ms] = await redis.exchange([('PTTL', 'c')])
    assert ttl_ms > 10_000
