"""What redis-py's errors mean: a refusal, a lost reply, a cluster that has changed; and the hint for each."""

from __future__ import annotations

import re

from redis import exceptions

from learning_observer_kvs.errors import CorruptValue, KVSError, Overloaded, StoreUnavailable


class ReplyLost(Exception):
    """The connection broke after commands were sent: they may or may not have been carried out. Its text says why."""


LOST = (exceptions.ConnectionError, exceptions.TimeoutError, OSError, EOFError)
"""Errors of a broken connection."""

FAILURES = (exceptions.RedisError, exceptions.RedisClusterException, *LOST)
"""Every error with which redis-py may answer a command."""

TOPOLOGY_ERRORS = (*LOST, exceptions.ClusterError, exceptions.RedisClusterException)
"""Errors after which the map of a cluster's slots may be out of date."""

REFUSALS: dict[type, str] = {exceptions.BusyLoadingError: 'LOADING', exceptions.AuthenticationError: 'NOAUTH'}
"""Replies that redis-py treats as a broken connection, and how they begin on the wire."""

ALL_BUSY = 'No connection available'
"""What redis-py says when a pool has none to give."""

_TRANSIENT = (
    exceptions.BusyLoadingError,
    exceptions.ReadOnlyError,
    exceptions.ClusterError,
    exceptions.RedisClusterException,
    exceptions.TryAgainError,
    exceptions.AskError,
)

_TRANSIENT_REPLIES = ('LOADING', 'READONLY', 'MASTERDOWN', 'BUSY')

_PASSWORD = 'Set redis_connection.redis_password (and redis_username) as the server expects them.'

_LOADING = 'It is still loading its data; try again in a moment.'

_REPLICA = 'This is a replica; name the master in redis_connection.redis_host, or use redis_sentinels.'

_MEMORY = 'It is at its memory limit; raise maxmemory, or remove data.'

_NODES_MISSING = 'Some slots have no node; look at CLUSTER INFO on the nodes, and start those that are missing.'

_NOT_A_CLUSTER = 'It is not a cluster; take redis_connection.redis_cluster out.'

_HINTS = {
    'NOAUTH': _PASSWORD,
    'WRONGPASS': _PASSWORD,
    'invalid username-password': _PASSWORD,
    'Authentication required': _PASSWORD,
    'invalid password': _PASSWORD,
    'NOPERM': 'Allow this user the commands and keys of the store: +@all ~* for all of them.',
    'loading the dataset': _LOADING,
    'CLUSTERDOWN': _NODES_MISSING,
    'Hash slot not served': _NODES_MISSING,
    'not covered by the cluster': _NODES_MISSING,
    'cluster is down': _NODES_MISSING,
    'cluster support disabled': _NOT_A_CLUSTER,
    'Cluster mode is not enabled': _NOT_A_CLUSTER,
    'LOADING': _LOADING,
    'READONLY': _REPLICA,
    'read only replica': _REPLICA,
    'OOM': _MEMORY,
    'maxmemory': _MEMORY,
    'MISCONF': 'It cannot save to its disk; look at its log.',
    'DB index': 'The server has fewer databases; see redis_connection.redis_db.',
    'CERTIFICATE_VERIFY_FAILED': (
        'Name the authority that signed its certificate in redis_connection.redis_ssl_ca_certs, and connect to the '
        'host the certificate is for.'
    ),
    'WRONG_VERSION_NUMBER': 'The server does not speak TLS there; see redis_connection.redis_ssl and redis_port.',
}
"""What is in an error's text, and what to do."""


def is_loss(reply: object) -> bool:
    """Return whether a reply is an error that leaves open whether the command was carried out; a refusal does not.

    Args:
        reply: a reply, or the error in its place.
    """
    return isinstance(reply, (ReplyLost, *LOST)) and not isinstance(reply, tuple(REFUSALS))


def is_transient(reply: Exception) -> bool:
    """Return whether a refusal passes and tells nothing about an earlier copy of the command.

    So it is while a server is loading or fails over, and while a slot moves.

    Args:
        reply: the error in place of a reply.
    """
    return isinstance(reply, _TRANSIENT) or any(sign in str(reply) for sign in _TRANSIENT_REPLIES)


def unavailable(error: BaseException, address: str, timeout: float) -> KVSError:
    """Return the error to raise for an error in the place of a reply.

    Args:
        error: one of redis-py, the loss of the reply of a command that only reads, or already one of this package.
        address: where the server is.
        timeout: seconds that a call waits for a free connection.

    Returns:
        Overloaded if all connections were busy, StoreUnavailable otherwise, with a hint; one of this package as it is.
    """
    if isinstance(error, KVSError):
        return error
    text = re.sub(r'\s+', ' ', str(error)).rstrip('.') or type(error).__name__
    if text == ALL_BUSY:
        return Overloaded(
            f'Redis at {address}: all its connections were busy for {timeout:g} s. '
            'Send fewer requests at once, or raise redis_connection.redis_max_connections.'
        )
    return StoreUnavailable(f'Redis at {address} cannot be used: {text}. {_hint(error, text)}')


def wrong_type(location: str, *, writing: bool = False) -> CorruptValue:
    """Return the error for a Redis key that holds a list, a hash or the like.

    Args:
        location: the key and its store.
        writing: whether the key was to be written.
    """
    nothing_written = ' Nothing was written.' if writing else ''
    return CorruptValue(
        f'{location}: the Redis key holds a list, a hash or another type, not a string.{nothing_written} '
        'Remove that key.'
    )


def _hint(error: BaseException, text: str) -> str:
    for sign, hint in _HINTS.items():
        if sign in text:
            return hint
    if isinstance(error, (exceptions.ClusterCrossSlotError, exceptions.AskError)):
        return 'It is a cluster; set redis_connection.redis_cluster: true.'
    lost = (exceptions.ConnectionError, exceptions.TimeoutError, OSError, ReplyLost)
    if isinstance(error, lost) or 'cannot be connected' in text:
        return 'Is it running there? See redis_connection.redis_host and redis_port.'
    return 'Look at its log.'
