"""Looking at a Redis before it is used: does it take writes, and will it keep them?

What it does not tell (managed servers refuse ``CONFIG``, rights may be limited) is never a fault.
"""

from __future__ import annotations

import contextlib
import uuid

from learning_observer_kvs.errors import KVSError
from learning_observer_kvs.problems import Problem
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.errors import ReplyLost

PROBE_MS = 10_000
"""How long the key that is written to try it lives, should it not be removed."""


async def health_check(connection: RedisConnection, hidden: str, *, permanent: bool) -> list[Problem]:
    """What is wrong with a server.

    Args:
        connection: the way to it.
        hidden: how the names of our own records begin.
        permanent: whether the data is meant to survive a restart.

    Raises:
        StoreUnavailable, Overloaded: it does not answer.
    """
    name = f'{hidden}probe:{uuid.uuid4().hex}'
    try:
        [written] = await connection.exchange([('SET', name, '1', 'PX', PROBE_MS)])
        await connection.exchange([('UNLINK', name)])
        told_of = await connection.info()
    except ReplyLost as lost:
        raise connection.unavailable(lost) from None
    found: dict[str, Problem] = {}
    for address, told in told_of.items():
        for finding in await _faults(connection, f'Redis at {address}', told, permanent):
            found.setdefault(finding.id, finding)  # what is wrong with all nodes of a cluster is told of one
    if isinstance(written, Exception) and 'KVS.E020' not in found:
        raise connection.unavailable(written)
    return list(found.values())


async def _faults(connection: RedisConnection, where: str, told: dict[str, str], permanent: bool) -> list[Problem]:
    if told.get('role') == 'slave':
        master = f'{told.get("master_host", "?")}:{told.get("master_port", "?")}'
        return [Problem('KVS.E020', '', 'type', f'is in {where}, a replica', f'Name its master, {master}, instead.')]
    found = []
    if permanent and await _keeps_nothing(connection, told):
        message = f'is in {where}, which keeps its data in memory alone: a restart loses it'
        found.append(
            Problem('KVS.W007', '', 'type', message, 'Switch on "appendonly yes" there, or snapshots with "save".')
        )
    policy = told.get('maxmemory_policy', '')
    if policy.startswith('allkeys-'):
        message = f'is in {where}, which removes any key when its memory is full ({policy})'
        found.append(
            Problem('KVS.W008', '', 'type', message, 'Set "maxmemory-policy noeviction" there, or volatile-ttl.')
        )
    saves = {'rdb_last_bgsave_status': 'snapshot', 'aof_last_write_status': 'write to the append-only file'}
    for word, what in saves.items():
        if told.get(word) == 'err':
            message = f'is in {where}, whose last {what} failed'
            found.append(Problem('KVS.W009', '', 'type', message, 'Look at its log, and at the disk it saves to.'))
    return found


async def _keeps_nothing(connection: RedisConnection, told: dict[str, str]) -> bool:
    if told.get('aof_enabled') != '0':
        return False
    if not connection.clustered:
        with contextlib.suppress(KVSError):  # it may be refused
            [saves] = await connection.ask(['CONFIG', 'GET', 'save'])
            return bool(saves[1] == b'')
    # A server that has saved once since its start saves.
    return told.get('rdb_last_bgsave_time_sec') == '-1' and told.get('rdb_bgsave_in_progress') == '0'
