"""Keys counted by reducer, and by the fields of their scopes."""

from __future__ import annotations

from collections import Counter

from learning_observer_kvs.debug.search import NAME_CHARACTERS
from learning_observer_kvs.stream_analytics.keys import parse_key

MAX_GROUPS = 500
"""How many reducers have a count of their own; the keys of further ones are counted together."""

MAX_FIELDS = 100
"""How many fields of scopes have a count."""


class Group:
    """The keys of a reducer, or those that are not of a reducer.

    Attributes:
        states: how many there are, by state: ``Internal``, ``External``; ``''`` for keys that are not of a reducer.
        measured: of how many of them the bytes are known.
        measured_bytes: how many bytes those have.
    """

    __slots__ = ('measured', 'measured_bytes', 'states')

    def __init__(self) -> None:
        self.states: Counter[str] = Counter()
        self.measured = self.measured_bytes = 0

    @property
    def keys(self) -> int:
        """How many keys there are."""
        return self.states.total()

    def view(self) -> dict[str, int]:
        """Return how many there are as ``{'internal', 'external'}``."""
        return {'internal': self.states['Internal'], 'external': self.states['External']}

    @property
    def bytes(self) -> int | None:
        """How many bytes they have, estimated where not all were measured; ``None`` where none was."""
        return round(self.measured_bytes * self.keys / self.measured) if self.measured else None


class Groups:
    """The keys that were counted.

    Attributes:
        by_reducer: the keys of each reducer; under ``''`` those that are not of a reducer.
        further: the keys of reducers that have no count of their own, because there are too many.
        fields: how many keys have each field of a scope; of too many the first ones.
    """

    def __init__(self) -> None:
        self._shapes: dict[tuple[str, ...], tuple[Group, str]] = {}
        self._characters = 0
        self.by_reducer: dict[str, Group] = {'': Group()}
        self.further = Group()
        self.fields: Counter[str] = Counter()

    @property
    def keys(self) -> int:
        """How many keys were counted."""
        return sum(group.keys for group in self._all())

    @property
    def is_full(self) -> bool:
        """Whether a further reducer has no count of its own."""
        return len(self.by_reducer) > MAX_GROUPS

    @property
    def is_measured(self) -> bool:
        """Whether the bytes of all keys that were counted are known, and not estimated."""
        return all(group.measured == group.keys for group in self._all())

    @property
    def bytes(self) -> int | None:
        """How many bytes the keys have that were counted; ``None`` where that is not known of some reducer's."""
        found = [group.bytes for group in self._all() if group.keys]
        return None if None in found else sum(each for each in found if each is not None)

    def count(self, reducer: str, state: str) -> int | None:
        """Return how many keys of a reducer were counted, or of a state; ``None`` where it has no count of its own.

        Args:
            reducer: the reducer's name in keys; ``''`` for all keys.
            state: ``Internal``, ``External``, ``Other`` for keys that are not of a reducer's state; ``''`` for all.
        """
        if state == 'Other':
            return 0 if reducer else self.by_reducer[''].keys
        if reducer and reducer not in self.by_reducer and self.further.keys:
            return None
        groups = [self.by_reducer.get(reducer, Group())] if reducer else self._all()
        return sum(group.states[state] if state else group.keys for group in groups)

    def add(self, key: str) -> Group:
        """Count a key.

        Args:
            key: the key.

        Returns:
            The group that it is of.
        """
        group, state = self._group_of(key)
        group.states[state] += 1
        return group

    def _group_of(self, key: str) -> tuple[Group, str]:
        """The group of a key, and its state. What keys of a reducer have in common is found out once."""
        parts = key.split(',', 20)
        shape = (*parts[:2], *(part.partition(':')[0] for part in parts[2:]))
        if (found := self._shapes.get(shape)) is None:
            parsed = parse_key(key)
            if parsed is None:
                return self.by_reducer[''], ''  # there are as many shapes as such keys
            found = self.of(parsed.source), parsed.state_type.name.capitalize()
            if len(self._shapes) < 10 * MAX_GROUPS and found[0] is not self.further:
                self._shapes[shape] = found
        for field in shape[2:]:
            if field in self.fields or (len(self.fields) < MAX_FIELDS and self._may_list(field)):
                self.fields[field] += 1
        return found

    def of(self, reducer: str) -> Group:
        """Return the group of a reducer: its own, as long as there are few.

        Args:
            reducer: the reducer's name in keys.
        """
        if reducer not in self.by_reducer:
            if self.is_full or not self._may_list(reducer):
                return self.further
            self.by_reducer[reducer] = Group()
        return self.by_reducer[reducer]

    def _may_list(self, name: str) -> bool:
        """Take a name into the list of counts, unless the names would be too long together."""
        if self._characters + len(name) > NAME_CHARACTERS:
            return False
        self._characters += len(name)
        return True

    def _all(self) -> list[Group]:
        return [*self.by_reducer.values(), self.further]
