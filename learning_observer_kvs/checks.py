"""Static checks: settings → every problem at once, each with its place, its fault and its cure. No I/O.

Each problem has an id that never changes its meaning (``CATALOGUE``). An error stops the start; a warning is logged.
"""

from __future__ import annotations

import difflib
import enum
import logging
import math
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from learning_observer_kvs import store_types
from learning_observer_kvs.errors import StartupCheck
from learning_observer_kvs.settings import Settings, StoreEntry, shown, store_entries
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.options import Option

log = logging.getLogger('learning_observer_kvs')


class Level(enum.IntEnum):
    """How bad a problem is."""

    WARNING = 1
    ERROR = 2


CATALOGUE: dict[str, tuple[str, str]] = {
    'KVS.E001': ('There is no kvs block', 'Add a kvs block with a default store.'),
    'KVS.E002': (
        'The kvs block has the wrong shape',
        'Write it as a mapping, or as an array of [name, options] pairs.',
    ),
    'KVS.E003': ('There is no default store', 'Add kvs.default; reducers keep their state there.'),
    'KVS.E004': ('An unknown type of store', 'Use one of the types that are listed.'),
    'KVS.E005': ('A store without a type', 'Add a type.'),
    'KVS.E006': ('The options of a store are no mapping', 'Write the options below the name, one a line.'),
    'KVS.E007': ('A required option is missing', 'Add it.'),
    'KVS.E008': ('An option no type knows', 'Correct the word, or take it out.'),
    'KVS.E009': ('An option has a value of the wrong kind', 'Write the value as it is described.'),
    'KVS.E010': (
        'A store has a name it cannot have',
        'Choose a name that is a plain word and no method of the router.',
    ),
    'KVS.E011': ('Two stores have the same name', 'Give each its own name.'),
    'KVS.E012': ('Two stores would share their data', 'Give each its own path.'),
    'KVS.E013': ('A key is written twice', 'Take one of the two out.'),
    'KVS.E014': ('A setting of redis_connection is wrong', 'Write the value as it is described.'),
    'KVS.E015': ('A setting of kvs_debug is wrong', 'Write the value as it is described.'),
    'KVS.E016': ('A type of store that an installed package brings cannot be used', 'Mend or update that package.'),
    'KVS.W001': ('An option that this type does not use', 'Take it out, or choose the type it belongs to.'),
    'KVS.W002': ('An unknown setting of redis_connection', 'Take it out, or correct the word.'),
    'KVS.W003': ('Two Redis stores share one keyspace', 'Give one of them a prefix.'),
}
"""id: (what it is, what cures it)."""


@dataclass(frozen=True)
class Problem:
    """One finding.

    Args:
        id: its entry in the catalogue.
        place: where in the settings, as ``creds.yaml:57``.
        subject: the setting, dotted: ``kvs.default.type``.
        fault: what is wrong with it, as the rest of a sentence that begins with the subject.
        cure: what to do, as a sentence.
    """

    id: str
    place: str
    subject: str
    fault: str
    cure: str

    @property
    def level(self) -> Level:
        """An error stops the start."""
        return Level.ERROR if self.id.startswith('KVS.E') else Level.WARNING

    def __str__(self) -> str:
        return f'{self.place}  {self.subject} {self.fault}. {self.cure}  [{self.id}]'


REDIS_OPTIONS = (
    Option('redis_host', 'text', default='localhost'),
    Option('redis_port', 'port', default=6379),
    Option('redis_password', 'text or null'),
    Option('redis_username', 'text or null'),
    Option('redis_db', 'index', default=0),
    Option('redis_ssl', 'boolean', default=False),
    Option('redis_url', 'text or null'),
    Option('redis_socket', 'text or null'),
    Option('redis_connect_timeout', 'seconds', default=2),
    Option('redis_timeout', 'seconds', default=5),
    Option('redis_max_connections', 'count', default=20),
)
"""What the ``redis_connection`` block takes."""

DEBUG_OPTIONS = (Option('authorize', 'text'), Option('writable', 'boolean', default=False))
"""What the ``kvs_debug`` block takes."""


def check_settings(
    settings: Settings,
    types: MutableMapping[str, type[Store]],
    reserved: Collection[str],
    *,
    default_required: bool = True,
) -> list[Problem]:
    """Every problem of the settings, in the order of the file.

    Args:
        settings: what was read.
        types: the store types there are, by their word; those of installed packages that are asked for are added.
        reserved: names a store cannot have.
        default_required: whether a configuration without a default store is one of them.
    """
    problems = [
        Problem(
            'KVS.E013',
            settings.place(*path),
            _dotted(path),
            f'is written twice, on lines {first} and {second}',
            'Take one of the two out.',
        )
        for path, first, second in settings.duplicates
        if path[0] in ('kvs', 'redis_connection', 'kvs_debug')
    ]
    problems += _check_stores(settings, types, reserved, default_required)
    problems += _check_block(settings, 'redis_connection', REDIS_OPTIONS, 'KVS.E014', 'KVS.W002')
    problems += _check_block(settings, 'kvs_debug', DEBUG_OPTIONS, 'KVS.E015', 'KVS.E015')
    return sorted(problems, key=lambda problem: _line(problem.place))


