"""The table of a class, and from then on the rows that change."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Iterable
from typing import Any

from learning_observer_kvs import json_codec
from learning_observer_kvs.errors import InvalidValue
from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.queries.asked import reducer_list, student_list
from learning_observer_kvs.queries.changes import StateChange, as_in_keys, changes
from learning_observer_kvs.queries.described import ReducerLike
from learning_observer_kvs.queries.paths import Fields, chosen
from learning_observer_kvs.queries.table import Documents, Row, table
from learning_observer_kvs.stores.base import Store


async def watch(
    store: Store,
    reducers: ReducerLike | Iterable[ReducerLike],
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
    of_interest = reducer_list(reducers)
    of_class = student_list(students)
    given: dict[tuple[Any, str | None], bytes] = {}

    async def read_new(names: list[Any]) -> list[Row]:
        rows = await table(store, of_interest, names, documents=documents, state=state)
        digests = {(row.student, row.document): _digest(row, fields) for row in rows}
        new = {place for place, digest in digests.items() if given.get(place) != digest}
        given.update(digests)
        return [_chosen(row, fields) for row in rows if (row.student, row.document) in new]

    async with changes(store, of_interest, of_class, state=state) as changed:  # before the first read: none is missed
        yield await read_new(of_class)
        while True:
            try:
                some = await changed.together()
            except StopAsyncIteration:
                return
            if rows := await read_new(_students_of(some, of_class)):
                yield rows


def _students_of(some: list[StateChange], students: list[Any]) -> list[Any]:
    """The students whose states changed, as they were asked for."""
    if any(change.kind == 'resync' for change in some):
        return students
    names = {change.student for change in some}
    return [student for student in students if names & as_in_keys(student)]


def _chosen(row: Row, fields: Fields) -> Row:
    if fields is None:
        return row
    return row._replace(
        cells={name: cell._replace(value=chosen(cell.value, fields)) for name, cell in row.cells.items()}
    )


def _digest(row: Row, fields: Fields) -> bytes:
    """What is another one when a row is another: rows themselves belong to their reader."""
    digest = hashlib.blake2b(digest_size=16)
    for cell in row.cells.values():
        text = _text(cell.value if fields is None else chosen(cell.value, fields, timestamp=''))
        digest.update(b'%d %d ' % (cell.found, len(text)) + text)
    return digest.digest()


def _text(value: JSON) -> bytes:
    try:
        return json_codec.encode(value)
    except InvalidValue:  # another program wrote it: NaN
        return repr(value).encode(errors='surrogatepass')
