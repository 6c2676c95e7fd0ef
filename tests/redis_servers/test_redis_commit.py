"""The script that applies a batch: idempotency records of every age, conditions, and what is done."""

from __future__ import annotations

import hashlib

import pytest

from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.scripts import (
    ABSENT,
    ANYTHING,
    COMMIT,
    DELETE,
    EQUAL_SHA1,
    EQUAL_TEXT,
    KEEP,
    NEW_RECORD,
    NO_RECORD,
    REFRESH_TTL,
    SET,
    SET_AGAIN,
)

AGES: dict[str, tuple[str | None, int, int, bytes]] = {
    'new': ('[0,""]', 1, 0, b'1'),
    'of the batch before': ('[9,"0"]', 10, 9, b'1'),
    'of a batch before that was given up': ('[10,"1"]', 11, 9, b'1'),
    'of a batch long before': ('[9,"1"]', 12, 9, b'1'),
    'of this batch': ('[10,"0"]', 10, 9, b'0'),
    'of the batch after it': ('[10,"1"]', 9, 8, NO_RECORD),
    'of a batch long after it': ('[100,"1"]', 99, 9, NO_RECORD),
    'of a batch before one that was answered': ('[9,"1"]', 12, 10, NO_RECORD),
    'foreign': ('x', 1, 0, NO_RECORD),
    'gone': (None, 1, 0, NO_RECORD),
}
"""A record, the sequence of a batch, that of the last one that was answered to its writer, and the reply."""


@pytest.mark.parametrize('age', AGES)
async def test_a_batch_is_applied_once_after_those_that_were_answered(age: str, redis: RedisConnection) -> None:
    record, sequence, answered, expected = AGES[age]
    if record is not None:
        await redis.exchange([('SET', 'record', record)])
    arguments = (sequence, answered, 0, b'', ANYTHING + SET, b'text')
    [reply] = await redis.exchange([('EVAL', COMMIT.text, 2, 'record', 'k', *arguments)])
    assert reply == expected
    [text, kept] = await redis.exchange([('GET', 'k'), ('GET', 'record')])
    assert text == (b'text' if reply == b'1' else None)
    assert kept == (f'[{sequence},"1"]'.encode() if reply == b'1' else record and record.encode())


def sha1(text: bytes) -> str:
    return hashlib.sha1(text, usedforsecurity=False).hexdigest()


Part = tuple[str, bytes, tuple[str | bytes, ...]]
"""A key, what it must hold and what is done with it, and the texts of both."""

COMMITS: dict[str, tuple[list[Part], bytes]] = {
    'missing where it must be': ([('none', ABSENT + KEEP, ())], b'1'),
    'there where it must be missing': ([('text', ABSENT + KEEP, ())], b'0'),
    'not a text where it must be missing': ([('list', ABSENT + KEEP, ())], b'T'),
    'an equal text': ([('text', EQUAL_TEXT + KEEP, (b'old',))], b'1'),
    'another text': ([('text', EQUAL_TEXT + KEEP, (b'new',))], b'0'),
    'missing instead of a text': ([('none', EQUAL_TEXT + KEEP, (b'old',))], b'0'),
    'not a text': ([('list', EQUAL_TEXT + KEEP, (b'old',))], b'T'),
    'an equal digest': ([('text', EQUAL_SHA1 + KEEP, (sha1(b'old'),))], b'1'),
    'another digest': ([('text', EQUAL_SHA1 + KEEP, (sha1(b'new'),))], b'0'),
    'missing instead of a digest': ([('none', EQUAL_SHA1 + KEEP, (sha1(b'old'),))], b'0'),
    'not a text with a digest': ([('list', EQUAL_SHA1 + KEEP, (sha1(b'old'),))], b'T'),
    'one that fails after one that cannot be compared': (
        [('list', EQUAL_TEXT + KEEP, (b'old',)), ('text', EQUAL_TEXT + KEEP, (b'new',))],
        b'0',
    ),
    'one that fails before one that cannot be compared': (
        [('text', EQUAL_TEXT + KEEP, (b'new',)), ('list', ABSENT + KEEP, ())],
        b'0',
    ),
    'one that is there after one that cannot be compared': (
        [('list', ABSENT + KEEP, ()), ('text', ABSENT + KEEP, ())],
        b'0',
    ),
    'one that fails before one that holds': (
        [('text', EQUAL_TEXT + KEEP, (b'new',)), ('none', ABSENT + KEEP, ())],
        b'0',
    ),
}


