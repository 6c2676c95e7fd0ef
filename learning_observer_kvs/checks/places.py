"""Where the files and folders of stores are, and what is in them that is not understood."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from learning_observer_kvs.config.rows import StoreConfig
from learning_observer_kvs.problems import CATALOGUE, Problem
from learning_observer_kvs.stores.base import Store

MAX_SHOWN = 3
"""How many files a message names."""


def beside_settings(row: StoreConfig) -> tuple[str, str] | None:
    """Find a store in the folder of its settings that the working directory does not have.

    Args:
        row: of the store.

    Returns:
        The folder, and the absolute path of the store there; ``None`` if the path of the row is absolute, leads to
        something in the working directory, or to nothing beside the settings.
    """
    path, location = row.mapping.get('path'), row.location_of('path')
    settings, _, line = location.rpartition(':')
    if not isinstance(path, str) or not line.isdecimal() or os.path.isabs(path) or os.path.lexists(path):
        return None
    folder = os.path.dirname(os.path.abspath(settings))
    there = os.path.normpath(os.path.join(folder, path))
    return (folder, there) if os.path.lexists(there) else None


def check_places(rows: Mapping[str, StoreConfig]) -> list[Problem]:
    """Find stores that are where their settings are, and not in the working directory.

    Args:
        rows: the stores by name.

    Returns:
        ``KVS.W018``.
    """
    problems = []
    for name, row in rows.items():
        if found := beside_settings(row):
            folder, there = found
            message = f'is relative to the working directory, {os.getcwd()}, which has no such store; {there} exists'
            hint = f'Start this in {folder}, or write the absolute path, unless a new store is meant.'
            problems.append(Problem('KVS.W018', row.location_of('path'), f'kvs.{name}.path', message, hint))
    return problems


async def check_unrecognized(stores: Mapping[str, Store], rows: Mapping[str, StoreConfig]) -> list[Problem]:
    """Find files that look like those of keys and are not. This lists all files of the stores.

    Args:
        stores: the stores by name.
        rows: the rows that they were made from, by name.

    Returns:
        ``KVS.W017``.

    Raises:
        KVSError: a store cannot be used.
    """
    problems = []
    for name, store in stores.items():
        if paths := await store.unrecognized():
            location, hint = rows[name].location_of('path'), CATALOGUE['KVS.W017'][1]
            problems.append(Problem('KVS.W017', location, f'kvs.{name}.path', f'has {named(paths)}', hint))
    return problems


def named(paths: Sequence[str]) -> str:
    """Return files that look like those of keys and are not, as messages name them.

    Args:
        paths: the files.
    """
    more = ' and more' if len(paths) > MAX_SHOWN else ''
    return f'files that look like keys and are not: {", ".join(map(repr, paths[:MAX_SHOWN]))}{more}'
