r"""Ids of people in keys, values and names of files: whole strings, in whatever form they are written.

One id comes in several forms: percent-encoded (``ls-Jos%C3%A9``), with the escapes of reducer keys (``doe\2c jane``) or
of JSON (``Jos\u00e9``), composed or decomposed Unicode, an address in capitals. They count as the same id. A part of a
string never counts: ``ls-1`` is not in ``ls-12``.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from typing import Literal, NamedTuple, TypeAlias
from urllib.parse import quote, unquote

from learning_observer_kvs import json_codec
from learning_observer_kvs.arguments import several
from learning_observer_kvs.errors import CorruptValue
from learning_observer_kvs.json_codec import JSON

REDUCER_KEYS = ('Internal,', 'External,', 'Replayed,')
"""How the keys of reducers' states begin, and of the lists of what was replayed to them."""

Path: TypeAlias = tuple[str | int, ...]
"""A place in a value: names in objects and numbers in lists, from the outside."""

Form: TypeAlias = Literal['value', 'name', 'number', 'text', 'file name']
"""How an id is written at a place of a value: as a string, as the name in an object, as a number, inside a string that
is JSON or a key, or as the name of a file."""

ID_FIELDS = frozenset(
    (
        *('id', 'userid', 'safeuserid', 'googleid', 'ltiuserid', 'personid', 'profileid', 'login', 'loginid'),
        *('student', 'studentid', 'safestudentid', 'studentgoogleid', 'studentemail'),
        *('email', 'emailaddress', 'useremail', 'primaryemail', 'mail', 'username'),
    )
)
"""Names of fields that hold the id or the address of the person whom an object is about, without ``_`` and ``-``."""

ABOUT_SAME = frozenset(('profile', 'user', 'student', 'person', 'auth'))
"""Names of objects inside an object that are about the same person."""

LISTS_OF_PEOPLE = ('students', 'teachers', 'members', 'people', 'users', 'roster')
"""Names of fields that hold a list of persons, or of their ids."""

LONG_VALUE = 1000
"""Characters from which a value is written as its digest where a key of a reducer would be too long."""

MAX_ENCODED = 12
"""How many characters one character of an id has at most when it is encoded, and encoded again."""

_KEY_ESCAPE = re.compile(r'\\(2c|5c|d[89a-f][0-9a-f]{2})')
_SURROGATE = re.compile('[\ud800-\udfff]')
_JSON_ESCAPES = re.compile(r'(?:\\u[0-9a-fA-F]{4})+')
_PART_ENDS = re.compile(r'[:/|=&?#\s]+')
_ESCAPED_LETTERS = (b'\\u00', b'\\u212a', '\N{KELVIN SIGN}'.encode())
"""How a plain letter or digit may be written otherwise, in JSON or in Unicode."""

_PLAIN_RUN = re.compile(r'[A-Za-z0-9]+')
_FILE_ESCAPED = re.compile(r'[^A-Za-z0-9_]')


class Occurrence(NamedTuple):
    """Where a value holds an id.

    Attributes:
        path: the place in the value.
        form: how the id is written there.
    """

    path: Path
    form: Form


def escape(value: object) -> str:
    r"""Return a field's value as it is written in a key.

    Args:
        value: any value; its ``str()`` is written.

    Returns:
        The text, with each backslash as ``\5c``, each comma as ``\2c`` and each lone surrogate as its number.
    """
    text = str(value)
    if ',' in text or '\\' in text:
        text = text.replace('\\', r'\5c').replace(',', r'\2c')
    if not text.isascii():
        text = _SURROGATE.sub(lambda match: f'\\{ord(match[0]):x}', text)
    return text


def unescape(text: str) -> str:
    r"""Return a field's value of a reducer key as it was before it was written into the key.

    Args:
        text: the value in the key, with ``\2c`` for a comma, ``\5c`` for a backslash, and lone surrogates as numbers.
    """
    return _KEY_ESCAPE.sub(lambda match: chr(int(match[1], 16)), text) if '\\' in text else text


def digest_of_long(written: str) -> str:
    r"""Return what is written for a field's value in a reducer key that would be too long.

    Args:
        written: the value as :func:`escape` returns it.

    Returns:
        ``\h`` and a digest; a value that is not long as it is.
    """
    if len(written) <= LONG_VALUE:
        return written
    return rf'\h{hashlib.blake2b(written.encode(), digest_size=32).hexdigest()}'


