"""Failed events of all kinds of files as rows, one for each reducer that has not processed an event."""

from __future__ import annotations

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
from learning_observer_kvs.replay import error_file
from learning_observer_kvs.replay.events import metadata_of
from learning_observer_kvs.stream_analytics.fields import KeyField
from learning_observer_kvs.stream_analytics.keys import parse_key


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An event that a reducer has not processed.

    Args:
        location: where it is kept: a file, with the line if it has several events.
        event: the event, as the reducer was given it.
        event_id: what the event is known by, in whatever file it is.
        time: when the server received or recorded it, in seconds since the epoch; 0 if that is not known.
        key: the internal key of the reducer's states; ``None`` if the file does not say which reducers failed.
        metadata: that of the event's connection.
        fields: the values of the event's fields that the key was made of.
        is_unclear: whether the event may have been applied all the same.
    """

    location: str
    event: Any
    event_id: str
    time: float
    key: str | None
    metadata: Mapping[str, Any] | None
    fields: Mapping[str, Any]
    is_unclear: bool

    @property
    def reducer(self) -> str | None:
        """The fully qualified name of the reducer; ``None`` if the file does not say which reducers failed."""
        parsed = None if self.key is None else parse_key(self.key)
        return None if parsed is None else parsed.source


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
        return EventFileError(f'{found.location}  {found.keys[0]!r} is not the key of a reducer.')
    # What a connection's metadata was is not in the event, so the key says whose it is.
    student = parsed.fields.get(KeyField.STUDENT.name)
    received = _received(found.event)
    return Failure(
        location=found.location,
        event=found.event,
        event_id=found.id if received is None else _digest(found.event),
        time=_seconds(found.time) if received is None else received,
        key=found.keys[0],
        metadata=None if student is None else {'auth': {'safe_user_id': student}},
        fields=_fields(found.keys[0]),
        is_unclear=found.is_unclear,
    )


def _of_error_file(path: Path) -> Iterator[Failure]:
    event, not_processed = error_file.read(path)
    keys = (None,) if not_processed is None else not_processed.keys
    for key in keys:
        # The traceback holds text of the student, who must not reach the states of another one: the event says whose
        # it is, and a key that does not fit is rejected.
        yield Failure(
            location=str(path),
            event=event,
            event_id=_digest(event),
            time=_received(event) or 0.0,
            key=key,
            metadata=metadata_of(event, str(path)),
            fields=_fields(key),
            is_unclear=not_processed is not None and key in not_processed.unclear,
        )


_EVENT_FIELD = 'EventField.'


def _fields(key: str | None) -> Mapping[str, str]:
    """The values of the event's fields that a key was made of."""
    parsed = None if key is None else parse_key(key)
    named = {} if parsed is None else parsed.fields
    return {name.removeprefix(_EVENT_FIELD): value for name, value in named.items() if name.startswith(_EVENT_FIELD)}


def _received(event: Any) -> float | None:
    """When a server received an event. No two events have the same time and content, so they are known by that."""
    server = event.get('server') if isinstance(event, Mapping) else None
    time = server.get('time') if isinstance(server, Mapping) else None
    return float(time) if isinstance(time, (int, float)) and not isinstance(time, bool) else None


def _digest(event: Any) -> str:
    text = json.dumps(event, sort_keys=True, separators=(',', ':'))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _seconds(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0
