"""The call of the script ``COMMIT`` for a batch: its keys, what they must hold, and what is done with them."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from typing import Any

from learning_observer_kvs.stores.redis.records import Record
from learning_observer_kvs.stores.redis.scripts import (
    ABSENT,
    ANYTHING,
    DELETE,
    EQUAL_SHA1,
    EQUAL_TEXT,
    KEEP,
    REFRESH_TTL,
    SET,
    SET_AGAIN,
)
from learning_observer_kvs.stores.write_request import WriteBatch, WriteRequest

MAX_COMPARED = 1 << 10
"""Up to how many bytes an expected text is sent to be compared; of a longer one its SHA-1 is."""

# The codes of an event's commit: its internal state is compared and set, and the external one set too.
_BOTH = EQUAL_TEXT + SET + ANYTHING + SET
_BOTH_ALIKE = EQUAL_TEXT + SET + ANYTHING + SET_AGAIN

RedisKey = Callable[[str], str]
"""Returns the Redis key of a key."""


def commit_call(batch: WriteBatch, record: Record, redis_key: RedisKey, expiry_ms: int) -> list[Any]:
    """Return the call for a batch, with the next sequence of its slot.

    Args:
        batch: the requests.
        record: the idempotency record of their slot.
        redis_key: returns the Redis key of a key.
        expiry_ms: the TTL of what is written, in milliseconds; 0 for none.

    Returns:
        The number of keys, the keys and the arguments.
    """
    record.sequence += 1
    keys: list[str | bytes | int] = [0, record.redis_key]
    arguments: list[str | bytes | int] = [record.sequence, record.answered, expiry_ms, b'']
    all_codes = b''
    for request in batch:
        if _add_event(request, redis_key, keys, arguments):
            continue
        writes, refresh = request.writes, request.refresh
        codes = bytearray()  # adding to bytes takes a minute for a million keys
        codes_position = len(arguments)
        arguments.append(b'')
        new_texts: list[bytes] = []
        for key, text in request.expected.items():
            keys.append(redis_key(key))
            if text is None:
                codes += ABSENT
            elif len(text) <= MAX_COMPARED:
                codes += EQUAL_TEXT
                arguments.append(text)
            else:
                codes += EQUAL_SHA1
                arguments.append(hashlib.sha1(text, usedforsecurity=False).hexdigest())
            if key in writes:
                codes += _action(writes[key], new_texts)
            else:
                codes += REFRESH_TTL if key in refresh else KEEP
        for key, text in writes.items():
            if key not in request.expected:
                keys.append(redis_key(key))
                codes += ANYTHING + _action(text, new_texts)
        for key in refresh:
            if key not in request.expected:
                keys.append(redis_key(key))
                codes += ANYTHING + REFRESH_TTL
        arguments[codes_position] = of_request = bytes(codes)
        arguments += new_texts
        all_codes += of_request
    keys[0] = len(keys) - 1
    if all_codes:
        arguments[3] = b''.join(action for action in (DELETE, REFRESH_TTL) if action in all_codes)
    return keys + arguments


def _add_event(request: WriteRequest, redis_key: RedisKey, keys: list[Any], arguments: list[Any]) -> bool:
    """Add a request of the kind that nearly every event leads to; a shortcut.

    Returns:
        Whether it is of that kind; otherwise nothing was added.
    """
    expected, writes = request.expected, request.writes
    if len(writes) != 2 or len(expected) != 1 or request.refresh:
        return False
    [(key, before)] = expected.items()
    [(other, its_text), (last, text)] = writes.items()
    if last != key or text is None or its_text is None or before is None or len(before) > MAX_COMPARED:
        return False
    keys += (redis_key(key), redis_key(other))
    if its_text is text:
        arguments += (_BOTH_ALIKE, before, text)
    else:
        arguments += (_BOTH, before, text, its_text)
    return True


def _action(text: bytes | None, new_texts: list[bytes]) -> bytes:
    if text is None:
        return DELETE
    if new_texts and new_texts[-1] is text:
        return SET_AGAIN  # both states of a reducer that returns one object twice
    new_texts.append(text)
    return SET


def a_key_of(batch: WriteBatch) -> str:
    """Return one of the keys of a batch; an empty one if it has none.

    Args:
        batch: the requests.
    """
    request = batch[0]
    return next(itertools.chain(request.writes, request.expected, request.refresh), '')
