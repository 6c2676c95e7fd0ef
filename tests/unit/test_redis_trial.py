"""The trial of what a Redis store does, on a server whose answers a test writes down."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from redis import exceptions

from learning_observer_kvs.stores.redis.names import ClusterNames, Names, slot_of
from learning_observer_kvs.stores.redis.scripts import APPLIED, COMMIT, NEW_RECORD, READ
from learning_observer_kvs.stores.redis.trial import TRIAL_MS, Trial, try_store

NOT_ALLOWED = exceptions.NoPermissionError("this user has no permissions to run the '{}' command")
LOADING = exceptions.ResponseError('LOADING Redis is loading the dataset in memory')
FULL = exceptions.ResponseError('ERR a script failed')

ALONE = ['EVALSHA', 'EVAL', 'GET', 'SET', 'PEXPIRE', 'UNLINK', 'SCAN', 'STRLEN', 'PTTL', 'TYPE']
"""The commands that are tried each alone, too."""


OF_SCRIPTS = {'laid': b'OK', 'commit': bytes([APPLIED]), 'read': [b'2', b'1'], 'remove': bytes([APPLIED])}


class Server:
    """Answers as a server does that allows everything, but for what a test puts in the place of some answers.

    Attributes:
        once: like ``answers``, but for the first time alone.
        packets: what was sent, in order.
        answers: by what was asked: ``laid``, ``commit``, ``read``, ``remove``, or a command that is tried alone.
    """

    clustered = False

    def __init__(self, **answers: Any) -> None:
        self.once: dict[str, Any] = {}
        self.packets: list[list[tuple[Any, ...]]] = []
        self.answers: dict[str, Any] = OF_SCRIPTS | answers

    async def exchange(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        self.packets.append(list(commands))
        return [self._answer(self._asked(command, len(commands))) for command in commands]

    def _answer(self, asked: str) -> Any:
        return self.once.pop(asked, None) or self.answers.get(asked, b'')

    def _asked(self, command: tuple[Any, ...], together: int) -> str:
        if together == len(ALONE):
            return str(command[0])
        if command[0] == 'EVALSHA':
            if command[1] == READ.digest:
                return 'read'
            assert command[1] == COMMIT.digest
            return 'commit' if together == 2 else 'remove'
        return 'laid' if command[0] == 'SET' else ''


class Cluster(Server):
    """A cluster of two nodes, each with one of the first two Redis keys that it is asked about."""

    clustered = True

    def cluster_client(self) -> Any:
        return SimpleNamespace(one_for_each_node=self._one_for_each_node)

    async def _one_for_each_node(self, redis_keys: Sequence[str]) -> list[str]:
        self.offered = list(redis_keys)
        return self.offered[:2]


async def tried(server: Server) -> Trial:
    connection: Any = server
    return await try_store(connection, Names('p:'))


def outcome(trial: Trial) -> tuple[list[str], list[str], bool, str | None]:
    return [*trial.refused], [*trial.unknown], trial.keys_refused, str(trial.error) if trial.error else None


NOTHING: tuple[list[str], list[str], bool, str | None] = [], [], False, None


async def test_a_server_that_allows_everything_has_nothing_to_report_and_nothing_stays_on_it() -> None:
    server = Server()
    assert outcome(await tried(server)) == NOTHING
    [[(_, record, *_)], *_, last] = server.packets
    written = {key for packet in server.packets for command in packet for key in command if 'trial:' in str(key)}
    [expiring, (command, *removed)] = last
    assert (expiring[:2], command) == (('PEXPIRE', record), 'UNLINK')
    assert set(removed) == written
    assert len(written) == 3
    assert all(key.startswith('p:') for key in written)


async def test_each_command_is_tried_alone_too_on_a_key_that_expires() -> None:
    server = Server()
    await tried(server)
    [alone] = [packet for packet in server.packets if len(packet) == len(ALONE)]
    assert [command[0] for command in alone] == ALONE
    [of_set, of_expiry] = [command for command in alone if command[0] in ('SET', 'PEXPIRE')]
    assert of_set[2:] == ('1', 'PX', of_expiry[2])
    assert of_set[1] == of_expiry[1]
    assert all(isinstance(part, (str, int)) for command in alone for part in command)


@pytest.mark.parametrize('command', ALONE)
async def test_a_command_that_is_refused_or_missing_is_named(command: str) -> None:
    assert outcome(await tried(Server(**{command: NOT_ALLOWED}))) == ([command], [], False, None)
    missing = exceptions.ResponseError(f"unknown command '{command}', with args beginning with: ")
    assert outcome(await tried(Server(**{command: missing}))) == ([], [command], False, None)


async def test_keys_that_are_refused_are_no_refusal_of_a_command() -> None:
    for words in ('No permissions to access a key', 'this user has no permissions to access one of the keys'):
        refused = exceptions.NoPermissionError(words)
        assert outcome(await tried(Server(GET=refused))) == ([], [], True, None)


async def test_a_value_that_reads_like_a_refusal_is_not_one() -> None:
    server = Server(GET='no permissions to run', TYPE="unknown command 'x'", PTTL='no permissions to access a key')
    assert outcome(await tried(server)) == NOTHING


async def test_a_server_that_cannot_be_written_to_for_now_is_not_asked_what_it_allows() -> None:
    server = Server(laid=LOADING, GET=NOT_ALLOWED)
    assert outcome(await tried(server)) == ([], [], False, str(LOADING))
    assert len(server.packets) == 1


async def test_where_not_even_a_record_can_be_written_no_script_is_tried_but_each_command() -> None:
    server = Server(laid=NOT_ALLOWED, SET=NOT_ALLOWED)
    assert outcome(await tried(server)) == (['SET'], [], False, str(NOT_ALLOWED))
    assert not any(command[1] == COMMIT.digest for packet in server.packets for command in packet)


@pytest.mark.parametrize(
    ('answers', 'error'),
    [
        ({'commit': FULL}, str(FULL)),
        ({'read': FULL}, str(FULL)),
        ({'commit': b'0'}, "answered by b'0', not b'1'"),
        ({'remove': b'0'}, "answered by b'0', not b'1'"),
        ({'read': [b'1', b'1']}, "answered by [b'1', b'1'], not [b'2', b'1']"),
    ],
)
async def test_scripts_that_do_not_do_what_they_should_are_an_error(answers: dict[str, Any], error: str) -> None:
    trial = await tried(Server(**answers))
    assert error in str(trial.error)
    assert outcome(trial)[:3] == NOTHING[:3]


async def test_the_scripts_write_a_pair_on_a_condition_and_with_a_ttl_and_remove_it() -> None:
    server = Server()
    await tried(server)
    [[laid], [first, second], [read], [third], _, last] = server.packets
    record, a, b = first[3:6]
    assert laid == ('SET', record, NEW_RECORD, 'PX', TRIAL_MS)
    assert first[2:] == (3, record, a, b, 1, 0, TRIAL_MS, b'', b'0S*S', '1', '1')
    assert second[2:] == (3, record, a, b, 2, 1, TRIAL_MS, b'E', b'=S*E', '1', '2')
    assert read[2:] == (2, a, b)
    assert third[2:] == (3, record, a, b, 3, 2, TRIAL_MS, b'-', b'=-*-', '2')
    assert last == [('PEXPIRE', record, TRIAL_MS), ('UNLINK', record, a, b)]


async def test_in_a_cluster_each_master_is_tried_in_a_slot_that_it_has() -> None:
    cluster: Any = Cluster()
    trial = await try_store(cluster, ClusterNames('p:'))
    assert outcome(trial) == NOTHING
    assert len({*cluster.offered}) == len(cluster.offered) > 100
    slots = {slot_of(str(packet[0][1])) for packet in cluster.packets if packet[0][0] == 'SET'}
    assert slots == {slot_of(key) for key in cluster.offered[:2]}
    assert len([packet for packet in cluster.packets if len(packet) == len(ALONE)]) == 2


@pytest.mark.parametrize('asked', ['commit', 'remove'])
async def test_an_error_of_one_master_is_kept_though_others_have_none(asked: str) -> None:
    cluster = Cluster()
    cluster.once[asked] = FULL
    assert outcome(await tried(cluster)) == ([], [], False, str(FULL))
