"""Keys as file names, and back: readable where that is safe, a digest where it is not.

The readable form is the one such folders always had: a character that is neither alphanumeric nor valid in an
identifier is ``-<code point>-``; with sub-folders ``a/b`` is ``_a/b``. What is ours alone begins with a dot, which no
key does.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

from learning_observer_kvs import json_codec
from learning_observer_kvs.errors import CorruptValue, InvalidValue

OWN = '.lo_kvs'
"""The hidden folder for what is not a readable key."""

DIGESTS = f'{OWN}/keys'
"""Where keys without a readable name are, each under its digest, with the key beside the value."""

MAX_NAME = 240
"""Bytes of one name; file systems take 255, less where they encrypt names."""

MAX_PATH = 1024
"""Bytes of a path below the folder."""

_ESCAPE = re.compile(r'-([0-9]+)-')
_DIGEST = re.compile(re.escape(DIGESTS) + '/[0-9a-f]{64}')
_SPECIAL = re.compile(r'[^A-Za-z0-9_]')
_ASCII_CODES = {str(code): chr(code) for code in range(128) if _SPECIAL.match(chr(code))}

_HEAD, _BETWEEN, _END = b'{"key": ', b',\n"value": ', b'}\n'


class FileNames:
    """The names of one folder.

    Args:
        subdirs: whether slashes in keys become sub-folders.
        exact: whether the file system tells names apart that differ in case only. One that does not is not trusted
            with accents either: only small ASCII names are readable there.
    """

    def __init__(self, subdirs: bool, exact: bool = True) -> None:
        self._subdirs = subdirs
        self._exact = exact

    def path_of(self, key: str) -> str:
        """The path of a key's file below the folder, with ``/``; below :data:`DIGESTS` if it has no readable name."""
        return self._readable(key) or f'{DIGESTS}/{hashlib.sha256(key.encode()).hexdigest()}'

    def key_of(self, path: str) -> str | None:
        """The key of a file by its path below the folder; ``None`` if the file is none of ours."""
        if self._exact and not self._subdirs and (key := _plain_key(path)) is not None:
            return key
        *folders, name = path.split('/')
        if any(not folder.startswith('_') for folder in folders):
            return None
        key = '/'.join([*(_unescape(folder[1:]) for folder in folders), _unescape(name)])
        return key if self._readable(key) == path else None

    def places_of(self, prefix: str) -> tuple[str, ...]:
        """What the paths of all readable keys with a prefix begin with, one or the other; more may begin so."""
        *folders, begun = prefix.split('/') if self._subdirs else [prefix]
        above = ''.join(f'_{_escape(folder)}/' for folder in folders)
        if not self._subdirs or not begun:
            return (above + _escape(begun),)
        return above + _file_name(begun), f'{above}_{_escape(begun)}'

    def _readable(self, key: str) -> str | None:
        if len(key) > MAX_PATH:
            return None
        *folders, last = key.split('/') if self._subdirs else [key]
        name = _file_name(last) if self._subdirs else _escape(last)
        names = [*('_' + _escape(folder) for folder in folders), name]
        path = '/'.join(names)
        if not name or len(path.encode()) > MAX_PATH or any(len(part.encode()) > MAX_NAME for part in names):
            return None
        if self._exact:
            return path if unicodedata.is_normalized('NFC', path) else None
        return path if path.isascii() and path == path.lower() else None


def is_digest(path: str) -> bool:
    """Whether a path is that of some key without a readable name."""
    return _DIGEST.fullmatch(path) is not None


def wrap(key: str, text: bytes) -> bytes:
    """The content of a file below :data:`DIGESTS`: two lines or more, the key in the first."""
    return _HEAD + json_codec.encode(key) + _BETWEEN + text.rstrip(b'\n') + _END


def wrapped_key(first_line: bytes) -> str | None:
    """The key in the first line of such a file; ``None`` if the line is not of that form."""
    if not first_line.startswith(_HEAD) or not first_line.endswith(b',\n'):
        return None
    try:
        key = json_codec.decode(first_line[len(_HEAD) : -2])
    except CorruptValue:
        return None
    return key if isinstance(key, str) else None


def unwrap(key: str, content: bytes) -> bytes | None:
    """The text of a value in such a file; ``None`` if the file is not whole, or is not of this key."""
    start = _HEAD + json_codec.encode(key) + _BETWEEN
    if content.startswith(start) and content.endswith(_END):
        return content[len(start) : -len(_END)] + b'\n'
    try:
        found = json_codec.decode(content)  # somebody's editor may have written it in another form
        if isinstance(found, dict) and found.keys() == {'key', 'value'} and found['key'] == key:
            return json_codec.indented(json_codec.encode(found['value']))
    except (CorruptValue, InvalidValue):
        pass
    return None


def _file_name(last: str) -> str:
    """Of the part of a key after its last slash. ``_a`` would be the folder of ``a/b``."""
    return f'-{ord("_")}-{_escape(last[1:])}' if last.startswith('_') else _escape(last)


def _plain_key(name: str) -> str | None:
    """The key of an ordinary name of ASCII characters, for walks over a million of them; ``None`` for all others."""
    parts = name.split('-')  # text and code points in turns
    texts = ''.join(parts[::2])
    if not texts.isascii() or not texts.replace('_', '0').isalnum() or len(name) > MAX_NAME:
        return None
    try:
        parts[1::2] = [_ASCII_CODES[code] for code in parts[1::2]]
    except KeyError:
        return None
    return ''.join(parts) if len(parts) % 2 else None


def _escape(text: str) -> str:
    return _SPECIAL.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    return character if character.isalnum() or character.isidentifier() else f'-{ord(character)}-'


def _unescape(name: str) -> str:
    return _ESCAPE.sub(_character, name) if '-' in name else name


def _character(match: re.Match[str]) -> str:
    number = int(match[1]) if len(match[1]) < 8 else -1
    return chr(number) if 0 <= number < 0xD800 or 0xDFFF < number < 0x110000 else match[0]
