"""The fields that states are kept by."""

from __future__ import annotations

import enum

KeyField = enum.Enum('KeyField', 'STUDENT CLASS RESOURCE TEACHER')
KeyStateType = enum.Enum('KeyStateType', 'INTERNAL EXTERNAL')


class EventField:
    """A field of an event."""

    def __init__(self, event: str) -> None:
        self.event = event
        self.name = 'EventField.' + event

    def __hash__(self) -> int:
        return hash(self.event)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EventField) and other.event == self.event


class Scope(frozenset[object]):
    """A set of fields."""
