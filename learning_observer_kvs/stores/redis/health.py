"""The health check of a Redis before it is used: does it accept writes, and will it keep them?

What cannot be found out is not a problem: managed servers refuse ``CONFIG``, and rights may be limited.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid

from learning_observer_kvs.errors import KVSError
from learning_observer_kvs.problems import Problem
from learning_observer_kvs.stores.keys import display_key
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.errors import ReplyLost
from learning_observer_kvs.stores.redis.names import META_PREFIX, decode, escape_glob
from learning_observer_kvs.stores.redis.options import sentinels

PROBE_MS = 10_000
"""The TTL of the key that is written as a trial, in milliseconds, should it not be removed."""

SCAN_SECONDS = 1.0
"""How long a cluster is searched for keys of a single server; of a large one perhaps not all keys are looked at."""


async def health_check(connection: RedisConnection, prefix: str, *, permanent: bool) -> list[Problem]:
    """Return what is wrong with a server or cluster.

    Args:
        connection: the connection to it.
        prefix: of the store's keys.
        permanent: whether the data is meant to survive a restart.

    Raises:
        StoreUnavailable, Overloaded: it does not answer, or refuses a write.
    """
    redis_key = f'{META_PREFIX}probe:{uuid.uuid4().hex}'
    try:
        [written] = await connection.exchange([('SET', redis_key, '1', 'PX', PROBE_MS)])
        await connection.exchange([('UNLINK', redis_key)])
        servers = await connection.info()
    except ReplyLost as lost:
        raise connection.unavailable(lost) from None
    found: dict[str, Problem] = {}
    for address, info in servers.items():
        for problem in await _problems_of_server(connection, f'Redis at {address}', info, permanent):
            found.setdefault(problem.id, problem)  # what is wrong with all nodes of a cluster is reported for one
    if isinstance(written, Exception) and 'KVS.E020' not in found:
        raise connection.unavailable(written)
    problems = list(found.values())
    if connection.clustered and (key := await find_key_of_single_server(connection, prefix)) is not None:
        message = f'is in the cluster at {connection.address()}, where {display_key(key)} was written without a cluster'
        hint = 'Copy such keys in with lo-kvs copy, and remove them there.'
        problems.append(Problem('KVS.E021', '', 'type', message, hint))
    return problems


async def find_key_of_single_server(
    connection: RedisConnection, prefix: str, seconds: float = SCAN_SECONDS
) -> str | None:
    """Look in a cluster for a reducer's key under the name it has on a single server, where it would not be read.

    Args:
        connection: the connection to the cluster.
        prefix: of the store's keys.
        seconds: how long to look.

    Returns:
        Such a Redis key; ``None`` if none was found in that time.

    Raises:
        StoreUnavailable, Overloaded: no answer.
    """
    pattern, cursor = escape_glob(prefix) + '[IE][nx]ternal,*', None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                redis_keys, cursor = await connection.scan(cursor, 1000, pattern)
                for redis_key in redis_keys:
                    if (text := decode(redis_key)) is not None:
                        return text
                if cursor is None:
                    break
    return None


async def _problems_of_server(
    connection: RedisConnection, location: str, info: dict[str, str], permanent: bool
) -> list[Problem]:
    if info.get('role') == 'slave':
        master = f'{info.get("master_host", "?")}:{info.get("master_port", "?")}'
        message, hint = f'is in {location}, a replica', f'Name its master, {master}, instead.'
        return [Problem('KVS.E020', '', 'type', message, hint)]
    problems = []
    if permanent and await _keeps_nothing(connection, info):
        message = f'is in {location}, which keeps its data in memory alone: a restart loses it'
        hint = 'Switch on "appendonly yes" there, or snapshots with "save".'
        problems.append(Problem('KVS.W007', '', 'type', message, hint))
    replaced = connection.clustered or bool(sentinels(connection.settings))
    if permanent and replaced and info.get('connected_slaves', '0') != '0' and 'min_slaves_good_slaves' not in info:
        message = f'is in {location}, which accepts writes that no replica has: a fail-over loses them'
        hint = 'Set "min-replicas-to-write 1" on it and on its replicas, two or more; then it loses a few at most.'
        problems.append(Problem('KVS.W014', '', 'type', message, hint))
    policy = info.get('maxmemory_policy', '')
    if policy.startswith('allkeys-'):
        message = f'is in {location}, which removes any key when its memory is full ({policy})'
        hint = 'Set "maxmemory-policy noeviction" there, or volatile-ttl.'
        problems.append(Problem('KVS.W008', '', 'type', message, hint))
    saves = {'rdb_last_bgsave_status': 'snapshot', 'aof_last_write_status': 'write to the append-only file'}
    for field, what in saves.items():
        if info.get(field) == 'err':
            message = f'is in {location}, whose last {what} failed'
            hint = 'Look at its log, and at the disk it saves to.'
            problems.append(Problem('KVS.W009', '', 'type', message, hint))
    return problems


async def _keeps_nothing(connection: RedisConnection, info: dict[str, str]) -> bool:
    if info.get('aof_enabled') != '0':
        return False
    if not connection.clustered:
        with contextlib.suppress(KVSError):  # it may be refused
            [saves] = await connection.ask(['CONFIG', 'GET', 'save'])
            return bool(saves[1] == b'')
    # A server that has saved once since its start saves.
    return info.get('rdb_last_bgsave_time_sec') == '-1' and info.get('rdb_bgsave_in_progress') == '0'
