"""What the answer of a Redis server to INFO says about it, without a server."""

from __future__ import annotations

import pytest

from learning_observer_kvs.stores.redis import health
from learning_observer_kvs.stores.redis.connection import RedisConnection

HEALTHY = {
    'role': 'master',
    'aof_enabled': '1',
    'connected_slaves': '0',
    'maxmemory': '0',
    'maxmemory_policy': 'noeviction',
    'rdb_last_bgsave_status': 'ok',
    'aof_last_write_status': 'ok',
}


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
    found = await health._problems_of_server(connection, 'Redis at h:1', HEALTHY | info, permanent)
    is_one = {'any': True, 'permanent': permanent, 'clustered': permanent and clustered}[where] and wanted is not None
    assert [(problem.id, problem.subject) for problem in found] == [(wanted, 'type')] * is_one
    for problem in found:
        assert 'is in Redis at h:1' in problem.message
        assert words in f'{problem.message} {problem.hint}'
