"""Many requests in few SQLite statements, and what makes statements.

Each statement releases the interpreter's lock and has to acquire it again, which takes milliseconds while the event
loop computes. So one statement checks the conditions of a whole batch, and another writes all of it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from learning_observer_kvs.stores.write_request import WriteRequest

ROWS = 500
"""Rows of one statement, with three parameters each; SQLite allows 32,766 parameters."""


class Statements:
    """The statements of one table.

    Args:
        table: its name, quoted.
    """

    def __init__(self, table: str) -> None:
        self._table = table

    def apply(self, connection: sqlite3.Connection, requests: Sequence[WriteRequest]) -> None:
        """Process requests in order and set the result of each; inside a transaction.

        Args:
            connection: with the table.
            requests: what to write. One whose condition does not hold is left out.

        Raises:
            sqlite3.Error: the transaction cannot be committed.
        """
        holding = self._holding(connection, requests)
        changes: dict[str, bytes | None] = {}
        cleared, number = False, 0

        def holds(key: str, text: bytes | None) -> bool:
            """Whether a key holds a text after the requests before this one."""
            if key in changes:
                return changes[key] == text
            return text is None if cleared else number in holding

        for request in requests:
            if request.clear:
                cleared, request.result = True, True
                changes.clear()
                continue
            result = True
            for key, text in _conditions(request):
                result = holds(key, text) and result
                number += 1
            if not request.expected:  # the conditions checked were then that everything to be removed is missing
                request.result = not (result and _only_removes(request))
                changes.update(request.writes)
            else:
                request.result = result
                if result:
                    changes.update(request.writes)
        self._write(connection, changes, cleared)

    def _holding(self, connection: sqlite3.Connection, requests: Sequence[WriteRequest]) -> set[int]:
        """The numbers of the conditions that hold before anything is written, counted through all requests."""
        conditions = [condition for request in requests for condition in _conditions(request)]
        found: set[int] = set()
        for start in range(0, len(conditions), ROWS):
            some = conditions[start : start + ROWS]
            statement = (
                f'SELECT group_concat(v.column1) FROM (VALUES {_placeholders(len(some))}) v '
                f'LEFT JOIN {self._table} t ON t.key = v.column2 WHERE CAST(t.value AS BLOB) IS v.column3'
            )
            parameters: list[Any] = []
            for number, (key, text) in enumerate(some, start):
                parameters += (number, key, text)
            [numbers] = connection.execute(statement, parameters).fetchone()
            if numbers is not None:
                found.update(map(int, str(numbers).split(',')))
        return found

    def _write(self, connection: sqlite3.Connection, changes: dict[str, bytes | None], cleared: bool) -> None:
        if cleared:
            connection.execute(f'DELETE FROM {self._table}')
        removed = [key for key, text in changes.items() if text is None]
        for start in range(0, len(removed), ROWS):
            some = removed[start : start + ROWS]
            connection.execute(f'DELETE FROM {self._table} WHERE key IN ({",".join("?" * len(some))})', some)
        now = time.time()
        put = [(key, text, now) for key, text in changes.items() if text is not None]
        for start in range(0, len(put), ROWS):
            rows = put[start : start + ROWS]
            connection.execute(
                f'INSERT INTO {self._table} (key, value, written) VALUES {_placeholders(len(rows))} '
                'ON CONFLICT (key) DO UPDATE SET value = excluded.value, written = excluded.written',
                [part for row in rows for part in row],
            )


@contextmanager
def writing(connection: sqlite3.Connection) -> Iterator[None]:
    """Make a transaction of a block, which is rolled back if the block or its end fails.

    Args:
        connection: in autocommit mode.

    Raises:
        sqlite3.Error: nothing was written.
    """
    connection.execute('BEGIN IMMEDIATE')
    try:
        yield
        connection.execute('COMMIT')
    finally:
        if connection.in_transaction:
            connection.execute('ROLLBACK')


def quoted(name: str) -> str:
    """Return a name as SQL has it.

    Args:
        name: any text.
    """
    return '"' + name.replace('"', '""') + '"'


def _conditions(request: WriteRequest) -> Iterator[tuple[str, bytes | None]]:
    """What keys must hold; of a removal without a condition: that they are missing, to learn whether they are."""
    if request.expected:
        yield from request.expected.items()
    elif _only_removes(request):
        for key in request.writes:
            yield key, None


def _only_removes(request: WriteRequest) -> bool:
    return bool(request.writes) and all(text is None for text in request.writes.values())


def _placeholders(rows: int) -> str:
    return ','.join(['(?,?,?)'] * rows)