def stand_ins(text: str) -> set[str]:
    """Return what stands for an id where it cannot be read from that.

    Args:
        text: the id.

    Returns:
        Of a long id its digests in keys: of the id as it is, decoded, and percent-encoded. Of one with spaces what the
        runtime makes of it for keys, with ``+`` for each.
    """
    plain = canonical(text)
    forms = {text, plain, *(quote(form, safe='', errors='surrogatepass') for form in (text, plain))}
    digests = {digest_of_long(form) for form in map(escape, forms) if len(form) > LONG_VALUE}
    return digests | {plain.replace(' ', '+')} if ' ' in plain else digests


def canonical(text: str) -> str:
    """Return one text for all forms of an id.

    Args:
        text: an id, in any form.
    """
    for _ in range(3):  # what is encoded may have been encoded again
        decoded = _decoded(text)
        if decoded == text:
            break
        text = decoded
    if not text.isascii():
        text = unicodedata.normalize('NFC', text)
    return text.casefold() if '@' in text else text


def _decoded(text: str) -> str:
    if '\\' in text:
        text = unescape(_JSON_ESCAPES.sub(_json_character, text))
    if '%' in text:
        with suppress(UnicodeDecodeError):
            text = unquote(text, errors='strict')
    return text


def _json_character(match: re.Match[str]) -> str:
    character = json.loads(f'"{match[0]}"')
    return match[0] if any('\ud800' <= part <= '\udfff' for part in character) else character


def file_name_form(text: str) -> str:
    """Return an id as it is written in names of files: what is special there as ``-<code point>-``.

    Args:
        text: the id.
    """
    return _FILE_ESCAPED.sub(
        lambda match: match[0] if match[0].isalnum() or match[0].isidentifier() else f'-{ord(match[0])}-', text
    )


def student_of(key: str) -> str | None:
    """Return the student whose state a key names.

    Args:
        key: any key.

    Returns:
        The value of the key's ``STUDENT``; ``None`` if it is not the key of a reducer, or its scope has no student.
    """
    if not key.startswith(REDUCER_KEYS):
        return None
    for part in key.split(',')[2:]:
        if part.startswith('STUDENT:'):
            return unescape(part[len('STUDENT:') :])
    return None


def strings_of_key(key: str) -> Iterator[str]:
    """Yield the whole strings that a key consists of.

    Args:
        key: any key: of a reducer, one whose parts stand between ``:`` or ``/``, or JSON, as memoization has it.
    """
    yield key
    if key[:1] in ('{', '[', '"') and (inside := parsed_text(key)) is not None:
        yield from _strings(inside)
        return
    for part in key.split(','):
        _, colon, rest = part.partition(':')
        yield from (part, rest) if colon else (part,)
        pieces = _PART_ENDS.split(part)
        if len(pieces) > 1:
            yield from pieces


def parsed_text(text: str) -> list[JSON] | None:
    """Return the value of a string that is itself JSON, in a list.

    Args:
        text: any string.

    Returns:
        The list; ``None`` if it is not the JSON of an object, a list or a string.
    """
    if text[:1] not in ('{', '[', '"'):
        return None
    try:
        return [json_codec.decode(text)]
    except CorruptValue:
        return None


