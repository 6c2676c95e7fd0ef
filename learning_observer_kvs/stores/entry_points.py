"""Types of stores that installed packages add, by the entry point group ``learning_observer_kvs.stores``."""

from __future__ import annotations

from collections.abc import MutableMapping
from importlib.metadata import EntryPoint, entry_points

from learning_observer_kvs.stores.base import Store

GROUP = 'learning_observer_kvs.stores'
"""The group's name. An entry point's name is the value of ``type:`` in a configuration, its object the class."""


def installed_types() -> list[str]:
    """List the types that installed packages add, loadable or not; nothing is imported.

    Returns:
        The values of ``type:``, sorted.
    """
    return sorted(entry_points(group=GROUP).names)


def add_type(types: MutableMapping[str, type[Store]], name: str) -> str | None:
    """Add a type to the known ones, if an installed package has it. Only that package is imported.

    Args:
        types: the known types by name, added to in place; a type that is known already is kept.
        name: the value of ``type:`` in a configuration.

    Returns:
        Why the type cannot be used, as the rest of a sentence; ``None`` if it can be, or if no package has it.
    """
    found = () if name in types else tuple(entry_points(group=GROUP, name=name))
    if not found:
        return None
    if len({entry.value for entry in found}) > 1:
        return f'is added by several packages: {" and ".join(sorted(map(_source, found)))}'
    try:
        loaded = found[0].load()
    except Exception as error:  # importing a module of others may raise anything
        return f'is added by {_source(found[0])}, which cannot be loaded: {type(error).__name__}: {error}'
    if not isinstance(loaded, type) or not issubclass(loaded, Store):
        return f'is added by {_source(found[0])}, which is not a Store class'
    if missing := sorted(loaded.__abstractmethods__):
        return f'is added by {_source(found[0])}, which lacks {", ".join(missing)}'
    types[name] = loaded
    return None


def _source(entry: EntryPoint) -> str:
    """The package and the object that an entry point is from, for messages."""
    return f'{entry.dist.name} ({entry.value})' if entry.dist is not None else entry.value
