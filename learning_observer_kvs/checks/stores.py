"""Rules for the ``kvs`` block: each is a loop over the rows of the stores, and changes nothing."""

from __future__ import annotations

import difflib
import keyword
import os
from collections.abc import Collection, Iterator, Mapping, Sequence

from learning_observer_kvs.checks.redis import unknown_option as unknown_redis_option
from learning_observer_kvs.config.layers import Settings
from learning_observer_kvs.config.options import Option, check_value
from learning_observer_kvs.config.raw_text import UnsetVariable
from learning_observer_kvs.config.redaction import display_value
from learning_observer_kvs.config.rows import Configuration, StoreConfig
from learning_observer_kvs.config.source import dotted
from learning_observer_kvs.problems import CATALOGUE, Problem, did_you_mean
from learning_observer_kvs.stores import entry_points
from learning_observer_kvs.stores.base import Store

Types = Mapping[str, type[Store]]
"""The store types that exist, by the word for ``type:``."""

Rows = Sequence[StoreConfig]


def check_block(settings: Settings) -> Iterator[Problem]:
    """Find that the block is missing, or has the wrong shape.

    Args:
        settings: all settings.

    Yields:
        ``KVS.E001``, ``KVS.E002``.
    """
    block, location = settings.get('kvs'), settings.location('kvs')
    if 'kvs' not in settings:
        hint = 'Add "kvs: {default: {type: sqlite, path: .lo_kvs/state.sqlite3}}".'
        if not settings and settings.source is None:
            hint = 'Load settings first: settings.load_settings("creds.yaml").'
        yield Problem('KVS.E001', location, 'kvs', 'is missing', hint)
    elif not isinstance(block, (Mapping, list, tuple, UnsetVariable)):
        yield Problem('KVS.E002', location, 'kvs', f'is {display_value("kvs", block)}', CATALOGUE['KVS.E002'][1])


def check_pairs(rows: Rows) -> Iterator[Problem]:
    """Find entries of an array that are not a pair of a name and options.

    Args:
        rows: all stores.

    Yields:
        ``KVS.E002``.
    """
    for row in rows:
        if row.name is None and not row.is_named:
            message, hint = 'is not a [name, options] pair', CATALOGUE['KVS.E002'][1]
            yield Problem('KVS.E002', row.location, row.subject, message, hint)
        elif not isinstance(row.name, str):
            message = f'has a name of type {type(row.name).__name__}'
            hint = 'Put the name in quotes; without, YAML reads no, yes, on, off, null and numbers as other values.'
            yield Problem('KVS.E002', row.location, row.subject, message, hint)


def check_names(rows: Rows, reserved: Collection[str]) -> Iterator[Problem]:
    """Find names that a program cannot write as ``KVS.<name>()``.

    Args:
        rows: all stores.
        reserved: names that mean something else on the router.

    Yields:
        ``KVS.E010``.
    """
    for row in rows:
        if not isinstance(row.name, str):
            continue
        if not row.name.isidentifier() or row.name.startswith('_'):
            hint = 'Use letters, digits and _, beginning with a letter: programs write KVS.<name>().'
            yield Problem('KVS.E010', row.location, row.subject, 'is not a valid name of a store', hint)
        elif row.name in reserved:
            hint = f'Choose another name: KVS.{row.name} is a method of the router.'
            yield Problem('KVS.E010', row.location, row.subject, 'cannot be the name of a store', hint)
        elif keyword.iskeyword(row.name):
            hint = f'Choose another name: {row.name} is a word of Python, and programs write KVS.<name>().'
            yield Problem('KVS.E010', row.location, row.subject, 'cannot be the name of a store', hint)


def check_duplicate_names(rows: Rows) -> Iterator[Problem]:
    """Find names that several pairs of an array have.

    Args:
        rows: all stores.

    Yields:
        ``KVS.E011``, for each but the first.
    """
    seen = set()
    for row in rows:
        if isinstance(row.name, str):
            if row.name in seen:
                yield Problem('KVS.E011', row.location, row.subject, 'is defined twice', CATALOGUE['KVS.E011'][1])
            seen.add(row.name)


