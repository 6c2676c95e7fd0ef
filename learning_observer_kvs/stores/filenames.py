"""Keys as file names, and back: readable where that is safe, a digest where it is not.

The readable form is the one such folders always had: a character that is neither alphanumeric nor valid in an
identifier is ``-<code point>-``; with sub-folders ``a/b`` is ``_a/b``. What is ours alone begins with a dot, which no
key does.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

from learning_observer_kvs import jsontext

OWN = '.lo_kvs'
"""The hidden folder for what is not a readable key."""

DIGESTS = f'{OWN}/keys'
"""Where keys without a readable name are, each under its digest, with the key beside the value."""

MAX_NAME = 240
"""Bytes of one name; file systems take 255, less where they encrypt names."""

MAX_PATH = 1024
"""Bytes of a path below the folder."""

_ESCAPE = re.compile(r'-([0-9]+)-')


class FileNames:
    """The names of one folder.

    Args:
        subdirs: whether slashes in keys become sub-folders.
        any_case: whether the file system takes names that differ in case only for different ones.
    """

    def __init__(self, subdirs: bool, any_case: bool = True) -> None:
        self._subdirs = subdirs
        self._any_case = any_case

    def path_of(self, key: str) -> str:
        """The path of a key's file below the folder, with ``/``; below :data:`DIGESTS` if it has no readable name."""
        return self._readable(key) or f'{DIGESTS}/{hashlib.sha256(key.encode()).hexdigest()}'

    def key_of(self, path: str) -> str | None:
        """The key of a file by its path below the folder; ``None`` if the file is none of ours."""
        *folders, name = path.split('/')
        if any(not folder.startswith('_') for folder in folders):
            return None
        key = '/'.join([*(_unescape(folder[1:]) for folder in folders), _unescape(name)])
        return key if self._readable(key) == path else None

    def _readable(self, key: str) -> str | None:
        if len(key) > MAX_PATH:
            return None
        *folders, last = key.split('/') if self._subdirs else [key]
        name = _escape(last)
        if self._subdirs and name.startswith('_'):
            name = f'-{ord("_")}-{name[1:]}'  # or ``_a`` would be the folder of ``a/b``
        names = [*('_' + _escape(folder) for folder in folders), name]
        path = '/'.join(names)
        if not name or len(path.encode()) > MAX_PATH or any(len(part.encode()) > MAX_NAME for part in names):
            return None
        if unicodedata.normalize('NFC', path) != path or not (self._any_case or path == path.lower()):
            return None
        return path


def wrap(key: str, text: bytes) -> bytes:
    """The content of a file below :data:`DIGESTS`."""
    return b'{"key": ' + jsontext.encode(key) + b',\n"value": ' + text.rstrip(b'\n') + b'}\n'


def unwrap(content: bytes) -> tuple[bytes, bytes]:
    """The JSON texts of key and value in such a file; a damaged one is handed through as its value."""
    head, mark, rest = content.partition(b',\n"value": ')
    if not mark or not head.startswith(b'{"key": ') or not rest.endswith(b'}\n'):
        return b'', content
    return head.removeprefix(b'{"key": '), rest.removesuffix(b'}\n') + b'\n'


def _escape(text: str) -> str:
    return ''.join(c if c.isalnum() or c.isidentifier() else f'-{ord(c)}-' for c in text)


def _unescape(name: str) -> str:
    def character(match: re.Match[str]) -> str:
        number = int(match[1]) if len(match[1]) < 8 else -1
        return chr(number) if 0 <= number < 0x110000 else match[0]

    return _ESCAPE.sub(character, name)
