"""What redis-py's errors mean: a refusal, a lost reply, a server that is away; and the error to raise for each."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

from learning_observer_kvs.config.redaction import without_addresses
from learning_observer_kvs.errors import CorruptValue, KVSError, Overloaded, StoreUnavailable
from learning_observer_kvs.stores.redis import redis_py
from learning_observer_kvs.stores.redis.hints import hint, unreadable_tls_file
from learning_observer_kvs.stores.redis.options import value


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
    'X509:',
    'PEM lib',
    'AF_UNIX path too long',
    'cluster support disabled',
    'Cluster mode is not enabled',
    'DB index',
    'NOAUTH',
    'NOPERM',
)
"""What is in the text of an error that waiting does not help against, though it may look like a broken connection."""


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


def unavailable(error: BaseException, address: str, settings: Mapping[str, Any]) -> KVSError:
    """Return the error to raise for an error in the place of a reply.

    Args:
        error: one of redis-py, the loss of the reply of a command that only reads, or already one of this package.
        address: where the server is.
        settings: all that hold for the connection.

    Returns:
        Overloaded if all connections were busy, StoreUnavailable otherwise, with a hint; one of this package as it is.
    """
    if isinstance(error, KVSError):
        return error
    text = one_line(error)
    if text == ALL_BUSY:
        return Overloaded(
            f'Redis at {address}: all its connections were busy for {float(value(settings, "redis_timeout")):g} s. '
            'Send fewer requests at once, or raise redis_connection.redis_max_connections.'
        )
    is_broken = isinstance(error, _broken())
    if is_broken and (wrong := unreadable_tls_file(settings)) is not None:
        return StoreUnavailable(f'Redis at {address} cannot be used: {wrong}')
    stop = '' if text.endswith(('?', '!')) else '.'
    message = f'Redis at {address} cannot be used: {text}{stop} {hint(error, text, settings, is_broken=is_broken)}'
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
        f'{location}: the Redis key holds a list, a hash or another type, not a string, so another program wrote it.'
        f'{nothing_written} Find out which; a prefix, or a database of its own, keeps the store apart from it.'
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
    if text.startswith('DENIED'):  # a page of advice follows
        text = text.partition('.')[0]
    text = without_addresses(text)
    return text or ('no answer came in time' if isinstance(error, TimeoutError) else type(error).__name__)
