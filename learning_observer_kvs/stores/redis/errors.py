"""What redis-py's errors mean: a refusal, a lost reply, a cluster that has changed; and the hint for each."""

from __future__ import annotations

import functools
import re

from learning_observer_kvs.config.redaction import without_addresses
from learning_observer_kvs.errors import CorruptValue, KVSError, Overloaded, StoreUnavailable
from learning_observer_kvs.stores.redis import redis_py
from learning_observer_kvs.stores.redis.permissions import CLUSTER_COMMANDS, COMMANDS, allow


class ReplyLost(Exception):
    """Commands were sent and no reply came, or none that Redis gives: they may or may not have been carried out.

    Its text says why.
    """


_REFUSALS = {'BusyLoadingError': 'LOADING', 'AuthenticationError': 'NOAUTH'}
"""Replies that redis-py treats as a broken connection, and how they begin on the wire."""

_NO_CLIENT_MORE = 'max number of clients reached'
"""Likewise; the server answers so before it reads what was sent."""

ALL_BUSY = 'No connection available'
"""What redis-py says when a pool has none to give."""

_TRANSIENT = (
    'BusyLoadingError',
    'ReadOnlyError',
    'OutOfMemoryError',
    'ClusterError',
    'RedisClusterException',
    'TryAgainError',
)

_TRANSIENT_REPLIES = (
    'LOADING',
    'READONLY',
    'MASTERDOWN',
    'CLUSTERDOWN',
    'TRYAGAIN',
    'NOREPLICAS',
    'BUSY',
    'UNBLOCKED',
    'OOM',
    'MISCONF',
    _NO_CLIENT_MORE,
)
"""How a server refuses that loads, fails over, is busy, or has no space: memory is freed, a save succeeds again."""

_PERMANENT_ERRORS = (
    'AuthenticationError',
    'AuthorizationError',
    'NoPermissionError',
    'AskError',  # one that is left: the server is a cluster, and is not used as one
)

_PERMANENT = (
    'CERTIFICATE_VERIFY_FAILED',
    'WRONG_VERSION_NUMBER',
    'cluster support disabled',
    'Cluster mode is not enabled',
    'DB index',
    'NOAUTH',
    'NOPERM',
)
"""What is in the text of an error that waiting does not help against, though it may look like a broken connection."""

_PASSWORD = 'Set redis_connection.redis_password (and redis_username) as the server expects them.'

_LOADING = 'It is still loading its data; try again in a moment.'

_REPLICA = 'This is a replica; name the master in redis_connection.redis_host, or use redis_sentinels.'

_MEMORY = 'It is at its memory limit; raise maxmemory, or remove data.'

_REFUSED = (
    f'The store needs its keys and {allow(COMMANDS)}; in a cluster also {allow(CLUSTER_COMMANDS)}, in a database other '
    'than 0 also +select. lo-kvs check --live names what is refused.'
)

_NODES_MISSING = 'Some slots have no node; look at CLUSTER INFO on the nodes, and start those that are missing.'

_NOT_REDIS = 'It is not a Redis that answers there; see redis_connection.redis_host and redis_port.'

_WEB_SERVER = 'That is how a web server (HTTP) answers; see redis_connection.redis_port.'

_TLS = 'That is how a server that speaks TLS answers; see redis_connection.redis_ssl.'

_NOT_A_CLUSTER = (
    'It is not a cluster; take redis_connection.redis_cluster out. If it is one, allow this user +cluster|slots.'
)

_HINTS = {
    'NOAUTH': _PASSWORD,
    'WRONGPASS': _PASSWORD,
    'invalid username-password': _PASSWORD,
    'Authentication required': _PASSWORD,
    'invalid password': _PASSWORD,
    'no permissions': _REFUSED,
    "can't run this command": _REFUSED,
    'refuses the command': _REFUSED,
    'nknown command': _REFUSED,
    'nknown Redis command': _REFUSED,
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
    'invalid bulk length': 'A value is longer than its proto-max-bulk-len allows.',
    'invalid multibulk length': 'It does not accept so many keys at once; write them in several steps.',
    'DB index': 'The server has fewer databases; see redis_connection.redis_db.',
    'CERTIFICATE_VERIFY_FAILED': (
        'Name the authority that signed its certificate in redis_connection.redis_ssl_ca_certs, and connect to the '
        'host the certificate is for.'
    ),
    'WRONG_VERSION_NUMBER': 'The server does not speak TLS there; see redis_connection.redis_ssl and redis_port.',
    'got "H" as reply type byte': _WEB_SERVER,
    'got "<" as reply type byte': _WEB_SERVER,
    r'got "\x15" as reply type byte': _TLS,
    'as reply type byte': _NOT_REDIS,
}
"""What is in an error's text, and what to do."""


