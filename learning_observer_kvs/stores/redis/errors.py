"""What redis-py's errors mean: a refusal, a reply that is lost, a cluster that has changed; and what cures them."""

from __future__ import annotations

import asyncio
import re

from redis import exceptions
from redis.asyncio.sentinel import MasterNotFoundError

from learning_observer_kvs.errors import CorruptValue, KVSError, Overloaded, StoreUnavailable

LOST = (exceptions.ConnectionError, exceptions.TimeoutError, OSError, asyncio.TimeoutError, EOFError)

_PASSWORD = 'Set redis_connection.redis_password (and redis_username) as the server expects them.'

_CLUSTER = 'Some slots have no node; look at CLUSTER INFO on the nodes, and start those that are missing.'

_HINTS = {
    'NOAUTH': _PASSWORD,
    'WRONGPASS': _PASSWORD,
    'invalid username-password': _PASSWORD,
    'Authentication required': _PASSWORD,
    'invalid password': _PASSWORD,
    'NOPERM': 'Allow this user the commands and keys of the store: +@all ~* for all of them.',
    'loading the dataset': 'It is still loading its data; try again in a moment.',
    'CLUSTERDOWN': _CLUSTER,
    'Hash slot not served': _CLUSTER,
    'not covered by the cluster': _CLUSTER,
    'cluster is down': _CLUSTER,
    'cluster support disabled': 'It is no cluster; take redis_connection.redis_cluster out.',
    'Cluster mode is not enabled': 'It is no cluster; take redis_connection.redis_cluster out.',
    'LOADING': 'It is still loading its data; try again in a moment.',
    'READONLY': 'This is a replica; name the master in redis_connection.redis_host, or use redis_sentinels.',
    'read only replica': 'This is a replica; name the master in redis_connection.redis_host, or use redis_sentinels.',
    'OOM': 'It is at its memory limit; raise maxmemory, or remove data.',
    'maxmemory': 'It is at its memory limit; raise maxmemory, or remove data.',
    'MISCONF': 'It cannot save to its disk; look at its log.',
    'DB index': 'The server has fewer databases; see redis_connection.redis_db.',
    'CERTIFICATE_VERIFY_FAILED': (
        'Name the authority that signed its certificate in redis_connection.redis_ssl_ca_certs, and connect to the '
        'host the certificate is for.'
    ),
    'WRONG_VERSION_NUMBER': 'The server does not speak TLS there; see redis_connection.redis_ssl and redis_port.',
}
"""What is in an error's text, and what cures it."""


ALL_BUSY = 'No connection available'
"""What redis-py says when a pool has none to give."""

REFUSALS: dict[type, str] = {exceptions.BusyLoadingError: 'LOADING', exceptions.AuthenticationError: 'NOAUTH'}
"""Replies that redis-py treats as a broken connection, and how they begin on the wire."""


FAILURES = (exceptions.RedisError, exceptions.RedisClusterException, *LOST)

ASTRAY = (*LOST, exceptions.ClusterError, exceptions.RedisClusterException)
"""Errors after which the map of a cluster may be out of date."""


class ReplyLost(Exception):
    """The connection broke after commands were sent: nobody knows whether they were carried out."""


def is_loss(reply: object) -> bool:
    """Whether it is an error that leaves open what became of a command; a refusal does not."""
    return isinstance(reply, LOST) and not isinstance(reply, tuple(REFUSALS))


def unavailable(error: BaseException, address: str, timeout: float) -> KVSError:
    """What an error means to the caller: the address, the fault, the cure."""
    text = re.sub(r'\s+', ' ', str(error)).rstrip('.') or type(error).__name__
    if text == ALL_BUSY:
        return Overloaded(
            f'Redis at {address}: all its connections were busy for {timeout:g} s. '
            'Ask for less at once, or raise redis_connection.redis_max_connections.'
        )
    return StoreUnavailable(f'Redis at {address} cannot be used: {text}. {_cure(error, text)}')


def wrong_type(location: str) -> CorruptValue:
    """The error for a key that holds a list, a hash or the like."""
    return CorruptValue(f'{location}: what is stored is no text, so no JSON. Nothing was overwritten; remove the key.')


def _cure(error: BaseException, text: str) -> str:
    for sign, hint in _HINTS.items():
        if sign in text:
            return hint
    if isinstance(error, (exceptions.ClusterCrossSlotError, exceptions.AskError)):
        return 'It is a cluster; set redis_connection.redis_cluster: true.'
    if isinstance(error, MasterNotFoundError):
        return 'See redis_connection.redis_sentinels and redis_service_name, and whether the Sentinels have a master.'
    lost = (exceptions.ConnectionError, exceptions.TimeoutError, OSError, ReplyLost)
    if isinstance(error, lost) or 'cannot be connected' in text:
        return 'Is it running there? See redis_connection.redis_host and redis_port.'
    return 'Look at its log.'
