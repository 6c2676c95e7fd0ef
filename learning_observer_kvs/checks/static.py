"""Static checks: settings → every problem at once, each with its place, its fault and its cure. No I/O."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, MutableMapping
from typing import Any

from learning_observer_kvs.checks.redis import contradictions
from learning_observer_kvs.config.options import Option, problem_of, taken
from learning_observer_kvs.config.redaction import Unset, shown
from learning_observer_kvs.problems import CATALOGUE, Problem
from learning_observer_kvs.settings import BLOCKS, Settings, StoreEntry, store_entries
from learning_observer_kvs.stores import entry_points
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.redis import options as redis_options

DEBUG_OPTIONS = (Option('authorize', 'function'), Option('writable', 'boolean', default=False))
"""What the ``kvs_debug`` block takes."""

RUN_MODES = ('dev', 'deploy', 'interactive')


_WORDS = (*BLOCKS, 'kvs_plugin')
"""What stands at the top of the settings; the last is for a Learning Observer server."""


def check_settings(
    settings: Settings,
    types: MutableMapping[str, type[Store]],
    reserved: Collection[str],
    *,
    default_required: bool = True,
) -> list[Problem]:
    """Every problem of the settings, in the order of the file.

    Text from outside, such as a variable of the environment, becomes the number or boolean that its option takes.

    Args:
        settings: what was read.
        types: the store types there are, by their word; those of installed packages that are asked for are added.
        reserved: names a store cannot have.
        default_required: whether a configuration without a default store is one of them.
    """
    _take_text(settings, types)
    problems = list(settings.problems)
    problems += _check_words(settings)
    problems += _check_stores(settings, types, reserved, default_required)
    problems += _check_block(settings, 'redis_connection', redis_options.OPTIONS, 'KVS.E014', 'KVS.W002')
    problems += _check_places(settings)
    problems += _check_block(settings, 'kvs_debug', DEBUG_OPTIONS, 'KVS.E015', 'KVS.E015')
    return sorted(problems, key=lambda problem: _file_and_line(problem.location))


def _take_text(settings: Settings, types: Mapping[str, type[Store]]) -> None:
    blocks: list[tuple[Any, Iterable[Option]]] = [
        (settings.get('redis_connection'), redis_options.OPTIONS),
        (settings.get('kvs_debug'), DEBUG_OPTIONS),
    ]
    for entry in store_entries(settings):
        if known := _type_of(entry.options, types):
            blocks += [(entry.options, known.OPTIONS)]
    for block, options in blocks:
        for option in options:
            if isinstance(block, dict) and option.name in block:
                block[option.name] = taken(option, block[option.name])


def _check_words(settings: Settings) -> Iterator[Problem]:
    for word in settings:
        close = difflib.get_close_matches(str(word).lower(), _WORDS, 1, 0.8)
        if word not in _WORDS and close and close[0] not in settings:
            yield Problem('KVS.W005', settings.location(word), str(word), 'is not read', f'Did you mean {close[0]!r}?')
    block = settings.get('config')
    mode = block.get('run_mode') if isinstance(block, Mapping) else None
    if mode is not None and mode not in RUN_MODES:
        location, message = settings.location('config', 'run_mode'), f'is {shown("run_mode", mode)}'
        hint = _did_you_mean(mode, RUN_MODES) or CATALOGUE['KVS.W004'][1]
        yield Problem('KVS.W004', location, 'config.run_mode', message, hint)


def _check_stores(
    settings: Settings, types: MutableMapping[str, type[Store]], reserved: Collection[str], default_required: bool
) -> Iterator[Problem]:
    block, location = settings.get('kvs'), settings.location('kvs')
    if 'kvs' not in settings:
        if not settings and settings.source is None:
            hint = 'Load settings first: settings.load_settings("creds.yaml").'
        else:
            hint = 'Add "kvs: {default: {type: sqlite, path: .lo_kvs/state.sqlite3}}".'
        yield Problem('KVS.E001', location, 'kvs', 'is not there', hint)
        return
    if isinstance(block, Unset):
        return
    if not isinstance(block, (Mapping, list, tuple)):
        yield Problem('KVS.E002', location, 'kvs', f'is {shown("kvs", block)}', CATALOGUE['KVS.E002'][1])
        return
    entries = store_entries(settings)
    seen: dict[str, StoreEntry] = {}
    for entry in entries:
        yield from _check_name(settings, entry, reserved, seen)
        yield from _check_options(settings, entry, types)
    if default_required and 'default' not in seen:
        close = difflib.get_close_matches('default', seen, 1)
        hint = f"Did you mean to call {close[0]!r} 'default'?" if close else CATALOGUE['KVS.E003'][1]
        yield Problem('KVS.E003', location, 'kvs.default', 'is not there', hint)
    yield from _check_sharing(settings, seen.values())


def _check_name(
    settings: Settings, entry: StoreEntry, reserved: Collection[str], seen: dict[str, StoreEntry]
) -> Iterator[Problem]:
    name, location = entry.name, settings.location(*entry.path)
    if not isinstance(name, str):
        message = 'is no [name, options] pair' if name is None else f'is a name of the kind {type(name).__name__}'
        yield Problem('KVS.E002', location, _dotted(entry.path), message, CATALOGUE['KVS.E002'][1])
        return
    if not name.isidentifier() or name.startswith('_'):
        hint = 'Use letters, digits and _, beginning with a letter: programs write KVS.<name>().'
        yield Problem('KVS.E010', location, f'kvs.{name}', 'is no name for a store', hint)
    elif name in reserved:
        hint = f'Choose another name: KVS.{name} is a method of the router.'
        yield Problem('KVS.E010', location, f'kvs.{name}', 'cannot be the name of a store', hint)
    if name in seen:
        yield Problem('KVS.E011', location, f'kvs.{name}', 'is there twice', CATALOGUE['KVS.E011'][1])
    seen[name] = entry


def _check_options(settings: Settings, entry: StoreEntry, types: MutableMapping[str, type[Store]]) -> Iterator[Problem]:
    options, path, subject = entry.options, entry.path, f'kvs.{entry.name}'
    if entry.name is None or isinstance(options, Unset):
        return
    if not isinstance(options, Mapping):
        message = f'is {shown(entry.name, options)}, which is no mapping'
        hint = 'Write its options below it, one a line, beginning with type:.'
        yield Problem('KVS.E006', settings.location(*path), subject, message, hint)
        return
    word = options.get('type')
    unusable = entry_points.add_type(types, word) if isinstance(word, str) else None
    known = types.get(word) if isinstance(word, str) else None
    words = dict.fromkeys(types) if known else dict.fromkeys([*types, *entry_points.installed_types()])
    if 'type' not in options:
        hint = f'There are: {", ".join(words)}.'
        yield Problem('KVS.E005', settings.location(*path), f'{subject}.type', 'is missing', hint)
    elif unusable:
        message = f'is {shown("type", word)}, which {unusable}'
        yield Problem(
            'KVS.E017', settings.location(*path, 'type'), f'{subject}.type', message, CATALOGUE['KVS.E017'][1]
        )
    elif known is None and not isinstance(word, Unset):
        message = f'is {shown("type", word)}, which is no type of store'
        hint = _did_you_mean(word, words) or f'There are: {", ".join(words)}.'
        yield Problem('KVS.E004', settings.location(*path, 'type'), f'{subject}.type', message, hint)
    yield from _check_words_of(
        settings, entry, known, {option.name for cls in types.values() for option in cls.OPTIONS}
    )


def _type_of(options: Any, types: Mapping[str, type[Store]]) -> type[Store] | None:
    word = options.get('type') if isinstance(options, Mapping) else None
    return types.get(word) if isinstance(word, str) else None


def _check_words_of(
    settings: Settings, entry: StoreEntry, known: type[Store] | None, everywhere: Collection[str]
) -> Iterator[Problem]:
    own = {option.name: option for option in known.OPTIONS} if known else {}
    missing = {option.name for option in own.values() if option.required} - set(entry.options)
    for word, value in entry.options.items():
        location, subject = settings.location(*entry.path, word), f'kvs.{entry.name}.{word}'
        if word == 'type':
            continue
        if word in own:
            if message_and_hint := problem_of(own[word], value):
                yield Problem('KVS.E009', location, subject, *message_and_hint)
        elif word not in everywhere:
            close = difflib.get_close_matches(str(word), own or everywhere, 1)
            missing -= set(close)  # one fault, not two
            listed = f'{known.TYPE} takes: {", ".join(own)}.' if known else 'Take it out.'
            hint = f'Did you mean {close[0]!r}?' if close else listed
            yield Problem('KVS.E008', location, subject, 'is an option no type of store knows', hint)
        elif known:
            yield Problem('KVS.W001', location, subject, f'is not used by type {known.TYPE}', CATALOGUE['KVS.W001'][1])
    for name in own:
        if name in missing and known:
            location, message = settings.location(*entry.path), f'is missing; {known.TYPE} needs it'
            hint = f'Add {name}: {own[name].doc}'
            yield Problem('KVS.E007', location, f'kvs.{entry.name}.{name}', message, hint)


def _check_sharing(settings: Settings, entries: Iterable[StoreEntry]) -> Iterator[Problem]:
    placed: list[tuple[str, str, str, str]] = []
    prefixed: list[tuple[str, str, tuple[str, ...]]] = []
    for name, options, path in entries:
        if not isinstance(options, Mapping):
            continue
        kind, where, prefix = options.get('type'), options.get('path'), options.get('prefix') or ''
        if kind in ('filesystem', 'sqlite') and isinstance(where, str) and where:
            # Stores of one SQLite file have a table each; SQLite takes names that differ in case only for the same.
            folder, table = os.path.abspath(where), name.lower() if kind == 'sqlite' else ''
            for other, other_folder, other_kind, other_table in placed:
                if other_folder == folder and (other_kind != kind or other_table == table):
                    message, hint = f'is also the path of kvs.{other}', CATALOGUE['KVS.E012'][1]
                    yield Problem('KVS.E012', settings.location(*path, 'path'), f'kvs.{name}.path', message, hint)
                    break
            placed.append((name, folder, kind, table))
        if kind in ('redis', 'redis_ephemeral') and isinstance(prefix, str):
            server = redis_options.place_of(redis_options.overriding(_shared_redis(settings), options))
            for other, taken, its_server in prefixed:
                if its_server == server and (prefix.startswith(taken) or taken.startswith(prefix)):
                    message = f'and kvs.{other} share keys: their prefixes are {prefix!r} and {taken!r}'
                    yield Problem(
                        'KVS.W003', settings.location(*path), f'kvs.{name}', message, CATALOGUE['KVS.W003'][1]
                    )
                    break
            prefixed.append((name, prefix, server))


def _shared_redis(settings: Settings) -> Mapping[str, Any]:
    block = settings.get('redis_connection')
    return block if isinstance(block, Mapping) else {}


def _check_places(settings: Settings) -> Iterator[Problem]:
    """Settings of Redis that cannot hold together, in the shared block and in stores that have their own."""
    shared = _shared_redis(settings)
    blocks: list[tuple[Mapping[str, Any], tuple[Any, ...], str]] = [(shared, ('redis_connection',), 'redis_connection')]
    for entry in store_entries(settings):
        if isinstance(entry.options, Mapping) and any(str(word).startswith('redis_') for word in entry.options):
            whole = redis_options.overriding(shared, entry.options)
            blocks.append((whole, entry.path, f'kvs.{entry.name}'))
    for block, path, name in blocks:
        given = {option: block[option.name] for option in redis_options.OPTIONS if option.name in block}
        if any(isinstance(value, Unset) or problem_of(option, value) for option, value in given.items()):
            continue  # told already
        for word, message, hint in contradictions(block):
            yield Problem('KVS.E014', settings.location(*path, word), f'{name}.{word}', message, hint)


def _check_block(
    settings: Settings, name: str, options: Collection[Option], wrong: str, unknown: str
) -> Iterator[Problem]:
    block = settings.get(name)
    if block is None or isinstance(block, Unset):
        return
    if not isinstance(block, Mapping):
        hint = 'Write it as a mapping, one setting a line.'
        yield Problem(wrong, settings.location(name), name, f'is {shown(name, block)}', hint)
        return
    known = {option.name: option for option in options}
    for word, value in block.items():
        location, subject = settings.location(name, word), f'{name}.{word}'
        if word in known:
            if message_and_hint := problem_of(known[word], value):
                yield Problem(wrong, location, subject, *message_and_hint)
        else:
            close = _did_you_mean(word, known)
            yield Problem(
                wrong if close else unknown, location, subject, 'is unknown', close or f'There are: {", ".join(known)}.'
            )


def _did_you_mean(word: object, known: Iterable[str]) -> str | None:
    close = difflib.get_close_matches(str(word), list(known), 1)
    return f'Did you mean {close[0]!r}?' if close else None


def _dotted(path: Iterable[object]) -> str:
    return '.'.join(map(str, path))


def _file_and_line(location: str) -> tuple[str, int]:
    file, _, line = location.rpartition(':')
    return (file, int(line)) if line.isdigit() else (location, 0)