def _strings(value: JSON) -> Iterator[str]:
    """All strings in a value, names of objects too."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
            if (inside := parsed_text(item)) is not None:
                waiting += inside
        elif isinstance(item, dict):
            yield from item
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item


class IdMatcher(ABC):
    """Recognizes the ids of one or several persons, and finds them in keys and values."""

    @abstractmethod
    def __contains__(self, text: object) -> bool:
        """Return whether a whole string is one of the ids, in any form.

        Args:
            text: the string.
        """

    def is_file_name(self, text: str) -> bool:
        """Return whether a string is one of the ids as it is written in names of files, if that can be told.

        Args:
            text: the string.
        """
        return False

    def may_be_in(self, text: bytes) -> bool:
        """Return whether one of the ids may be in a text, quickly.

        Args:
            text: JSON, or lines of it.
        """
        return True

    def is_student_of(self, key: str) -> bool:
        """Return whether a key is that of a state of this student.

        Args:
            key: any key.
        """
        student = student_of(key)
        return student is not None and student in self

    def are_in_key(self, key: str) -> bool:
        """Return whether a key names this person anywhere.

        Args:
            key: any key.
        """
        return any(text in self or self.is_file_name(text) for text in strings_of_key(key))

    def in_value(self, value: JSON) -> Iterator[Occurrence]:
        """Find the ids in a value.

        Args:
            value: any JSON value.

        Yields:
            Each place, in no order.
        """
        waiting: list[tuple[Path, JSON]] = [((), value)]
        while waiting:
            path, item = waiting.pop()
            if isinstance(item, str):
                if (form := self._form_of(item)) is not None:
                    yield Occurrence(path, form)
            elif isinstance(item, dict):
                for name, inner in item.items():
                    if name in self:
                        yield Occurrence((*path, name), 'name')
                    waiting.append(((*path, name), inner))
            elif isinstance(item, list):
                waiting += [((*path, number), inner) for number, inner in enumerate(item)]
            elif isinstance(item, int) and is_id_field(path) and str(item) in self:
                yield Occurrence(path, 'number')

    def _form_of(self, text: str) -> Form | None:
        if text in self:
            return 'value'
        if self.is_file_name(text):
            return 'file name'
        if text.startswith(REDUCER_KEYS):
            return 'text' if self.are_in_key(text) else None
        inside = parsed_text(text)
        if inside is not None and next(self.in_value(inside), None) is not None:
            return 'text'
        return None


class Ids(IdMatcher):
    """The ids of one person: recognizes each, in every form.

    Args:
        ids: the ids, of which one at least has a character other than a space.

    Raises:
        ValueError: one is empty; or a text is given, whose characters would be taken for ids.
    """

    def __init__(self, ids: Iterable[str]) -> None:
        self.given = tuple(dict.fromkeys(several(ids, 'ids')))
        if not self.given or not all(text.strip() for text in self.given):
            raise ValueError('An id is empty.')
        forms = {*self.given, *(form for text in self.given for form in stand_ins(text))}
        self._ids = frozenset({*forms, *map(canonical, forms)})
        self._canonical = frozenset(map(canonical, forms))
        self._file_names = frozenset(map(file_name_form, self._ids)) - self._ids
        self._longest = MAX_ENCODED * max(map(len, self._ids))
        self._runs = [[run.lower().encode() for run in _PLAIN_RUN.findall(text)] for text in self._canonical]
        self._is_address = any('@' in text for text in self._canonical)

    def __contains__(self, text: object) -> bool:
        """Return whether a whole string is one of the ids, in any form.

        Args:
            text: the string.
        """
        if not isinstance(text, str) or text in self._ids:
            return isinstance(text, str)
        return len(text) <= self._longest and canonical(text) in self._canonical

    def is_file_name(self, text: str) -> bool:
        """Return whether a string is one of the ids as it is written in names of files.

        Args:
            text: the string.
        """
        return text in self._file_names

    def may_be_in(self, text: bytes) -> bool:
        """Return whether one of the ids may be in a text, quickly: what an id has of letters and digits stays as it is.

        Args:
            text: JSON, or lines of it.
        """
        if not all(self._runs):  # an id without a plain letter or digit
            return True
        lower = text.lower()
        if any(all(run in lower for run in runs) for runs in self._runs) or b'%' in lower:
            return True
        if self._is_address:  # some letters, such as ß, stand for others in an address
            return b'\\u' in lower or not lower.isascii()
        return any(form in lower for form in _ESCAPED_LETTERS)


def is_id_field(path: Path) -> bool:
    """Return whether a place is a field that holds the id of whom the object around it is about.

    Args:
        path: a place in a value.
    """
    name = path[-1] if path else None
    return isinstance(name, str) and name.replace('_', '').replace('-', '').lower() in ID_FIELDS


def display_path(path: Path) -> str:
    """Return a place in a value as people read it: ``students[3].profile.id``.

    Args:
        path: the place.
    """
    text = ''.join(f'[{step}]' if isinstance(step, int) else f'.{step}' for step in path)
    return text.removeprefix('.')


def related_ids(value: JSON, path: Path) -> Collection[str]:
    """Return what else the object around a place calls the person whom it is about: an address, another id.

    Args:
        value: the whole value.
        path: the place of an id in it, a field that holds the id of whom the object is about.

    Returns:
        The strings of its other fields of this kind, also in objects inside it.
    """
    if not is_id_field(path):
        return ()
    item, top = value, value
    for step in path[:-1]:
        item = item[step]
        if isinstance(step, int):
            top = item
    found: list[str] = []
    waiting = [top]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            found += [inner for name, inner in item.items() if is_id_field((name,)) and isinstance(inner, str)]
            waiting += [inner for name, inner in item.items() if name in ABOUT_SAME]
    return found
