"""How keys are called in Redis.

On one server a key is called what it is called, behind the prefix of its store. In a cluster its name begins with a
digest in braces, which decides on its slot. The digest is of the key without its ``Internal`` or ``External``: so the
two states of a reducer share a slot and are written together, and braces in students' text mean nothing.
"""

from __future__ import annotations

import functools
import hashlib
import re

from redis.crc import key_slot

from learning_observer_kvs.stores.redis.connection import as_text

HIDDEN = '\x00lo-kvs:'
"""How the names of our own records begin in Redis."""

_ESCAPED = HIDDEN + 'key:'
"""A key of a user's that begins like our records gets this before it."""

_GLOB = re.compile(r'[*?\[\]\\^-]')

_DIGITS = 16


def escaped(text: str) -> str:
    """A pattern that matches this text alone."""
    return _GLOB.sub(r'\\\g<0>', text)


class Names:
    """The names of one store on one server.

    Args:
        prefix: the store's.
    """

    together = 500
    """How many keys, whichever they are, may be removed in one write."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def name(self, key: str) -> str:
        """The name of a key."""
        name = self.prefix + key
        return _ESCAPED + name if name.startswith(HIDDEN) else name

    def key(self, name: bytes) -> str | None:
        """The key of a name; ``None`` if it is none of this store's."""
        text = as_text(name)
        if text is not None and text.startswith(HIDDEN):
            text = text.removeprefix(_ESCAPED) if text.startswith(_ESCAPED) else None
        if text is None or not text.startswith(self.prefix) or len(text) == len(self.prefix):
            return None
        return text[len(self.prefix) :]

    def pattern(self, prefix: str) -> str:
        """What ``SCAN`` matches the names of keys with that begin with a prefix, and perhaps some others."""
        return escaped(self.name(prefix)) + '*'


class ClusterNames(Names):
    """The names of one store in a cluster."""

    together = 1

    def name(self, key: str) -> str:
        """The name of a key."""
        return '{' + _digest(key) + '}:' + self.prefix + key

    def key(self, name: bytes) -> str | None:
        """The key of a name; ``None`` if it is none of this store's, or was not written in a cluster."""
        text = as_text(name)
        start = _DIGITS + 3 + len(self.prefix)
        if text is None or not text.startswith('{') or len(text) <= start:
            return None
        key = text[start:]
        return key if text == self.name(key) else None

    def pattern(self, prefix: str) -> str:
        """What ``SCAN`` matches the names of keys with that begin with a prefix, and perhaps some others."""
        return '{' + '?' * _DIGITS + '}:' + escaped(self.prefix + prefix) + '*'


def _digest(key: str) -> str:
    kind, comma, rest = key.partition(',')
    shared = rest if comma and kind in ('Internal', 'External') else key
    return hashlib.blake2b(shared.encode(), digest_size=_DIGITS // 2).hexdigest()


@functools.lru_cache(10_000)
def _slot(tag: str) -> int:
    return key_slot(tag.encode())


def tag_of(name: str) -> str:
    """What is between the braces of a name in a cluster."""
    return name[1 : _DIGITS + 1]


def slot_of(name: str) -> int:
    """The slot of a name in a cluster."""
    return _slot(tag_of(name))
