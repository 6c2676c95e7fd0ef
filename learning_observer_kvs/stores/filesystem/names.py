"""Keys as file names, and back: readable where that is safe, a digest where it is not.

The readable form is the one of the store of Learning Observer: a character that is neither alphanumeric nor valid in an
identifier is ``-<code point>-``; with subdirectories ``a/b`` is ``_a/b``. All else that this package writes begins with
a dot, as no readable name does.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from functools import lru_cache

from learning_observer_kvs import json_codec
from learning_observer_kvs.errors import CorruptValue, InvalidValue

META_DIR = '.lo_kvs'
"""The hidden directory for everything that is not a readable key."""

DIGESTS = f'{META_DIR}/keys'
"""Where keys without a readable name are, each under its digest, with the key beside the value."""

MAX_NAME = 240
"""Bytes of one name; file systems allow 255, fewer where they encrypt names."""

MAX_PATH = 1024
"""Bytes of a path below the directory."""

_PATHS = 8192
"""How many paths of keys are remembered: making one takes as long as three system calls."""

_ESCAPE = re.compile(r'-([0-9]+)-')
_DIGEST = re.compile(re.escape(DIGESTS) + '/[0-9a-f]{64}')
_SPECIAL = re.compile(r'[^A-Za-z0-9_]')
_ASCII_CODES = {str(code): chr(code) for code in range(128) if _SPECIAL.match(chr(code))}

_HEAD, _BETWEEN, _END = b'{"key": ', b',\n"value": ', b'}\n'


class FileNames:
    """The names of the files in one directory.

    Args:
        subdirs: whether slashes in keys become subdirectories.
        case_sensitive: whether names that differ in case only are different files. Where they are not, accents are
            not trusted either: only names of lower-case ASCII are readable.
    """

    def __init__(self, subdirs: bool, case_sensitive: bool = True) -> None:
        self._subdirs = subdirs
        self._case_sensitive = case_sensitive
        self._readable = lru_cache(_PATHS)(self._make_readable)

    def path_of(self, key: str) -> str:
        """Return where the file of a key is.

        Args:
            key: the key.

        Returns:
            The path below the directory, with ``/``; below :data:`DIGESTS` if the key has no readable name.
        """
        readable = self._readable(key) if len(key) <= MAX_PATH else None
        return readable or f'{DIGESTS}/{hashlib.sha256(key.encode()).hexdigest()}'

    def key_of(self, path: str) -> str | None:
        """Return the key of a file with a readable name.

        Args:
            path: below the directory, with ``/``.

        Returns:
            The key; ``None`` if no key has that path.
        """
        if self._case_sensitive and not self._subdirs and (key := _plain_key(path)) is not None:
            return key
        *above, name = path.split('/')
        if any(not part.startswith('_') for part in above):
            return None
        key = '/'.join([*(_unescape(part[1:]) for part in above), _unescape(name)])
        return key if self.path_of(key) == path else None

    def path_prefixes(self, prefix: str) -> tuple[str, ...]:
        """Return what the paths of keys with a prefix begin with.

        Args:
            prefix: what the keys begin with.

        Returns:
            Texts; the path of each readable key with the prefix begins with one of them. Other paths may, too.
        """
        *parts, begun = prefix.split('/') if self._subdirs else [prefix]
        above = ''.join(f'_{_escape(part)}/' for part in parts)
        if not self._subdirs or not begun:
            return (above + _escape(begun),)
        return above + _file_name(begun), f'{above}_{_escape(begun)}'

    def _make_readable(self, key: str) -> str | None:
        *parts, last = key.split('/') if self._subdirs else [key]
        name = _file_name(last) if self._subdirs else _escape(last)
        names = [*('_' + _escape(part) for part in parts), name]
        path = '/'.join(names)
        if not name or len(path.encode()) > MAX_PATH or any(len(part.encode()) > MAX_NAME for part in names):
            return None
        if self._case_sensitive:
            return path if unicodedata.is_normalized('NFC', path) else None
        return path if path.isascii() and path == path.lower() else None


def resembles_key(path: str) -> bool:
    """Return whether a path looks as if a key had it, in any directory of this kind.

    Args:
        path: below the directory, with ``/``; bytes that are not UTF-8 are lone surrogates.

    Returns:
        Whether all of it is letters, digits, underscores and escapes, in directories that begin with ``_``.
    """
    *above, name = path.split('/')
    if any(not part.startswith('_') for part in above):
        return False
    letters = unicodedata.normalize('NFC', _ESCAPE.sub('', ''.join((*above, name))))
    return all(c.isalnum() or c.isidentifier() or '\udc80' <= c <= '\udcff' for c in letters)


def is_digest(path: str) -> bool:
    """Return whether a path is that of a key without a readable name.

    Args:
        path: below the directory, with ``/``.

    Returns:
        Whether it is a digest below :data:`DIGESTS`.
    """
    return _DIGEST.fullmatch(path) is not None


def wrap(key: str, text: bytes) -> bytes:
    """Return the content of a file below :data:`DIGESTS`.

    Args:
        key: the key.
        text: the JSON text of its value.

    Returns:
        Two lines or more, the key in the first.
    """
    return _HEAD + json_codec.encode(key) + _BETWEEN + text.rstrip(b'\n') + _END


def wrapped_key(first_line: bytes) -> str | None:
    """Return the key of a file below :data:`DIGESTS`.

    Args:
        first_line: of the file, with its end.

    Returns:
        The key; ``None`` if the line does not have the form that :func:`wrap` gives it.
    """
    if not first_line.startswith(_HEAD) or not first_line.endswith(b',\n'):
        return None
    try:
        key = json_codec.decode(first_line[len(_HEAD) : -2])
    except CorruptValue:
        return None
    return key if isinstance(key, str) else None


def unwrap(key: str, content: bytes) -> bytes | None:
    """Return the value in a file below :data:`DIGESTS`.

    Args:
        key: the key that the file is named for.
        content: of the file.

    Returns:
        The JSON text of the value; ``None`` if the file is not complete, or holds another key.
    """
    start = _HEAD + json_codec.encode(key) + _BETWEEN
    if content.startswith(start) and content.endswith(_END):
        return content[len(start) : -len(_END)] + b'\n'
    try:
        found = json_codec.decode(content)  # an editor may have written it in another form
        if isinstance(found, dict) and found.keys() == {'key', 'value'} and found['key'] == key:
            return json_codec.indented(json_codec.encode(found['value']))
    except (CorruptValue, InvalidValue):
        pass
    return None


def _file_name(last: str) -> str:
    """Return the name for the part of a key after its last slash. ``_a`` would be the directory of ``a/b``."""
    return f'-{ord("_")}-{_escape(last[1:])}' if last.startswith('_') else _escape(last)


def _plain_key(name: str) -> str | None:
    """Return the key of an ordinary ASCII name, quickly, for scans of a million; ``None`` for all others."""
    parts = name.split('-')  # text and code points alternate
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
