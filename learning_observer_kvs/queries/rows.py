"""States as rows for analysts: one a state, with a column for each entry; written as CSV or as lines of JSON."""

from __future__ import annotations

import asyncio
import csv
import datetime
import io
import tempfile
from collections.abc import AsyncGenerator, Callable
from typing import BinaryIO

from learning_observer_kvs import json_codec
from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.queries.kept import Kept
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.reads import each_once
from learning_observer_kvs.stores.types import MISSING, Description
from learning_observer_kvs.stream_analytics.fields import KeyField
from learning_observer_kvs.stream_analytics.keys import ReducerKey, parse_key

READ_AT_ONCE = 100
"""How many values are in memory at once."""

WRITE_AT_ONCE = 1000
"""How many rows are written at a time."""

_OWN = {'reducer', 'written', 'bytes', *(field.name for field in KeyField)}
"""Columns that are not entries of a state, besides those that begin with ``_FIELD``."""

_FIELD = ('EventField.', 'KeyField.')
"""What columns begin with that are fields of a key: of the event, and such as only other programs write."""

_EMPTY = r'\empty'
"""How an empty name is written in a path; a backslash in a name is doubled."""


async def entries(store: Store, what: Kept) -> AsyncGenerator[tuple[str, JSON], None]:
    """Read what is kept for students or by reducers, or other entries of a store.

    Args:
        store: the store.
        what: which keys.

    Yields:
        Each key once, and its value.

    Raises:
        CorruptValue, StoreUnavailable, Overloaded: as for ``multiget``.
    """
    async for chunk in _chunks(store, what):
        for entry in chunk:
            yield entry


async def _chunks(store: Store, what: Kept) -> AsyncGenerator[list[tuple[str, JSON]], None]:
    async for page in each_once(store, what.pages(store)):
        for start in range(0, len(page), READ_AT_ONCE):
            keys = page[start : start + READ_AT_ONCE]
            values = await store.multiget(keys, missing=MISSING)
            yield [entry for entry in zip(keys, values, strict=True) if entry[1] is not MISSING]


async def rows(store: Store, what: Kept) -> AsyncGenerator[dict[str, JSON], None]:
    """Read states as rows.

    Args:
        store: the store.
        what: which keys; those that are not of a reducer's state are left out.

    Yields:
        ``reducer``; the fields of the scope (``STUDENT``, ``EventField.doc_id``; others that a key has begin with
        ``KeyField.``); ``written``, the time of the last
        write, in UTC, ``None`` where the backend does not know it; ``bytes``, the size of the state as JSON; and each
        entry of the state: those inside others by their path, with dots. A state that has no entries is ``state``.

    Raises:
        CorruptValue, StoreUnavailable, Overloaded: as for ``multiget``.
    """
    async for chunk in _chunks(store, what):
        described = await store.describe_all([key for key, _ in chunk])
        for (key, value), found in zip(chunk, described, strict=True):
            description = found if isinstance(found, Description) else None  # another program replaced it since
            if (parsed := parse_key(key)) is not None:
                yield _row(parsed, value, description)


def flat(state: JSON) -> dict[str, JSON]:
    r"""Return the entries of a state by their path.

    Args:
        state: any state.

    Returns:
        Texts, numbers, truth values, ``None`` and lists by path. A dot in a name is written ``\.``, the backslash
        itself ``\\``, an empty name ``\empty``; a path that is also the name of another column begins with ``state.``.
    """
    found: dict[str, JSON] = {}

    def add(value: JSON, path: str | None) -> None:
        if isinstance(value, dict) and value:
            for name, inner in value.items():
                written = name.replace('\\', '\\\\').replace('.', '\\.') or _EMPTY
                add(inner, written if path is None else f'{path}.{written}')
        elif path is None:
            found['state'] = value
        else:
            taken = path in _OWN or path.startswith((*_FIELD, 'state.')) or path == 'state'
            found[f'state.{path}' if taken else path] = value

    if state != {}:
        add(state, None)
    return found


