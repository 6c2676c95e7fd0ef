"""The script that applies a batch, called with idempotency records of every age."""

from __future__ import annotations

import pytest

from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.scripts import ANYTHING, COMMIT, NO_RECORD, SET

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
