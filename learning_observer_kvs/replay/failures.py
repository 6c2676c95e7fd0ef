"""Failed events of all kinds of files as rows, one for each reducer that has not processed an event."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from learning_observer_kvs import failed_events
from learning_observer_kvs.errors import EventFileError
from learning_observer_kvs.failed_events import FailedEvent
from learning_observer_kvs.reducers.erased_students import received
from learning_observer_kvs.replay import error_file
from learning_observer_kvs.replay.events import metadata_of
from learning_observer_kvs.stores.keys import display_key
from learning_observer_kvs.stream_analytics.fields import KeyField
from learning_observer_kvs.stream_analytics.keys import ReducerKey, parse_key


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An event that a reducer has not processed.

    Args:
        location: where it is kept: a file, with the line if it has several events.
        event: the event, as the reducer was given it.
        event_id: what the event is known by, in whatever file it is.
        time: when the server received or recorded it, in seconds since the epoch; 0 if that is not known.
        reducer: the fully qualified name of the reducer; ``None`` if the file does not say which reducers failed.
        key: the internal key of the reducer's states; ``None`` likewise.
        metadata: that of the event's connection.
        fields: the values of the event's fields that the key was made of.
        is_unclear: whether the event may have been applied all the same.
    """

    location: str
    event: Any
    event_id: str
    time: float
    reducer: str | None
    key: str | None
    metadata: Mapping[str, Any] | None
    fields: Mapping[str, Any]
    is_unclear: bool


def read(paths: Iterable[Path]) -> Iterator[Failure | EventFileError]:
    """Read files of failed events.

    Args:
        paths: ``failed-events-*.jsonl`` files of this package, and ``critical-error-*.tb`` files of the server.

    Yields:
        The failures, and an error for each file or line that cannot be replayed.
    """
    for path in paths:
        try:
            if path.suffix == '.tb':
                yield from _of_error_file(path)
            else:
                yield from map(_of_line, failed_events.read(path))
        except EventFileError as error:
            yield error


def _of_line(found: FailedEvent | EventFileError) -> Failure | EventFileError:
    if isinstance(found, EventFileError):
        return found
    parsed = parse_key(found.keys[0])
    if parsed is None:
        return _no_key(found.location, found.keys[0])
    # What a connection's metadata was is not in the event, so the key says whose it is.
    student = parsed.fields.get(KeyField.STUDENT.name)
    time = received(found.event)
    return Failure(
        location=found.location,
        event=found.event,
        event_id=found.id if time is None else _digest(found.event),
        time=_seconds(found.time) if time is None else time,
        reducer=parsed.source,
        key=found.keys[0],
        metadata={} if student is None else {'auth': {'safe_user_id': student}},
        fields=_event_fields(parsed),
        is_unclear=found.is_unclear,
    )


def _of_error_file(path: Path) -> Iterator[Failure | EventFileError]:
    event, not_processed = error_file.read(path)
    row = functools.partial(
        Failure,
        location=str(path),
        event=event,
        event_id=_digest(event),
        time=received(event) or 0.0,
        # The traceback holds text of the student, who must not reach the states of another one: the event says whose
        # it is, and a key that does not fit is rejected.
        metadata=metadata_of(event, str(path)),
    )
    if not_processed is None:
        yield row(reducer=None, key=None, fields={}, is_unclear=False)
        return
    for key in not_processed.keys:
        parsed = parse_key(key)
        if parsed is None:
            yield _no_key(str(path), key)
        else:
            is_unclear = key in not_processed.unclear
            yield row(reducer=parsed.source, key=key, fields=_event_fields(parsed), is_unclear=is_unclear)


def _no_key(location: str, key: str) -> EventFileError:
    return EventFileError(f'{location}  {display_key(key)} is not the key of a reducer. Correct or remove it.')


_EVENT_FIELD = 'EventField.'


def _event_fields(key: ReducerKey) -> dict[str, str]:
    """The values of the event's fields that a key was made of."""
    return {name.removeprefix(_EVENT_FIELD): text for name, text in key.fields.items() if name.startswith(_EVENT_FIELD)}


def _digest(event: Any) -> str:
    text = json.dumps(event, sort_keys=True, separators=(',', ':'))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _seconds(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return 0.0
