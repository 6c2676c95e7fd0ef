"""Types of stores that installed packages bring, by the entry point group ``learning_observer_kvs.stores``."""

from __future__ import annotations

from collections.abc import MutableMapping
from importlib.metadata import EntryPoint, entry_points

from learning_observer_kvs.stores.base import Store

GROUP = 'learning_observer_kvs.stores'
"""The name of an entry point is the word for ``type:``, its object the class."""


def installed() -> list[str]:
    """The words of all that are installed, loadable or not; nothing is imported."""
    return sorted(entry_points(group=GROUP).names)


def join(types: MutableMapping[str, type[Store]], word: str) -> str | None:
    """Add the type of this word to those there are, if an installed package brings it. Only that one is imported.

    Args:
        types: the types there are; one that has the word already is kept.
        word: what a configuration names.

    Returns:
        Why the type cannot be used, as the rest of a sentence; ``None`` if it can, or if nobody brings one.
    """
    found = () if word in types else tuple(entry_points(group=GROUP, name=word))
    if not found:
        return None
    if len({entry.value for entry in found}) > 1:
        return f'is brought by several packages: {" and ".join(sorted(map(_shown, found)))}'
    try:
        brought = found[0].load()
    except Exception as error:  # whatever a module of others raises when it is imported
        return f'is brought by {_shown(found[0])}, which cannot be loaded: {type(error).__name__}: {error}'
    if not isinstance(brought, type) or not issubclass(brought, Store):
        return f'is brought by {_shown(found[0])}, which is no Store class'
    if missing := sorted(brought.__abstractmethods__):
        return f'is brought by {_shown(found[0])}, which lacks {", ".join(missing)}'
    types[word] = brought
    return None


def _shown(entry: EntryPoint) -> str:
    return f'{entry.dist.name} ({entry.value})' if entry.dist is not None else entry.value
