"""Many requests in few SQLite statements.

Each statement gives the interpreter's lock away and has to get it back, which takes milliseconds while the event loop
computes. So the conditions of a whole batch are looked at in one statement, and all it writes goes in another.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from typing import Any

from learning_observer_kvs.stores.write_queue import WriteRequest

ROWS = 500
"""Rows of one statement; SQLite takes 32,766 parameters."""


class Statements:
    """The statements of one table.

    Args:
        table: its name, quoted.
    """

    def __init__(self, table: str) -> None:
        self._table = table

    def apply(self, connection: sqlite3.Connection, requests: Sequence[WriteRequest]) -> None:
        """Inside a transaction: carry out requests in order, and set the result of each."""
        fits = self._fitting(connection, requests)
        coming: dict[str, bytes | None] = {}
        cleared, number = False, 0

        def holds(key: str, text: bytes | None) -> bool:
            """Whether a key holds this text, with all that the requests before have changed."""
            if key in coming:
                return coming[key] == text
            return text is None if cleared else number in fits

        for request in requests:
            if request.clear:
                cleared, request.result = True, True
                coming.clear()
                continue
            result = True
            for key, text in _conditions(request):
                result = holds(key, text) and result
                number += 1
            if not request.expected:  # what was asked then is whether everything to be removed is missing already
                request.result = not (result and _only_removes(request))
                coming.update(request.writes)
            else:
                request.result = result
                if result:
                    coming.update(request.writes)
        self._write(connection, coming, cleared)

    def _fitting(self, connection: sqlite3.Connection, requests: Sequence[WriteRequest]) -> set[int]:
        """The numbers of the conditions that hold before anything is written, counted through all requests."""
        conditions = [condition for request in requests for condition in _conditions(request)]
        found: set[int] = set()
        for start in range(0, len(conditions), ROWS):
            some = conditions[start : start + ROWS]
            statement = (
                f'SELECT group_concat(v.column1) FROM (VALUES {_marks(len(some))}) v '
                f'LEFT JOIN {self._table} t ON t.key = v.column2 WHERE CAST(t.value AS BLOB) IS v.column3'
            )
            parameters: list[Any] = []
            for number, (key, text) in enumerate(some, start):
                parameters += (number, key, text)
            [numbers] = connection.execute(statement, parameters).fetchone()
            if numbers is not None:
                found.update(map(int, str(numbers).split(',')))
        return found

    def _write(self, connection: sqlite3.Connection, coming: dict[str, bytes | None], cleared: bool) -> None:
        if cleared:
            connection.execute(f'DELETE FROM {self._table}')
        removed = [key for key, text in coming.items() if text is None]
        for start in range(0, len(removed), ROWS):
            some = removed[start : start + ROWS]
            connection.execute(f'DELETE FROM {self._table} WHERE key IN ({",".join("?" * len(some))})', some)
        now = time.time()
        put = [(key, text, now) for key, text in coming.items() if text is not None]
        for start in range(0, len(put), ROWS):
            rows = put[start : start + ROWS]
            connection.execute(
                f'INSERT INTO {self._table} (key, value, written) VALUES {_marks(len(rows))} '
                'ON CONFLICT (key) DO UPDATE SET value = excluded.value, written = excluded.written',
                [part for row in rows for part in row],
            )


def _conditions(request: WriteRequest) -> Iterator[tuple[str, bytes | None]]:
    """What keys must hold; of a removal without a condition, the keys, to learn whether they are missing."""
    if request.expected:
        yield from request.expected.items()
    elif _only_removes(request):
        for key in request.writes:
            yield key, None


def _only_removes(request: WriteRequest) -> bool:
    return bool(request.writes) and all(text is None for text in request.writes.values())


def _marks(rows: int) -> str:
    return ','.join(['(?,?,?)'] * rows)