def check_default(configuration: Configuration) -> Iterator[Problem]:
    """Find that the default store is missing.

    Args:
        configuration: all rows.

    Yields:
        ``KVS.E003``, if there is a ``kvs`` block in which it could be.
    """
    settings, names = configuration.settings, configuration.stores_by_name
    if any(map(_is_option_beside_stores, configuration.stores)):
        return  # that is the problem
    if isinstance(settings.get('kvs'), (Mapping, list, tuple)) and 'default' not in names:
        similar = difflib.get_close_matches('default', names, 1)
        hint = f"Did you mean to call {similar[0]!r} 'default'?" if similar else CATALOGUE['KVS.E003'][1]
        yield Problem('KVS.E003', settings.location('kvs'), 'kvs.default', 'is missing', hint)


def check_shapes(rows: Rows) -> Iterator[Problem]:
    """Find stores whose options are not a mapping.

    Args:
        rows: all stores.

    Yields:
        ``KVS.E006``; one alone where options stand in the place of stores.
    """
    if misplaced := [row for row in rows if _is_option_beside_stores(row)]:
        first, names = misplaced[0], ' and '.join(str(row.name) for row in misplaced)
        message = (
            f'has {names} directly below it, as if {"they were stores" if len(misplaced) > 1 else "it were a store"}'
        )
        hint = 'Write options below the name of their store, further indented: kvs: {default: {type: …}}.'
        yield Problem('KVS.E006', first.location, 'kvs', message, hint)
    for row in rows:
        if row in misplaced:
            continue
        if row.name is not None and not isinstance(row.options, (Mapping, UnsetVariable)):
            message = f'is {display_value(row.name, row.options)}, which is not a mapping'
            hint = 'Write its options below it, one a line, beginning with type:.'
            yield Problem('KVS.E006', row.location, row.subject, message, hint)


def _is_option_beside_stores(row: StoreConfig) -> bool:
    """Return whether an option of a store stands where stores do."""
    return row.name in _OPTIONS_OF_STORES and isinstance(row.options, (str, int, float, bool, type(None)))


_OPTIONS_OF_STORES = ('type', 'path', 'prefix', 'expiry', 'subdirs', 'mode', 'flush_interval', 'failed_events')
"""Options that may stand directly under ``kvs`` by mistake."""


def check_types(rows: Rows, types: Types, rejected: Mapping[str, str]) -> Iterator[Problem]:
    """Find stores whose type is missing, unknown or cannot be used.

    Args:
        rows: all stores.
        types: the types that exist.
        rejected: types of installed packages that cannot be used, with the reason.

    Yields:
        ``KVS.E004``, ``KVS.E005``, ``KVS.E017``.
    """
    known: list[str] = []  # looked up once, if at all
    for row in _with_options(rows):
        location, subject = row.location_of('type'), f'{row.subject}.type'
        if 'type' not in row.options:
            known = known or _all_types(types)
            yield Problem('KVS.E005', location, subject, 'is missing', f'Known types: {", ".join(known)}.')
        elif isinstance(row.type, str) and row.type in rejected:
            message = f'is {display_value("type", row.type)}, which {rejected[row.type]}'
            yield Problem('KVS.E017', location, subject, message, CATALOGUE['KVS.E017'][1])
        elif _type_of(row, types) is None and not isinstance(row.type, UnsetVariable):
            message = f'is {display_value("type", row.type)}, which is not a type of store'
            known = known or _all_types(types)
            hint = did_you_mean(row.type, known) or f'Known types: {", ".join(known)}.'
            yield Problem('KVS.E004', location, subject, message, hint)


def check_required_options(rows: Rows, types: Types) -> Iterator[Problem]:
    """Find options that a type cannot do without. One that is misspelled is left to :func:`check_option_names`.

    Args:
        rows: all stores.
        types: the types that exist.

    Yields:
        ``KVS.E007``.
    """
    for row, cls in _with_type(rows, types):
        known = _options_of(cls)
        misspelled = {_similar(name, known) for name in _unknown(row, types)}
        for option in known.values():
            if option.required and option.name not in row.options and option.name not in misspelled:
                message, hint = f'is missing; {cls.TYPE} needs it', f'Add {option.name}: {option.doc}'
                yield Problem('KVS.E007', row.location, f'{row.subject}.{option.name}', message, hint)


