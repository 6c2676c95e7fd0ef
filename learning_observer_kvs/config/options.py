"""How a store type says which settings it takes."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from learning_observer_kvs.config.redaction import Text, Unset, shown

MAX_SECONDS = 1_000_000_000
"""Thirty years; what is longer no backend would take."""

Kind = Literal[
    'path', 'text', 'text or null', 'boolean', 'seconds', 'count', 'index', 'port', 'addresses', 'choice', 'function'
]

_FUNCTION = re.compile(r'\w+(\.\w+)*:\w+')


@dataclass(frozen=True)
class Option:
    """One setting of a store type.

    Args:
        name: its word in the configuration; also the keyword argument of the store's constructor.
        kind: what values it takes: ``path`` and ``text`` (not empty), ``text or null``, ``boolean``, ``seconds`` (a
            positive number, up to :data:`MAX_SECONDS`), ``count`` (a whole number above 0), ``index`` (0 or above),
            ``port``, ``addresses`` (a list of ``host:port``, or one text with commas between), ``choice`` (one of
            ``choices``), ``function`` (``package.module:function``).
        required: whether a configuration without it is an error.
        default: what holds when it is not given.
        choices: the words a ``choice`` takes.
        doc: one sentence for people.
    """

    name: str
    kind: Kind
    required: bool = False
    default: Any = None
    choices: tuple[str, ...] = ()
    doc: str = ''


def taken(option: Option, value: Any) -> Any:
    """What an option takes a value for: of text from outside the number or boolean that it spells, of anything else the
    value itself."""
    if not isinstance(value, Text) or isinstance(value, Unset):
        return value
    text = str.__str__(value)
    match option.kind:
        case 'boolean':
            return {'true': True, 'false': False}.get(text.strip().lower(), value)
        case 'seconds' | 'count' | 'index' | 'port':
            for number in (int, float):
                with suppress(ValueError):
                    return number(text)
            return value
        case _:
            return text if problem_of(option, text) is None else value


def problem_of(option: Option, value: Any) -> tuple[str, str] | None:
    """What is wrong with a value and its cure; ``None`` if nothing is."""
    if isinstance(value, Unset):
        return None
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    given = f'is {shown(option.name, value)}'
    match option.kind:
        case 'path' | 'text':
            good = _is_text(value) and bool(value) and '\0' not in value
            wanted = 'Write a path.' if option.kind == 'path' else 'Write text that is not empty.'
        case 'text or null':
            good, wanted = value is None or _is_text(value), 'Write text, or null; put numbers in quotes.'
        case 'boolean':
            good, wanted = isinstance(value, bool), 'Write true or false, without quotes.'
        case 'seconds':
            good = is_number and 0 < value <= MAX_SECONDS
            most = f', {MAX_SECONDS:,} at most' if is_number and value > MAX_SECONDS else ''
            wanted = f'Write a positive number of seconds{most}' + _unquote(value)
        case 'count':
            good = is_number and isinstance(value, int) and value > 0
            wanted = 'Write a whole number above 0' + _unquote(value)
        case 'index':
            good = is_number and isinstance(value, int) and value >= 0
            wanted = 'Write 0 or a whole number above' + _unquote(value)
        case 'port':
            good = is_number and isinstance(value, int) and 0 < value < 65536
            wanted = 'Write a whole number from 1 to 65535' + _unquote(value)
        case 'addresses':
            listed = value.split(',') if isinstance(value, str) else value
            good = value is None or (isinstance(listed, (list, tuple)) and all(map(_is_address, listed)))
            wanted = 'Write a list of addresses, each as host:port.'
        case 'choice':
            good = value in option.choices
            wanted = f'Write {" or ".join(option.choices)}.'
        case 'function':
            good = isinstance(value, str) and bool(_FUNCTION.fullmatch(value))
            wanted = 'Write it as package.module:function.'
    return None if good else (given, wanted)


def _is_text(value: object) -> bool:
    """Half of a surrogate pair is none: nothing outside could take it."""
    return isinstance(value, str) and not any('\ud800' <= character <= '\udfff' for character in value)


def _is_address(item: object) -> bool:
    host, _, port = item.strip().rpartition(':') if isinstance(item, str) else ('', '', '')
    return bool(host) and port.isdecimal() and port.isascii() and 0 < int(port) < 65536


def _unquote(value: object) -> str:
    if isinstance(value, str) and not isinstance(value, Text):
        try:
            float(value)
        except ValueError:
            return '.'
        return ', without quotes.'
    return '.'
