"""Requests of one transaction: each sees what those before it came to."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping

import pytest

from learning_observer_kvs.stores.sqlite.statements import ROWS, Statements
from learning_observer_kvs.stores.write_request import WriteRequest

Texts = Mapping[str, bytes | None]


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    """A database in memory whose table holds a key."""
    connection = sqlite3.connect(':memory:')
    connection.execute('CREATE TABLE t (key TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL, written REAL NOT NULL)')
    connection.execute("INSERT INTO t VALUES ('old', CAST('1' AS BLOB), 0)")
    yield connection
    connection.close()


def write(writes: Texts, expected: Texts | None = None) -> WriteRequest:
    return WriteRequest(writes, expected or {}, lambda outcome: None)


def clear() -> WriteRequest:
    return WriteRequest({}, {}, lambda outcome: None, clear=True)


def apply(connection: sqlite3.Connection, *requests: WriteRequest) -> list[object]:
    """Process requests, and return the result of each."""
    Statements('t').apply(connection, requests)
    return [request.result for request in requests]


def texts(connection: sqlite3.Connection) -> dict[str, bytes]:
    return dict(connection.execute('SELECT key, value FROM t').fetchall())


def test_a_condition_is_compared_with_what_a_request_before_it_wrote(connection: sqlite3.Connection) -> None:
    results = apply(
        connection,
        write({'new': b'1', 'old': None}),
        write({'a': b'1'}, {'new': b'1', 'old': None}),
        write({'b': b'1'}, {'new': None}),
        write({'c': b'1'}, {'old': b'1'}),
    )
    assert results == [True, True, False, False]
    assert texts(connection) == {'new': b'1', 'a': b'1'}


def test_after_a_clear_every_key_is_missing_but_those_written_since(connection: sqlite3.Connection) -> None:
    results = apply(
        connection,
        write({'gone': b'1'}),
        clear(),
        write({'a': b'1'}, {'old': None, 'gone': None}),
        write({'b': b'1'}, {'old': b'1'}),
        write({'c': b'1'}, {'a': b'1'}),
    )
    assert results == [True, True, True, False, True]
    assert texts(connection) == {'a': b'1', 'c': b'1'}


def test_a_request_whose_condition_fails_shifts_no_condition_of_those_behind_it(
    connection: sqlite3.Connection,
) -> None:
    results = apply(
        connection,
        write({'a': b'1'}, {'x': b'1', 'old': b'1', 'y': None}),
        write({'b': b'1'}, {'old': b'1'}),
        write({'c': b'1'}, {'old': b'2'}),
    )
    assert results == [False, True, False]
    assert texts(connection) == {'old': b'1', 'b': b'1'}


def test_every_condition_of_many_counts(connection: sqlite3.Connection) -> None:
    missing = dict.fromkeys((f'k{number}' for number in range(2 * ROWS)), None)
    results = apply(
        connection,
        write({'a': b'1'}, {'old': b'1', **missing}),
        write({'b': b'1'}, {**missing, 'old': b'1'}),
        write({'c': b'1'}, {**missing, 'old': b'2'}),
    )
    assert results == [True, True, False]
    assert texts(connection) == {'old': b'1', 'a': b'1', 'b': b'1'}


def test_a_removal_tells_whether_something_was_there(connection: sqlite3.Connection) -> None:
    results = apply(connection, write({'old': None, 'x': None}), write({'old': None}), write({'x': None}))
    assert results == [True, False, False]
    assert texts(connection) == {}


def test_an_empty_write_is_carried_out(connection: sqlite3.Connection) -> None:
    assert apply(connection, write({})) == [True]
