"""The health check of a Redis whose answers a test writes down: what is a problem, and what is an error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection
from typing import Any

import pytest
from redis import exceptions

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.problems import Problem
from learning_observer_kvs.stores.redis import health
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.errors import ReplyLost
from learning_observer_kvs.stores.redis.names import ClusterNames, Names
from learning_observer_kvs.stores.redis.permissions import rules
from learning_observer_kvs.stores.redis.trial import Trial

HEALTHY = {
    'role': 'master',
    'aof_enabled': '1',
    'connected_slaves': '0',
    'maxmemory': '0',
    'maxmemory_policy': 'noeviction',
    'rdb_last_bgsave_status': 'ok',
    'aof_last_write_status': 'ok',
}

AWAY = StoreUnavailable('away', retry=True)


class Scripted(RedisConnection):
    """Answers as a test says.

    Attributes:
        infos: what INFO says, by address.
        save: what ``CONFIG GET save`` says; an error is raised.
        found: pages of Redis keys; an error is raised, after ``None`` no page comes.
        patterns: what pages were asked for.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__({'redis_host': 'h', 'redis_port': 1} | settings)
        self.infos: dict[str, dict[str, str]] = {'h:1': HEALTHY}
        self.save: bytes | Exception = b'3600 1'
        self.found: list[Any] = []
        self.patterns: list[str] = []

    async def info(self) -> dict[str, dict[str, str]]:
        return self.infos

    async def ask(self, *commands: Any) -> list[Any]:
        assert commands == (['CONFIG', 'GET', 'save'],)
        if isinstance(self.save, Exception):
            raise self.save
        return [[b'save', self.save]]

    async def pages(self, count: int, pattern: str = '*') -> AsyncGenerator[list[bytes], None]:
        self.patterns.append(pattern)
        for page in self.found:
            if isinstance(page, Exception):
                raise page
            if page is None:
                await asyncio.get_running_loop().create_future()
            yield page


