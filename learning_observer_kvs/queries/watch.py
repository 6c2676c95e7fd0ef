"""The table of a class, and from then on the rows that change."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Iterable
from typing import Any

from learning_observer_kvs import json_codec
from learning_observer_kvs.queries.changes import StateChange, as_in_keys, changes
from learning_observer_kvs.queries.described import ReducerLike
from learning_observer_kvs.queries.paths import Fields
from learning_observer_kvs.queries.table import Documents, Row, table
from learning_observer_kvs.stores.base import Store


async def watch(
    store: Store,
    reducers: Iterable[ReducerLike],
    students: Iterable[Any],
    *,
    documents: Documents = None,
    state: str = 'external',
    fields: Fields = None,
) -> AsyncGenerator[list[Row], None]:
    """Read the states of a class, and again those of the students whose states change.

        async with contextlib.aclosing(queries.watch(store, [count_words], students)) as watching:
            async for rows in watching:
                ...

    What changes while the reader is busy comes together, read in one round trip. As long as nothing changes nothing is
    read.

    Args:
        store: where the states are.
        reducers: as for :func:`~learning_observer_kvs.queries.table.table`.
        students: likewise.
        documents: likewise.
        state: likewise.
        fields: likewise.

    Yields:
        First all rows, as ``table`` returns them; then, each time, the rows that are others than before. It ends when
        the store is closed.

    Raises:
        ValueError: there is no reducer, or as for ``table``.
        InvalidKey, ScopeFieldError, InvalidValue, CorruptValue, StoreUnavailable, Overloaded: as for ``table``; the
            changes cannot be seen.
    """
    of_interest = list(reducers)
    of_class = list(students)
    given: dict[tuple[Any, str | None], bytes] = {}

    async def read(names: list[Any]) -> list[Row]:
        return await table(store, of_interest, names, documents=documents, state=state, fields=fields)

    def is_new(row: Row) -> bool:
        place, digest = (row.student, row.document), _digest(row)
        before, given[place] = given.get(place), digest
        return before != digest

    async with changes(store, of_interest, of_class, state=state) as changed:  # before the first read: none is missed
        rows = await read(of_class)
        for row in rows:
            is_new(row)
        yield rows
        while True:
            try:
                some = await changed.together()
            except StopAsyncIteration:
                return
            rows = await read(_students_of(some, of_class))
            if rows := [row for row in rows if is_new(row)]:
                yield rows


def _students_of(some: list[StateChange], students: list[Any]) -> list[Any]:
    """The students whose states changed, as they were asked for."""
    if any(change.kind == 'resync' for change in some):
        return students
    names = {change.student for change in some}
    return [student for student in students if names & as_in_keys(student)]


def _digest(row: Row) -> bytes:
    """What is another one when a row is another: rows themselves belong to their reader."""
    digest = hashlib.blake2b(digest_size=16)
    for cell in row.cells.values():
        text = json_codec.encode(cell.value)
        digest.update(b'%d %d ' % (cell.found, len(text)) + text)
    return digest.digest()
