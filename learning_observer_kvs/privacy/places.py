"""Places that hold the id of a student."""

from __future__ import annotations

from dataclasses import dataclass

from learning_observer_kvs.erasure_rules import WHOLE, Part, Rule, key_without_content


@dataclass(frozen=True)
class Place:
    """A key of a store, or a file, that holds the id of a student.

    Attributes:
        location: where the store is; the path of the file.
        parts: what of it names the student.
        store: the name of the store; ``None`` for a file.
        key: the key; ``None`` for a file.
    """

    location: str
    parts: tuple[Part, ...]
    store: str | None = None
    key: str | None = None

    @property
    def name(self) -> str:
        """What ``--leave`` calls it: ``store:key``, or the path of the file."""
        return self.location if self.store is None else f'{self.store}:{self.key}'

    @property
    def shown(self) -> str:
        """The name without content: the key of a memoized result has texts of students in it."""
        return self.name if self.store is None else f'{self.store}:{self.shown_key}'

    @property
    def shown_key(self) -> str | None:
        """The key without content; ``None`` for a file."""
        return None if self.store is None or self.key is None else key_without_content(self.store, self.key)

    @property
    def whole(self) -> Rule | None:
        """The rule by which the whole key or file is removed; ``None`` if parts of it stay."""
        rule = self.parts[0].rule
        return rule if rule in WHOLE else None

    @property
    def undecided(self) -> list[Part]:
        """The parts for which no rule is known."""
        return [part for part in self.parts if part.rule is None]