def check_values(rows: Rows, types: Types) -> Iterator[Problem]:
    """Find values that their option does not accept.

    Args:
        rows: all stores.
        types: the types that exist.

    Yields:
        ``KVS.E009``.
    """
    for row, cls in _with_type(rows, types):
        for name, option in _options_of(cls).items():
            if name in row.options and (rejected := check_value(option, row.options[name])):
                yield Problem('KVS.E009', row.location_of(name), f'{row.subject}.{name}', *rejected)


def check_option_names(rows: Rows, types: Types) -> Iterator[Problem]:
    """Find options that no type of store has.

    Args:
        rows: all stores.
        types: the types that exist.

    Yields:
        ``KVS.E008``.
    """
    for row in _with_options(rows):
        cls = _type_of(row, types)
        known = _options_of(cls) if cls else {}
        for name in _unknown(row, types):
            similar = _similar(name, known or _options_of(*types.values()))
            hint = f'Did you mean {similar!r}?' if similar else 'Remove it.'
            if renamed := (unknown_redis_option(name) if 'redis_host' in known else None):
                hint = renamed
            elif not similar and cls:
                hint = f'{cls.TYPE} has the options: {", ".join(known)}.'
            message = 'is not an option of any type of store'
            yield Problem('KVS.E008', row.location_of(name), dotted((row.subject, name)), message, hint)


def check_unused_options(rows: Rows, types: Types) -> Iterator[Problem]:
    """Find options that only other types of store use.

    Args:
        rows: all stores.
        types: the types that exist.

    Yields:
        ``KVS.W001``.
    """
    everywhere = _options_of(*types.values())
    for row, cls in _with_type(rows, types):
        for name in row.options:
            if name != 'type' and name in everywhere and name not in _options_of(cls):
                message, hint = f'is not used by type {cls.TYPE}', CATALOGUE['KVS.W001'][1]
                yield Problem('KVS.W001', row.location_of(name), f'{row.subject}.{name}', message, hint)


def check_paths(configuration: Configuration) -> Iterator[Problem]:
    """Find stores that would use the same directory, file or table.

    Args:
        configuration: all rows.

    Yields:
        ``KVS.E012``, for each but the first.
    """
    used: list[tuple[str, str, str, StoreConfig]] = []
    for name, row in configuration.stores_by_name.items():
        path = row.mapping.get('path')
        if row.type not in ('filesystem', 'sqlite') or not isinstance(path, str) or not path:
            continue
        # Stores of one SQLite file have a table each; SQLite ignores case in their names.
        absolute, table = os.path.abspath(path), name.lower() if row.type == 'sqlite' else ''
        for other_path, other_type, other_table, other in used:
            if other_path == absolute and (other_type != row.type or other_table == table):
                message, hint = f'is also the path of {other.subject}', CATALOGUE['KVS.E012'][1]
                yield Problem('KVS.E012', row.location_of('path'), f'{row.subject}.path', message, hint)
                break
        used.append((absolute, row.type, table, row))


def _with_options(rows: Rows) -> Iterator[StoreConfig]:
    """Yield the stores whose options are a mapping, and so can be checked."""
    return (row for row in rows if row.name is not None and isinstance(row.options, Mapping))


def _with_type(rows: Rows, types: Types) -> Iterator[tuple[StoreConfig, type[Store]]]:
    """Yield the stores whose type exists, with the type."""
    for row in _with_options(rows):
        if cls := _type_of(row, types):
            yield row, cls


def _type_of(row: StoreConfig, types: Types) -> type[Store] | None:
    return types.get(row.type) if isinstance(row.type, str) else None


def _all_types(types: Types) -> list[str]:
    """Return the types that exist, and those that installed packages bring and that are not imported."""
    return list(dict.fromkeys([*types, *entry_points.installed_types()]))


def _options_of(*classes: type[Store]) -> dict[str, Option]:
    return {option.name: option for cls in classes for option in cls.OPTIONS}


def _unknown(row: StoreConfig, types: Types) -> list[object]:
    """Return the options of a store that no type has."""
    known = {'type', *_options_of(*types.values())}
    return [name for name in row.options if name not in known]


def _similar(name: object, known: Mapping[str, Option]) -> str | None:
    similar = difflib.get_close_matches(str(name), list(known), 1)
    return similar[0] if similar else None
