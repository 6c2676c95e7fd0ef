"""The health check of a Redis before it is used: does it accept writes, and will it keep them?

What cannot be found out is not a problem: managed servers refuse ``CONFIG``, and rights may be limited.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection

from learning_observer_kvs.config.redaction import display_value
from learning_observer_kvs.errors import KVSError
from learning_observer_kvs.problems import Problem
from learning_observer_kvs.stores.backend import SCAN_KEYS
from learning_observer_kvs.stores.keys import display_key
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.errors import ReplyLost
from learning_observer_kvs.stores.redis.foreign import find_foreign_key
from learning_observer_kvs.stores.redis.names import Names, decode, escape_glob
from learning_observer_kvs.stores.redis.options import sentinels, user
from learning_observer_kvs.stores.redis.permissions import rules
from learning_observer_kvs.stores.redis.trial import Trial, try_store

SCAN_SECONDS = 1.0
"""How long a database is searched for keys of others; of a large one perhaps not all keys are looked at."""

_NOEVICTION = 'Set "maxmemory-policy noeviction" there.'


async def health_check(
    connection: RedisConnection, names: Names, other_prefixes: Collection[str], *, permanent: bool
) -> list[Problem]:
    """Return what is wrong with a server or cluster.

    Args:
        connection: the connection to it.
        names: the Redis keys of the store.
        other_prefixes: of the other stores in the same database.
        permanent: whether the data is meant to survive a restart.

    Raises:
        StoreUnavailable, Overloaded: it does not answer, or refuses a write.
    """
    try:
        trial = await try_store(connection, names)
    except ReplyLost as lost:
        raise connection.unavailable(lost) from None
    found: dict[str, Problem] = {}
    for address, info in (await connection.info()).items():
        for problem in await _problems_of_server(connection, f'Redis at {address}', info, permanent):
            found.setdefault(problem.id, problem)  # what is wrong with all nodes of a cluster is reported for one
    problems = list(found.values())
    if refusal := _refusal(connection, names, trial):
        problems.append(refusal)
    elif trial.error is not None and 'KVS.E020' not in found:
        raise connection.unavailable(trial.error)
    if connection.clustered and (key := await _find_key_of_single_server(connection, names.prefix)) is not None:
        message = f'is in the cluster at {connection.address()}, where {display_key(key)} was written without a cluster'
        hint = 'Copy such keys in with lo-kvs copy, and remove them there.'
        problems.append(Problem('KVS.E021', '', 'type', message, hint))
    if not connection.clustered and not names.prefix:
        problems += await _no_prefix(connection, names, other_prefixes)
    return problems


async def _no_prefix(connection: RedisConnection, names: Names, other_prefixes: Collection[str]) -> list[Problem]:
    found = None
    with contextlib.suppress(TimeoutError, KVSError):
        async with asyncio.timeout(SCAN_SECONDS):
            found = await find_foreign_key(connection, names, other_prefixes)
    if found is None:
        return []
    message = f'has no prefix, and is in Redis at {connection.address()} in a database that holds {found}'
    hint = 'Give it a prefix, or a database of its own; until then clear() is refused.'
    return [Problem('KVS.W012', '', 'type', message, hint)]


def _refusal(connection: RedisConnection, names: Names, trial: Trial) -> Problem | None:
    """Return the problem that a server refuses commands or keys of the store, if it does."""
    where = f'is in Redis at {connection.address()}, which'
    if trial.unknown:
        message = f'{where} does not have {" and ".join(trial.unknown)}, which the store uses'
        hint = 'Remove their rename-command from redis.conf; to restrict users, use an access control list.'
        return Problem('KVS.E022', '', 'type', message, hint)
    if trial.refused or trial.keys_refused:
        name = user(connection.settings) or 'default'
        what = ' and '.join(trial.refused) or f'keys that begin with {display_value("prefix", names.prefix)}'
        if 'EVALSHA' in trial.refused and 'EVAL' not in trial.refused:
            what += ' (and allows EVAL, but the store does not send its scripts with every write)'
        needed = rules(connection.settings, clustered=connection.clustered)
        message = f'{where} refuses {what} to user {name!r}'
        hint = f'This suffices: ACL SETUSER {name} ~{names.scan_pattern("")} {needed}'
        return Problem('KVS.E022', '', 'type', message, hint)
    return None


async def _find_key_of_single_server(connection: RedisConnection, prefix: str) -> str | None:
    """Return a reducer's key in a cluster under the name it has on a single server, where it would not be read."""
    pattern = escape_glob(prefix) + '[IE][nx]ternal,*'
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SCAN_SECONDS):
            async with contextlib.aclosing(connection.pages(SCAN_KEYS, pattern)) as pages:
                async for redis_keys in pages:
                    for redis_key in redis_keys:
                        if (text := decode(redis_key)) is not None:
                            return text
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
        problems.append(Problem('KVS.W008', '', 'type', message, _NOEVICTION))
    elif permanent and policy.startswith('volatile-') and info.get('maxmemory') != '0':
        message = f'is in {location}, which evicts keys with a TTL when its memory is full ({policy}), idempotency '
        message += 'records too: a write whose reply was lost may then end in WriteUnclear'
        problems.append(Problem('KVS.W013', '', 'type', message, _NOEVICTION))
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