class Tried:
    """What the trial comes to, and what other stores' keys are found, instead of what a server says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.trial: Trial | Exception = Trial()
        self.foreign: Any = None
        self.asked: list[tuple[Any, ...]] = []
        monkeypatch.setattr(health, 'try_store', self._try_store)
        monkeypatch.setattr(health, 'find_foreign_key', self._find_foreign_key)

    async def _try_store(self, connection: Any, names: Names) -> Trial:
        assert isinstance(connection, Scripted)
        assert names.prefix in ('', 'p:', 'p*:')
        if isinstance(self.trial, Exception):
            raise self.trial
        return self.trial

    async def _find_foreign_key(self, *arguments: Any) -> str | None:
        self.asked.append(arguments)
        if isinstance(self.foreign, asyncio.Future):
            await self.foreign
        if isinstance(self.foreign, Exception):
            raise self.foreign
        found: str | None = self.foreign
        return found


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> Tried:
    return Tried(monkeypatch)


async def check(
    connection: Scripted, prefix: str = 'p:', others: Collection[str] = (), *, permanent: bool = True
) -> list[Problem]:
    names = (ClusterNames if connection.clustered else Names)(prefix)
    return complete(await health.health_check(connection, names, others, permanent=permanent))


def complete(problems: list[Problem]) -> list[Problem]:
    """Return problems, each of which is of the type of a store, and has a message and a hint."""
    assert all((problem.location, problem.subject) == ('', 'type') for problem in problems)
    assert all(problem.message and problem.hint for problem in problems)
    return problems


async def ids(connection: Scripted, prefix: str = 'p:', *, permanent: bool = True) -> list[str]:
    return [problem.id for problem in await check(connection, prefix, permanent=permanent)]


async def test_what_all_nodes_have_is_reported_for_the_first_and_what_one_has_for_that_one(tried: Tried) -> None:
    connection = Scripted(redis_cluster=True)
    evicts, failed = HEALTHY | {'maxmemory_policy': 'allkeys-lru'}, {'rdb_last_bgsave_status': 'err'}
    connection.infos = {'a:1': evicts, 'b:2': evicts | failed}
    first, second = await check(connection)
    assert (first.id, second.id) == ('KVS.W008', 'KVS.W009')
    assert 'Redis at a:1' in first.message
    assert 'Redis at b:2' in second.message


# What INFO says


@pytest.mark.parametrize('clustered', [False, True])
@pytest.mark.parametrize('permanent', [False, True])
@pytest.mark.parametrize(
    ('info', 'wanted', 'words', 'where'),
    [
        ({}, None, '', 'any'),
        ({'role': 'slave', 'master_host': 'h', 'master_port': '5'}, 'KVS.E020', 'Name its master, h:5', 'any'),
        ({'maxmemory_policy': 'allkeys-lru'}, 'KVS.W008', '(allkeys-lru)', 'any'),
        ({'maxmemory_policy': 'volatile-ttl', 'maxmemory': '9'}, 'KVS.W013', '(volatile-ttl)', 'permanent'),
        ({'maxmemory_policy': 'volatile-ttl'}, None, '', 'any'),
        ({'maxmemory': '9'}, None, '', 'any'),
        ({'rdb_last_bgsave_status': 'err'}, 'KVS.W009', 'whose last snapshot failed', 'any'),
        ({'aof_last_write_status': 'err'}, 'KVS.W009', 'whose last write to the append-only file failed', 'any'),
        ({'connected_slaves': '1'}, 'KVS.W014', 'which accepts writes that no replica has', 'clustered'),
        ({'connected_slaves': '1', 'min_slaves_good_slaves': '1'}, None, '', 'any'),
    ],
)
async def test_what_info_says_is_a_problem_of_the_type_of_the_store(
    info: dict[str, str], wanted: str | None, words: str, where: str, permanent: bool, clustered: bool
) -> None:
    connection = RedisConnection({'redis_host': 'h', 'redis_port': 1, 'redis_cluster': clustered})
    found = complete(await health._problems_of_server(connection, 'Redis at h:1', HEALTHY | info, permanent))
    is_one = {'any': True, 'permanent': permanent, 'clustered': permanent and clustered}[where] and wanted is not None
    assert [problem.id for problem in found] == [wanted] * is_one
    for problem in found:
        assert 'is in Redis at h:1' in problem.message
        assert words in f'{problem.message} {problem.hint}'


# What the trial has found


async def test_a_trial_whose_reply_is_lost_is_an_error_with_the_address(tried: Tried) -> None:
    tried.trial = ReplyLost('Connection reset by peer')
    with pytest.raises(StoreUnavailable, match='Redis at h:1 cannot be used: Connection reset by peer') as raised:
        await check(Scripted())
    assert raised.value.__suppress_context__


async def test_scripts_that_fail_are_an_error_where_nothing_says_why(tried: Tried) -> None:
    assert isinstance(tried.trial, Trial)
    tried.trial.error = exceptions.ResponseError('OOM command not allowed')
    with pytest.raises(StoreUnavailable, match='Redis at h:1 cannot be used: OOM command not allowed'):
        await check(Scripted())
    replica = Scripted()
    replica.infos = {'h:1': {'role': 'slave'}}
    [problem] = await check(replica)
    assert (problem.id, problem.hint) == ('KVS.E020', 'Name its master, ?:?, instead.')
    tried.trial.refused['GET'] = None
    assert await ids(Scripted()) == ['KVS.E022']


async def test_commands_that_a_server_does_not_have_are_named_before_those_that_it_refuses(tried: Tried) -> None:
    assert isinstance(tried.trial, Trial)
    tried.trial.refused['SET'] = tried.trial.unknown['GET'] = tried.trial.unknown['EVAL'] = None
    [problem] = await check(Scripted())
    assert problem.id == 'KVS.E022'
    assert problem.message == 'is in Redis at h:1, which does not have GET and EVAL, which the store uses'


@pytest.mark.parametrize(
    ('refused', 'keys_refused', 'what'),
    [
        ('GET', False, 'GET'),
        ('GET SET', True, 'GET and SET'),
        ('', True, "keys that begin with 'p:'"),
        ('EVALSHA EVAL', False, 'EVALSHA and EVAL'),
        ('EVALSHA', False, 'EVALSHA (and allows EVAL, but the store does not send its scripts with every write)'),
    ],
)
@pytest.mark.parametrize('user', [None, 'class'])
@pytest.mark.parametrize('clustered', [False, True])
async def test_what_is_refused_is_named_with_the_rule_that_suffices(
    refused: str, keys_refused: bool, what: str, user: str | None, clustered: bool, tried: Tried
) -> None:
    assert isinstance(tried.trial, Trial)
    tried.trial.refused, tried.trial.keys_refused = dict.fromkeys(refused.split()), keys_refused
    connection = Scripted(redis_cluster=clustered, redis_username=user, redis_password='x')
    [problem] = await check(connection)
    name, pattern = user or 'default', '{????????????????}:p:*' if clustered else 'p:*'
    assert problem.id == 'KVS.E022'
    assert problem.message == f"is in Redis at h:1, which refuses {what} to user '{name}'"
    needed = rules(connection.settings, clustered=clustered)
    assert problem.hint == f'This suffices: ACL SETUSER {name} ~{pattern} {needed}'


# Keys of others


async def test_a_key_that_was_written_into_a_cluster_under_the_name_of_a_single_server_is_an_error(
    tried: Tried,
) -> None:
    cluster, single = Scripted(redis_cluster=True), Scripted()
    for connection in (cluster, single):
        connection.found = [[], [b'\xff', b'p:Internal,r'], [b'p:External,r']]
    [problem] = await check(cluster, 'p*:')
    assert problem.id == 'KVS.E021'
    assert problem.message == "is in the cluster at h:1, where 'p:Internal,r' was written without a cluster"
    assert cluster.patterns == [r'p\*:[IE][nx]ternal,*']
    assert await ids(single) == []
    assert single.patterns == []
    cluster.found = [[b'\xff'], []]
    assert await ids(cluster) == []


@pytest.mark.parametrize('instead', [None, TimeoutError()])
async def test_a_cluster_with_many_keys_is_looked_at_for_a_bounded_time(
    instead: Any, tried: Tried, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, 'SCAN_SECONDS', 0.01)
    cluster = Scripted(redis_cluster=True)
    cluster.found = [[], instead]
    async with asyncio.timeout(10):
        assert await ids(cluster) == []


async def test_a_store_without_a_prefix_among_keys_of_others_is_a_warning(tried: Tried) -> None:
    tried.foreign = "'k', a key of another program"
    connection = Scripted()
    [problem] = await check(connection, '', ['q:'])
    assert problem.id == 'KVS.W012'
    assert problem.message == f'has no prefix, and is in Redis at h:1 in a database that holds {tried.foreign}'
    [(asked, names, others)] = tried.asked
    assert (asked, names.prefix, others) == (connection, '', ['q:'])
    assert await ids(connection, 'p:') == await ids(Scripted(redis_cluster=True), '') == []
    assert len(tried.asked) == 1
    connection.infos = {'h:1': HEALTHY | {'maxmemory_policy': 'allkeys-lru'}}
    assert await ids(connection, '') == ['KVS.W008', 'KVS.W012']


@pytest.mark.parametrize('foreign', [None, AWAY, TimeoutError()])
async def test_keys_of_others_that_are_not_found_or_cannot_be_looked_for_are_not_a_problem(
    foreign: Any, tried: Tried
) -> None:
    tried.foreign = foreign
    assert await ids(Scripted(), '') == []


async def test_a_database_with_many_keys_is_looked_at_for_a_bounded_time(
    tried: Tried, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, 'SCAN_SECONDS', 0.01)
    tried.foreign = asyncio.get_running_loop().create_future()
    async with asyncio.timeout(10):
        assert await ids(Scripted(), '') == []


# What a restart keeps


@pytest.mark.parametrize(
    ('info', 'save', 'is_kept', 'is_kept_in_a_cluster'),
    [
        ({'aof_enabled': '1', 'rdb_last_bgsave_time_sec': '-1', 'rdb_bgsave_in_progress': '0'}, b'', True, True),
        ({'aof_enabled': '0', 'rdb_last_bgsave_time_sec': '-1', 'rdb_bgsave_in_progress': '0'}, b'', False, False),
        ({'aof_enabled': '0', 'rdb_last_bgsave_time_sec': '-1', 'rdb_bgsave_in_progress': '0'}, b'9 1', True, False),
        ({'aof_enabled': '0', 'rdb_last_bgsave_time_sec': '5', 'rdb_bgsave_in_progress': '0'}, b'', False, True),
        ({'aof_enabled': '0', 'rdb_last_bgsave_time_sec': '-1', 'rdb_bgsave_in_progress': '0'}, AWAY, False, False),
        ({'aof_enabled': '0', 'rdb_last_bgsave_time_sec': '5', 'rdb_bgsave_in_progress': '0'}, AWAY, True, True),
        ({'aof_enabled': '0', 'rdb_last_bgsave_time_sec': '-1', 'rdb_bgsave_in_progress': '1'}, AWAY, True, True),
    ],
)
@pytest.mark.parametrize('permanent', [False, True])
@pytest.mark.parametrize('clustered', [False, True])
async def test_a_server_that_keeps_nothing_is_a_warning_for_a_store_that_is_to_keep_something(
    info: dict[str, str],
    save: Any,
    is_kept: bool,
    is_kept_in_a_cluster: bool,
    clustered: bool,
    permanent: bool,
    tried: Tried,
) -> None:
    connection = Scripted(redis_cluster=clustered)
    connection.infos, connection.save = {'h:1': HEALTHY | info}, save
    kept = not permanent or (is_kept_in_a_cluster if clustered else is_kept)
    assert await ids(connection, permanent=permanent) == ['KVS.W007'] * (not kept)


@pytest.mark.parametrize('settings', [{}, {'redis_sentinels': ['s:1'], 'redis_service_name': 'class'}])
async def test_behind_sentinels_writes_that_no_replica_has_are_a_warning_too(
    settings: dict[str, Any], tried: Tried
) -> None:
    connection = Scripted(**settings)
    connection.infos = {'h:1': HEALTHY | {'connected_slaves': '1'}}
    assert await ids(connection) == ['KVS.W014'] * bool(settings)
    assert await ids(connection, permanent=False) == []


async def test_a_server_that_says_nothing_has_no_problem(tried: Tried) -> None:
    connection = Scripted(redis_sentinels=['s:1'], redis_service_name='class')
    connection.infos = {'h:1': {}}
    assert await ids(connection) == []