def is_loss(reply: object) -> bool:
    """Return whether a reply is an error that leaves open whether the command was carried out; a refusal does not.

    Args:
        reply: a reply, or the error in its place.
    """
    return isinstance(reply, Exception) and isinstance(reply, _broken()) and refusal(reply) is None


def refusal(error: object) -> redis_py.exceptions.ResponseError | None:
    """Return the reply that an error of redis-py's stands for, where it is not a broken connection.

    Args:
        error: the error with which a reply was read.

    Returns:
        The refusal, as the server wrote it; ``None`` if the error is not one.
    """
    if isinstance(error, redis_py.exceptions.ConnectionError):
        for kind, code in _REFUSALS.items():
            if isinstance(error, _named(kind)):
                return redis_py.exceptions.ResponseError(f'{code} {error}')
        if _NO_CLIENT_MORE in str(error):
            return redis_py.exceptions.ResponseError(str(error))
    return None


def may_recover(error: BaseException) -> bool:
    """Return whether waiting may help: the server is away, starts, fails over, or has no space.

    Args:
        error: the error in place of a reply, or one that kept commands from being sent.
    """
    if isinstance(error, KVSError):
        return isinstance(error, StoreUnavailable) and error.retry
    text = str(error)
    if isinstance(error, _named(*_PERMANENT_ERRORS)) or any(sign in text for sign in _PERMANENT):
        return False
    return isinstance(error, (*_broken(), *_named(*_TRANSIENT))) or any(sign in text for sign in _TRANSIENT_REPLIES)


def lost(error: BaseException | str) -> ReplyLost:
    """Return the loss of a reply.

    Args:
        error: why it is lost.
    """
    return ReplyLost(one_line(error))


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
    text = one_line(error)
    if text == ALL_BUSY:
        return Overloaded(
            f'Redis at {address}: all its connections were busy for {timeout:g} s. '
            'Send fewer requests at once, or raise redis_connection.redis_max_connections.'
        )
    message = f'Redis at {address} cannot be used: {text}. {_hint(error, text)}'
    return StoreUnavailable(message, retry=may_recover(error))


def is_wrong_type(error: Exception) -> bool:
    """Return whether a command was refused because a key does not hold a string.

    Args:
        error: the error in place of a reply.
    """
    return str(error).startswith('WRONGTYPE')


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


@functools.cache
def _named(*names: str) -> tuple[type[BaseException], ...]:
    """Return errors of redis-py by their names."""
    return tuple(getattr(redis_py.exceptions, name) for name in names)


@functools.cache
def _broken() -> tuple[type[BaseException], ...]:
    """Return the errors of a broken connection."""
    return (ReplyLost, *_named('ConnectionError', 'TimeoutError'), OSError, EOFError)


def one_line(error: BaseException | str) -> str:
    """Return the text of an error in one line, without what it may quote of the settings.

    Args:
        error: the error; one without a text is named by its type.
    """
    text = re.sub(r'\s+', ' ', str(error)).partition(', with args beginning')[0].strip().rstrip('.')
    text = without_addresses(text)
    return text or ('no answer came in time' if isinstance(error, TimeoutError) else type(error).__name__)


def _hint(error: BaseException, text: str) -> str:
    for sign, hint in _HINTS.items():
        if sign in text:
            return hint
    if isinstance(error, (redis_py.exceptions.ClusterCrossSlotError, redis_py.exceptions.AskError)):
        return 'It is a cluster; set redis_connection.redis_cluster: true.'
    if isinstance(error, _broken()) or 'cannot be connected' in text:
        return 'Is it running there? See redis_connection.redis_host and redis_port.'
    return 'Look at its log.'