def report(problems: Iterable[Problem]) -> str:
    """One screen of text that says it all."""
    listed = sorted(problems, key=lambda problem: -problem.level)
    errors = sum(problem.level is Level.ERROR for problem in listed)
    many = f'{errors} faults have' if errors > 1 else 'One fault has'
    head = (
        f'The key-value store cannot start. {many} to be mended:' if errors else 'The key-value store can start, but:'
    )
    return '\n'.join([head, '', *(f'  {problem}' for problem in listed)])


def raise_on_errors(problems: Iterable[Problem]) -> None:
    """Stop the start if there is an error; log the warnings.

    Raises:
        StartupCheck: with the report as its text and the findings as ``problems``.
    """
    listed = list(problems)
    if any(problem.level is Level.ERROR for problem in listed):
        raise StartupCheck(report(listed), problems=listed)
    for problem in listed:
        log.warning('%s', problem)


def fault_of(option: Option, value: Any) -> tuple[str, str] | None:
    """What is wrong with a value and its cure; ``None`` if nothing is."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    given = f'is {shown(option.name, value)}'
    match option.kind:
        case 'path' | 'text':
            good = isinstance(value, str) and bool(value) and '\0' not in value
            wanted = 'Write a path.' if option.kind == 'path' else 'Write text that is not empty.'
        case 'text or null':
            good, wanted = value is None or isinstance(value, str), 'Write text, or null; put numbers in quotes.'
        case 'boolean':
            good, wanted = isinstance(value, bool), 'Write true or false, without quotes.'
        case 'seconds':
            good = is_number and math.isfinite(value) and value > 0
            wanted = 'Write a positive number of seconds' + _unquote(value)
        case 'count':
            good = is_number and isinstance(value, int) and value > 0
            wanted = 'Write a whole number above 0' + _unquote(value)
        case 'index':
            good = is_number and isinstance(value, int) and value >= 0
            wanted = 'Write 0 or a whole number above' + _unquote(value)
        case 'port':
            good = is_number and isinstance(value, int) and 0 < value < 65536
            wanted = 'Write a whole number from 1 to 65535' + _unquote(value)
        case 'choice':
            good = value in option.choices
            wanted = f'Write {" or ".join(option.choices)}.'
    return None if good else (given, wanted)


def _check_stores(
    settings: Settings, types: MutableMapping[str, type[Store]], reserved: Collection[str], default_required: bool
) -> Iterator[Problem]:
    block, place = settings.get('kvs'), settings.place('kvs')
    if 'kvs' not in settings:
        if not settings and settings.source is None:
            cure = 'Load settings first: settings.load_settings("creds.yaml").'
        else:
            cure = 'Add:  kvs: {default: {type: sqlite, path: .lo_kvs/state.sqlite3}}'
        yield Problem('KVS.E001', place, 'kvs', 'is not there', cure)
        return
    if not isinstance(block, (Mapping, list, tuple)):
        yield Problem('KVS.E002', place, 'kvs', f'is {shown("kvs", block)}', CATALOGUE['KVS.E002'][1])
        return
    entries = store_entries(settings)
    seen: dict[str, StoreEntry] = {}
    for entry in entries:
        yield from _check_name(settings, entry, reserved, seen)
        yield from _check_options(settings, entry, types)
    if default_required and 'default' not in seen:
        close = difflib.get_close_matches('default', seen, 1)
        hint = f"Did you mean to call {close[0]!r} 'default'?" if close else CATALOGUE['KVS.E003'][1]
        yield Problem('KVS.E003', place, 'kvs.default', 'is not there', hint)
    yield from _check_sharing(settings, seen.values())


def _check_name(
    settings: Settings, entry: StoreEntry, reserved: Collection[str], seen: dict[str, StoreEntry]
) -> Iterator[Problem]:
    name, place = entry.name, settings.place(*entry.path)
    if not isinstance(name, str):
        fault = 'is no [name, options] pair' if name is None else f'is a name of the kind {type(name).__name__}'
        yield Problem('KVS.E002', place, _dotted(entry.path), fault, CATALOGUE['KVS.E002'][1])
        return
    if not name.isidentifier() or name.startswith('_'):
        cure = 'Use letters, digits and _, beginning with a letter: programs write KVS.<name>().'
        yield Problem('KVS.E010', place, f'kvs.{name}', 'is no name for a store', cure)
    elif name in reserved:
        cure = f'Choose another name: KVS.{name} is a method of the router.'
        yield Problem('KVS.E010', place, f'kvs.{name}', 'cannot be the name of a store', cure)
    if name in seen:
        yield Problem('KVS.E011', place, f'kvs.{name}', 'is there twice', CATALOGUE['KVS.E011'][1])
    seen[name] = entry


def _check_options(settings: Settings, entry: StoreEntry, types: MutableMapping[str, type[Store]]) -> Iterator[Problem]:
    options, path = entry.options, entry.path
    if entry.name is None:
        return
    subject = f'kvs.{entry.name}'
    if not isinstance(options, Mapping):
        fault = f'is {shown(entry.name, options)}, which is no mapping'
        cure = 'Write its options below it, one a line, beginning with type:.'
        yield Problem('KVS.E006', settings.place(*path), subject, fault, cure)
        return
    word = options.get('type')
    unusable = store_types.join(types, word) if isinstance(word, str) else None
    known = types.get(word) if isinstance(word, str) else None
    words = dict.fromkeys(types) if known else dict.fromkeys([*types, *store_types.installed()])
    if 'type' not in options:
        cure = f'There are: {", ".join(words)}.'
        yield Problem('KVS.E005', settings.place(*path), f'{subject}.type', 'is missing', cure)
    elif unusable:
        fault = f'is {shown("type", word)}, which {unusable}'
        yield Problem('KVS.E016', settings.place(*path, 'type'), f'{subject}.type', fault, CATALOGUE['KVS.E016'][1])
    elif known is None:
        fault = f'is {shown("type", word)}, which is no type of store'
        cure = _did_you_mean(word, words) or f'There are: {", ".join(words)}.'
        yield Problem('KVS.E004', settings.place(*path, 'type'), f'{subject}.type', fault, cure)
    everywhere = {option.name for cls in types.values() for option in cls.OPTIONS}
    own = {option.name: option for option in known.OPTIONS} if known else {}
    for word, value in options.items():
        place, subject_of_word = settings.place(*path, word), f'{subject}.{word}'
        if word == 'type':
            continue
        if word in own:
            if fault_and_cure := fault_of(own[word], value):
                yield Problem('KVS.E009', place, subject_of_word, *fault_and_cure)
        elif word not in everywhere:
            hint = _did_you_mean(word, own or everywhere)
            cure = hint or (f'{known.TYPE} takes: {", ".join(own) or "no options"}.' if known else 'Take it out.')
            yield Problem('KVS.E008', place, subject_of_word, 'is an option no type of store knows', cure)
        elif known:
            yield Problem(
                'KVS.W001', place, subject_of_word, f'is not used by type {known.TYPE}', CATALOGUE['KVS.W001'][1]
            )
    for option in own.values():
        if option.required and option.name not in options:
            cure = f'Add {option.name}: {option.doc}'
            place = settings.place(*path)
            yield Problem(
                'KVS.E007', place, f'{subject}.{option.name}', f'is missing; {known and known.TYPE} needs it', cure
            )


def _check_sharing(settings: Settings, entries: Iterable[StoreEntry]) -> Iterator[Problem]:
    paths: dict[tuple[str, str], str] = {}
    prefixes: dict[str, str] = {}
    for name, options, path in entries:
        if not isinstance(options, Mapping):
            continue
        kind, folder = options.get('type'), options.get('path')
        if kind == 'filesystem' and isinstance(folder, str) and folder:
            other = paths.setdefault((kind, os.path.abspath(folder)), name)
            if other != name:
                place, subject = settings.place(*path, 'path'), f'kvs.{name}.path'
                yield Problem('KVS.E012', place, subject, f'is also the path of kvs.{other}', CATALOGUE['KVS.E012'][1])
        if kind in ('redis', 'redis_ephemeral'):
            prefix = options.get('prefix') or ''
            other = prefixes.setdefault(str(prefix), name)
            if other != name:
                fault = f'shares all its keys with kvs.{other}'
                cure = 'Give one of them a prefix of its own.'
                yield Problem('KVS.W003', settings.place(*path), f'kvs.{name}', fault, cure)


def _check_block(
    settings: Settings, name: str, options: Collection[Option], wrong: str, unknown: str
) -> Iterator[Problem]:
    block = settings.get(name)
    if block is None:
        return
    if not isinstance(block, Mapping):
        cure = 'Write it as a mapping, one setting a line.'
        yield Problem(wrong, settings.place(name), name, f'is {shown(name, block)}', cure)
        return
    known = {option.name: option for option in options}
    for word, value in block.items():
        place, subject = settings.place(name, word), f'{name}.{word}'
        if word in known:
            if fault_and_cure := fault_of(known[word], value):
                yield Problem(wrong, place, subject, *fault_and_cure)
        else:
            hint = _did_you_mean(word, known)
            yield Problem(
                wrong if hint else unknown, place, subject, 'is unknown', hint or f'There are: {", ".join(known)}.'
            )


def _did_you_mean(word: object, known: Iterable[str]) -> str | None:
    close = difflib.get_close_matches(str(word), list(known), 1)
    return f'Did you mean {close[0]!r}?' if close else None


def _unquote(value: object) -> str:
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return '.'
        return ', without quotes.'
    return '.'


def _dotted(path: Iterable[object]) -> str:
    return '.'.join(map(str, path))


def _line(place: str) -> int:
    line = place.rpartition(':')[2]
    return int(line) if line.isdigit() else 0