@pytest.mark.parametrize('name', COMMITS)
async def test_a_commit_is_applied_if_every_key_holds_what_it_must(name: str, redis: RedisConnection) -> None:
    parts, expected = COMMITS[name]
    await redis.exchange([('SET', 'record', NEW_RECORD), ('SET', 'text', 'old'), ('RPUSH', 'list', 'x')])
    keys = [key for key, _, _ in parts]
    codes = b''.join(code for _, code, _ in parts)
    texts = [text for _, _, of_key in parts for text in of_key]
    arguments = [codes + ANYTHING + SET + ANYTHING + DELETE, *texts, b'new', ANYTHING + SET, b'other']
    keys = ['record', *keys, 'k', 'removed', 'l']
    command: list[str | bytes | int] = ['EVAL', COMMIT.text, len(keys), *keys, 1, 0, 0, DELETE, *arguments]
    await redis.exchange([('SET', 'removed', 'text')])
    assert await redis.exchange([command]) == [expected + b'1']
    applied = expected == b'1'
    held = await redis.exchange([('MGET', 'k', 'removed', 'l', 'text', 'none')])
    assert held == [[b'new' if applied else None, None if applied else b'text', b'other', b'old', None]]
    assert await redis.exchange([('LRANGE', 'list', 0, -1)]) == [[b'x']]


@pytest.mark.parametrize(
    ('key', 'code', 'expected'),
    [
        ('text', ANYTHING + DELETE, b'1'),
        ('none', ANYTHING + DELETE, b'0'),
        ('none', ABSENT + DELETE, b'1'),
        ('none', ABSENT + KEEP, b'1'),
        ('list', ANYTHING + SET, b'1'),
    ],
)
async def test_only_what_removes_nothing_without_a_condition_is_not_applied(
    key: str, code: bytes, expected: bytes, redis: RedisConnection
) -> None:
    await redis.exchange([('SET', 'record', NEW_RECORD), ('SET', 'text', 'old'), ('RPUSH', 'list', 'x')])
    arguments: list[str | bytes | int] = [DELETE, code, b'new'] if code.endswith(SET) else [DELETE, code]
    assert await redis.exchange([('EVAL', COMMIT.text, 2, 'record', key, 1, 0, 0, *arguments)]) == [expected]
    assert await redis.exchange([('EXISTS', key)]) == [int(code.endswith(SET))]


async def test_a_text_that_is_sent_once_is_set_to_each_key_behind_it_and_with_the_ttl(redis: RedisConnection) -> None:
    await redis.exchange([('SET', 'record', NEW_RECORD)])
    keys = ['a', 'b', 'c', 'd']
    arguments = [b'', ANYTHING + SET + ANYTHING + SET_AGAIN + ANYTHING + SET, b'1', b'2', ANYTHING + SET, b'3']
    command: list[str | bytes | int] = ['EVAL', COMMIT.text, 5, 'record', *keys, 1, 0, 60_000, *arguments]
    assert await redis.exchange([command]) == [b'11']
    assert await redis.exchange([('MGET', *keys)]) == [[b'1', b'1', b'2', b'3']]
    assert all(50_000 < ttl_ms <= 60_000 for ttl_ms in await redis.exchange([('PTTL', key) for key in keys]))


@pytest.mark.parametrize(('text', 'expected'), [(b'old', b'1'), (b'new', b'0')])
async def test_the_ttl_of_a_key_begins_anew_only_if_the_commit_is_applied(
    text: bytes, expected: bytes, redis: RedisConnection
) -> None:
    await redis.exchange([('SET', 'record', NEW_RECORD), ('SET', 'k', 'old', 'PX', 30_000)])
    arguments = [REFRESH_TTL, EQUAL_TEXT + REFRESH_TTL, text]
    assert await redis.exchange([('EVAL', COMMIT.text, 2, 'record', 'k', 1, 0, 60_000, *arguments)]) == [expected]
    [ttl_ms] = await redis.exchange([('PTTL', 'k')])
    assert (ttl_ms > 30_000) is (expected == b'1')