async def write_ndjson(file: BinaryIO, store: Store, what: Kept, progress: Callable[[int], None]) -> int:
    """Write rows as lines of JSON, each an object.

    Args:
        file: a binary file that is open.
        store: the store.
        what: which keys.
        progress: called with how many rows were written since the last call.

    Returns:
        How many rows were written.

    Raises:
        InvalidValue: a state holds what JSON does not have, such as a ``NaN`` that another program wrote.
        CorruptValue, StoreUnavailable, Overloaded: as for ``multiget``.
    """
    return (await _write_lines(file, store, what, progress))[0]


async def write_csv(file: BinaryIO, store: Store, what: Kept, progress: Callable[[int], None]) -> int:
    """Write rows as CSV, in UTF-8: a line with the names of all columns, then a line a row.

    Lists are written as JSON; what a state does not have, and ``None``, is empty.

    Args:
        file: a binary file that is open.
        store: the store.
        what: which keys.
        progress: called with how many rows were written since the last call.

    Returns:
        How many rows were written.

    Raises:
        InvalidValue: a state holds what JSON does not have, such as a ``NaN`` that another program wrote.
        CorruptValue, StoreUnavailable, Overloaded: as for ``multiget``.
    """
    # All columns are known when all states were read; they are read once, because they change.
    with tempfile.TemporaryFile() as lines:
        count, columns = await _write_lines(lines, store, what, progress)
        await asyncio.to_thread(_convert, lines, file, columns)
    return count


def _row(parsed: ReducerKey, value: JSON, description: Description | None) -> dict[str, JSON]:
    written = description.written if description is not None else None
    return {
        'reducer': parsed.source,
        **{_column_of(name): text for name, text in parsed.fields.items()},
        'written': None if written is None else datetime.datetime.fromtimestamp(written, datetime.UTC).isoformat(),
        'bytes': None if description is None else description.bytes,
        **flat(value),
    }


def _column_of(field: str) -> str:
    """The column of a field that a key has."""
    return field if field in KeyField.__members__ or field.startswith('EventField.') else f'KeyField.{field}'


async def _write_lines(
    file: BinaryIO, store: Store, what: Kept, progress: Callable[[int], None]
) -> tuple[int, list[str]]:
    """Write rows as lines of JSON; how many, and the names of their columns."""
    count, columns, buffer = 0, dict.fromkeys(['reducer']), bytearray()
    async for row in rows(store, what):
        columns |= dict.fromkeys(row)
        buffer += store.encode(str(row['reducer']), row) + b'\n'
        count += 1
        progress(1)
        if count % WRITE_AT_ONCE == 0:
            await asyncio.to_thread(file.write, bytes(buffer))
            buffer.clear()
    await asyncio.to_thread(_write_rest, file, bytes(buffer))
    return count, sorted(columns, key=_rank)


def _rank(column: str) -> int:
    """Where a column stands: what is not of the state comes first; else as they were found."""
    if column == 'reducer':
        return 0
    if column in ('written', 'bytes'):
        return 2
    return 1 if column in _OWN or column.startswith(_FIELD) else 3


def _write_rest(file: BinaryIO, rest: bytes) -> None:
    file.write(rest)
    file.flush()


def _convert(lines: BinaryIO, file: BinaryIO, columns: list[str]) -> None:
    lines.seek(0)
    text = io.TextIOWrapper(file, encoding='utf-8', errors='backslashreplace', newline='', write_through=True)
    try:
        writer = csv.writer(text, lineterminator='\n')
        writer.writerow(columns)
        for line in lines:
            row = json_codec.decode(line)
            assert isinstance(row, dict)
            writer.writerow([_cell(row.get(column)) for column in columns])
        text.flush()
    finally:
        text.detach()  # the file is not ours to close


def _cell(value: JSON) -> str:
    if value is None or isinstance(value, str):
        return value or ''
    return json_codec.encode(value).decode()
