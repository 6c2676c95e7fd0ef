"""What a store finds when it looks at the place where its data lives."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """One thing that is wrong there.

    Args:
        id: its entry in :data:`learning_observer_kvs.problems.CATALOGUE`.
        fault: as the rest of a sentence that begins with the store.
        cure: what to do, as sentences.
        option: the option of the store that names the place.
    """

    id: str
    fault: str
    cure: str
    option: str = 'type'
