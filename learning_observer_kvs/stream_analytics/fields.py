"""The fields that a reducer's state is kept by: a student, a class, a field of the event."""

from __future__ import annotations

import enum
import functools
import re


class KeyStateType(enum.Enum):
    """Which of a reducer's two states a key is for: internal (for its next event) or external (for dashboards)."""

    INTERNAL = 1
    EXTERNAL = 2


class KeyField(enum.Enum):
    """The fields that the server itself knows of an event."""

    STUDENT = 1
    CLASS = 2
    RESOURCE = 3
    TEACHER = 4


_EVENT_FIELD = re.compile(r'[\w.\-]*\w[\w.\-]*')


@functools.total_ordering
class EventField:
    """A field of the event itself, such as ``EventField('doc_id')``.

    Args:
        event: the field's name, of letters, digits, ``.``, ``-`` and ``_``.

    Raises:
        AttributeError: the name has another character, which a name that comes from a browser may.
    """

    __slots__ = ('event', 'name')

    def __init__(self, event: str) -> None:
        if not isinstance(event, str) or not _EVENT_FIELD.fullmatch(event):
            raise AttributeError(
                f'{event!r} is not a name of an event field: use letters, digits, dots, dashes and underscores.'
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
    """The fields that a reducer's state is kept by: it has one state for each combination of their values."""
