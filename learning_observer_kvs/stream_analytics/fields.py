"""What a reducer's state is kept by: a student, a class, a field of the event."""

from __future__ import annotations

import enum
import functools
import re

from learning_observer_kvs.errors import KVSError


class KeyStateType(enum.Enum):
    """Whether a key holds what the reducer needs (internal) or what dashboards read (external)."""

    INTERNAL = 1
    EXTERNAL = 2


class KeyField(enum.Enum):
    """The fields the server itself knows an event by."""

    STUDENT = 1
    CLASS = 2
    RESOURCE = 3
    TEACHER = 4


_EVENT_FIELD = re.compile(r'[\w.\-]*\w[\w.\-]*')


@functools.total_ordering
class EventField:
    """A field of the event itself, such as ``EventField('doc_id')``.

    Args:
        event: the field's name: letters, digits, ``.``, ``-`` and ``_``.

    Raises:
        AttributeError: any other character; names come from browsers too.
    """

    __slots__ = ('event', 'name')

    def __init__(self, event: str) -> None:
        if not isinstance(event, str) or not _EVENT_FIELD.fullmatch(event):
            raise AttributeError(
                f'{event!r} is no name of an event field: letters, digits, dots, dashes and underscores are.'
            )
        self.event = event
        self.name = 'EventField.' + event

    def __hash__(self) -> int:
        return hash(self.event)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f'<{self.name}>'

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EventField) and self.event == other.event

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, EventField):
            return NotImplemented
        return self.event < other.event


class Scope(frozenset[KeyField | EventField]):
    """The set of fields that a reducer keeps one state for each value of."""


class ScopeFieldError(KVSError):
    """A scope holds something that is no field."""
