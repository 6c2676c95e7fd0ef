"""The ``critical-error-*.tb`` files of a Learning Observer server: an event, and the traceback of its failure.

The server gives an event to its reducers one after the other; if one of them fails, it writes such a file and leaves
out the rest. The file alone does not say which reducers those are. So the integration adds a note to the error, which
Python prints at the end of the traceback.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from learning_observer_kvs import json_codec
from learning_observer_kvs.errors import CorruptValue, EventFileError, WriteUnclear
from learning_observer_kvs.replay.events import is_event

PATTERN = 'critical-error-*.tb'
"""The names of these files."""

_NOTE = 'Not processed, for lo-kvs replay: '
_TRACEBACK = '\nTraceback:\n'


class NotProcessed(NamedTuple):
    """The states that an event did not reach.

    Attributes:
        keys: the internal keys of the reducers that failed, or were left out because one failed.
        unclear: those of them to which the event may have been applied all the same.
    """

    keys: tuple[str, ...]
    unclear: frozenset[str]


class ErrorFile(NamedTuple):
    """The content of an error file.

    Attributes:
        event: the event.
        not_processed: what the note says; ``None`` without one: a server without this integration wrote the file, or
            a reducer failed that it does not run.
    """

    event: dict[str, Any]
    not_processed: NotProcessed | None


def annotate(error: BaseException, failed: Mapping[str, BaseException], skipped: Sequence[str] = ()) -> None:
    """Note on an error which states its event did not reach. A note from before, for another event, is replaced.

    Args:
        error: the error of one event; others may have been raised the same one.
        failed: the internal key of each reducer that failed, with its error.
        skipped: the internal keys of the reducers that are left out because of it.
    """
    unclear = [key for key, raised in failed.items() if isinstance(raised, WriteUnclear)]
    notes: list[str] = getattr(error, '__notes__', [])
    notes[:] = [note for note in notes if not note.startswith(_NOTE)]
    error.add_note(_NOTE + json.dumps({'keys': [*failed, *skipped], 'unclear': unclear}))


def read(path: Path) -> ErrorFile:
    """Read an error file.

    Args:
        path: the file.

    Returns:
        The event, and which reducers have not processed it.

    Raises:
        EventFileError: it cannot be read, or is not such a file.
    """
    try:
        text = path.read_text(errors='replace')
    except OSError as error:
        raise EventFileError(f'{path} cannot be read: {error}.') from None
    event_text, _, trace = text.partition(_TRACEBACK)
    try:
        event = json_codec.decode(event_text)
    except CorruptValue as error:
        raise EventFileError(f'{path}  the text before "Traceback:" {error}.') from None
    if not is_event(event):
        raise EventFileError(f'{path}  it does not begin with an event: an object with an object "client".')
    notes = [line.lstrip(' |') for line in trace.splitlines()]  # a group's traceback has a frame
    found = [note.removeprefix(_NOTE) for note in notes if note.startswith(_NOTE)]
    return ErrorFile(event, _parse(found[-1]) if found else None)


def _parse(note: str) -> NotProcessed | None:
    with suppress(CorruptValue):
        said = json_codec.decode(note)
        if isinstance(said, Mapping):
            keys, unclear = said.get('keys'), said.get('unclear')
            if _are_texts(keys) and keys and _are_texts(unclear):
                return NotProcessed(tuple(keys), frozenset(unclear))
    return None


def _are_texts(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)
