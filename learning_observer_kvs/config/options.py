"""The options of a block of settings: what values each of them accepts."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from learning_observer_kvs.config import paths
from learning_observer_kvs.config.raw_text import RawText, UnsetVariable
from learning_observer_kvs.config.redaction import display_value

MAX_SECONDS = 1_000_000_000
"""Thirty years; some backends accept no longer time."""

Kind = Literal[
    'path',
    'path or null',
    'text',
    'text or null',
    'host',
    'boolean',
    'seconds',
    'seconds or zero',
    'count',
    'index',
    'port',
    'addresses',
    'words',
    'choice',
    'function',
    'age',
]

PATHS = ('path', 'path or null')
"""The kinds of options that are paths."""

_AGE = re.compile(r'([0-9]{1,5}) ?([dwmy])')
_DAYS = {'d': 1.0, 'w': 7.0, 'm': 365.25 / 12, 'y': 365.25}

_FUNCTION = re.compile(r'\w+(\.\w+)*:\w+')


@dataclass(frozen=True)
class Option:
    """One option of a store type, or of another block of the settings.

    Args:
        name: its name in the configuration; also the keyword argument of the store's constructor.
        kind: what values it accepts: ``path`` and ``text`` (not empty), ``path or null``, ``text or null``,
            ``host``, ``boolean``, ``seconds`` (a positive number, up to :data:`MAX_SECONDS`), ``seconds or zero``,
            ``count`` (a whole number above 0), ``index`` (0 or above), ``port``, ``addresses`` (a list of
            ``host:port``, or one text with commas between), ``words`` (a list of words, or one text with commas
            between), ``choice`` (one of ``choices``), ``function`` (``package.module:function``), ``age`` (such as
            ``5y``).
        required: whether a configuration without it is an error.
        default: the value where it is not given.
        choices: the values that a ``choice`` accepts.
        doc: one sentence for people.
    """

    name: str
    kind: Kind
    required: bool = False
    default: Any = None
    choices: tuple[str, ...] = ()
    doc: str = ''


def convert(option: Option, value: Any) -> Any:
    """Return the value that an option makes of what is written.

    Args:
        option: the option that the value is given for.
        value: any value that settings can hold.

    Returns:
        The number, boolean, plain text or null that a ``RawText`` spells, and a path with ``~`` replaced; any other
        value, and text that the option rejects, unchanged.
    """
    if isinstance(value, UnsetVariable):
        return value
    if not isinstance(value, RawText):
        return paths.expanded(value) if option.kind in PATHS and _is_text(value) else value
    text = str.__str__(value)
    if text == 'None' and option.default is None and not option.required:
        return None  # as PMSS has null
    match option.kind:
        case 'boolean':
            return {'true': True, 'false': False}.get(text.strip().lower(), value)
        case 'seconds' | 'seconds or zero' | 'count' | 'index' | 'port':
            for number in (int, float):
                with suppress(ValueError):
                    return number(text)
            return value
        case 'path' | 'path or null':
            text = paths.expanded(text)
    return text if check_value(option, text) is None else value


def check_value(option: Option, value: Any) -> tuple[str, str] | None:
    """Check whether an option accepts a value.

    Args:
        option: the option that the value is given for.
        value: any value that settings can hold, converted.

    Returns:
        ``None`` if it does, as every option does its default; otherwise the message and the hint of a
        :class:`~learning_observer_kvs.problems.Problem`.
    """
    if isinstance(value, UnsetVariable) or _is_default(option, value):
        return None
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    match option.kind:
        case 'path' | 'path or null':
            is_name = isinstance(value, str) and paths.is_name(value)
            rejected = paths.rejected(value) if is_name else None
            accepted = is_name and rejected is None
            accepted = accepted or (option.kind == 'path or null' and value in (None, ''))  # PMSS has text alone
            hint = rejected or 'Write a path.'
        case 'text':
            accepted = _is_text(value) and bool(value) and '\0' not in value
            hint = 'Write text that is not empty.'
        case 'host':
            accepted = _is_text(value) and _is_host(value)
            hint = 'Write the name of a host alone; for a URL there is redis_url.'
        case 'text or null':
            accepted, hint = value is None or _is_text(value), 'Write text, or null; put numbers in quotes.'
        case 'boolean':
            accepted, hint = isinstance(value, bool), 'Write true or false, without quotes.'
        case 'seconds' | 'seconds or zero':
            zero = '0 or ' if option.kind == 'seconds or zero' else ''
            accepted = is_number and 0 <= value <= MAX_SECONDS and bool(value or zero)
            limit = f', {MAX_SECONDS:,} at most' if is_number and value > MAX_SECONDS else ''
            hint = f'Write {zero}a positive number of seconds{limit}' + _unquote(value)
        case 'count':
            accepted = is_number and isinstance(value, int) and value > 0
            hint = 'Write a whole number above 0' + _unquote(value)
        case 'index':
            accepted = is_number and isinstance(value, int) and value >= 0
            hint = 'Write 0 or a whole number above' + _unquote(value)
        case 'port':
            accepted = is_number and isinstance(value, int) and 0 < value < 65536
            hint = 'Write a whole number from 1 to 65535' + _unquote(value)
        case 'addresses':
            listed = value.split(',') if isinstance(value, str) else value
            accepted = value is None or (isinstance(listed, (list, tuple)) and all(map(_is_address, listed)))
            hint = 'Write a list of addresses, each as host:port.'
        case 'words':
            listed = value.split(',') if isinstance(value, str) else value
            accepted = isinstance(listed, (list, tuple)) and all(map(_is_word, listed))
            hint = 'Write a list of words, or [] for none.'
        case 'choice':
            accepted = value in option.choices
            hint = f'Write {" or ".join(option.choices)}.'
        case 'function':
            accepted = isinstance(value, str) and bool(_FUNCTION.fullmatch(value))
            hint = 'Write it as package.module:function.'
        case 'age':
            accepted = value is None or (isinstance(value, str) and seconds_of_age(value) is not None)
            hint = 'Write a whole number and a unit: 30d, 8w, 18m or 5y, for days, weeks, months and years.'
    return None if accepted else (f'is {display_value(option.name, value)}', hint)


def seconds_of_age(text: str) -> float | None:
    """Return the seconds of an age.

    Args:
        text: a whole number and a unit: ``d``, ``w``, ``m`` or ``y``, for days, weeks, months and years.

    Returns:
        The seconds, of a month the twelfth of those of a year, of a year those of 365.25 days; ``None`` if it is not an
        age.
    """
    match = _AGE.fullmatch(text.strip())
    seconds = int(match[1]) * _DAYS[match[2]] * 86_400 if match else 0
    return seconds or None


def _is_default(option: Option, value: Any) -> bool:
    return not option.required and type(value) is type(option.default) and bool(value == option.default)


def _is_text(value: object) -> bool:
    """Return whether a value is text that can be encoded: half of a surrogate pair cannot."""
    return isinstance(value, str) and not any('\ud800' <= character <= '\udfff' for character in value)


def _is_address(item: object) -> bool:
    host, _, port = item.strip().rpartition(':') if isinstance(item, str) else ('', '', '')
    return _is_host(host) and port.isdecimal() and port.isascii() and len(port) <= 5 and 0 < int(port) < 65536


def _is_word(item: object) -> bool:
    return isinstance(item, str) and any(character.isalnum() for character in item)


def _is_host(text: str) -> bool:
    return bool(text) and not any(character in '@/?#' or character.isspace() for character in text)


def _unquote(value: object) -> str:
    if isinstance(value, str) and not isinstance(value, RawText):
        try:
            float(value)
        except ValueError:
            return '.'
        return ', without quotes.'
    return '.'
