"""The names of a store's keys in Redis.

On a single server the Redis key is the key, behind the prefix of its store. In a cluster it begins with a digest in
braces, its hash tag, which decides on its slot. The digest is of the key without its ``Internal``, ``External`` or
``Replayed``: so what belongs to one state of a reducer shares a slot and is written together, and braces in students'
text mean nothing.

What a store keeps for itself has hidden Redis keys: behind its prefix too, so that an access control list may be
limited to that.
"""

from __future__ import annotations

import functools
import hashlib
import re

from learning_observer_kvs.stores.keys import MAX_KEY_BYTES
from learning_observer_kvs.stores.redis import redis_py

META_PREFIX = '\x00lo-kvs:'
"""Behind the prefix of a store: the beginning of its hidden Redis keys, such as idempotency records."""

_ESCAPED = META_PREFIX + 'key:'
"""Stands for ``META_PREFIX`` where a store's own key contains it."""

_GLOB = re.compile(r'[*?\[\]\\^-]')

_TAG_DIGITS = 16

_SHARING = ('Internal', 'External', 'Replayed')
"""The first words of keys that share a slot: a reducer's states, and the list of events that were replayed to them."""


def decode(redis_key: bytes) -> str | None:
    """Return a Redis key as text.

    Args:
        redis_key: as the server gives it.

    Returns:
        The text; ``None`` if it is not UTF-8, and so not written by this package.
    """
    try:
        return redis_key.decode()
    except UnicodeDecodeError:
        return None


def is_longer_than_any(key: str, redis_key: bytes) -> bool:
    """Return whether another program wrote a Redis key, because no store accepts such a long key.

    Args:
        key: what would be the key.
        redis_key: the Redis key.
    """
    return len(redis_key) > MAX_KEY_BYTES and len(key.encode()) > MAX_KEY_BYTES


def escape_glob(text: str) -> str:
    """Return a pattern of ``SCAN`` that matches a text and nothing else.

    Args:
        text: any text.
    """
    return _GLOB.sub(r'\\\g<0>', text)


class Names:
    """The Redis keys of one store on a single server.

    Args:
        prefix: the store's.
    """

    max_keys_per_write = 500
    """How many keys, whichever they are, may be removed in one write."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def redis_key(self, key: str) -> str:
        """Return the Redis key of a key.

        Args:
            key: a key of the store.
        """
        return self.prefix + (key.replace(META_PREFIX, _ESCAPED) if META_PREFIX in key else key)

    def key(self, redis_key: bytes) -> str | None:
        """Return the key of a Redis key.

        Args:
            redis_key: as the server gives it.

        Returns:
            The key; ``None`` if it is not one of this store, or longer than any, or is hidden, also by a store whose
            prefix begins with this one's.
        """
        text = decode(redis_key)
        if text is None or not text.startswith(self.prefix) or len(text) == len(self.prefix):
            return None
        key = text[len(self.prefix) :]
        if META_PREFIX in key:
            if key.count(META_PREFIX) != key.count(_ESCAPED):
                return None
            key = key.replace(_ESCAPED, META_PREFIX)
        return None if is_longer_than_any(key, redis_key) else key

    def scan_pattern(self, prefix: str) -> str:
        """Return a pattern of ``SCAN`` that matches the Redis keys of some keys, and perhaps some others.

        Args:
            prefix: the beginning of those keys.
        """
        return escape_glob(self.redis_key(prefix)) + '*'

    def tracked_prefix(self, prefix: str) -> str:
        """Return what the Redis keys of some keys begin with, and perhaps those of some others.

        Args:
            prefix: the beginning of those keys.
        """
        return self.redis_key(prefix)

    def hidden_key(self, name: str, redis_key: str) -> str:
        """Return a Redis key that no scan of a store gives, and that ``clear`` spares.

        Args:
            name: any text.
            redis_key: the Redis key of one of the store's keys; the hidden one is in the same slot.
        """
        return self.prefix + META_PREFIX + name

    def record_key(self, name: str, redis_key: str) -> str:
        """Return the Redis key of an idempotency record.

        Args:
            name: the name of the record.
            redis_key: a Redis key that its writer writes; the record is in the same slot.
        """
        return self.hidden_key(f'writer:{name}', redis_key)


class ClusterNames(Names):
    """The Redis keys of one store in a cluster.

    Args:
        prefix: the store's.
    """

    max_keys_per_write = 1

    def redis_key(self, key: str) -> str:
        """Return the Redis key of a key.

        Args:
            key: a key of the store.
        """
        return '{' + _hash_tag(key) + '}:' + self.prefix + key

    def key(self, redis_key: bytes) -> str | None:
        """Return the key of a Redis key.

        Args:
            redis_key: as the server gives it.

        Returns:
            The key; ``None`` if it is not one of this store, or longer than any, or was not written in a cluster.
        """
        text = decode(redis_key)
        start = _TAG_DIGITS + 3 + len(self.prefix)
        if text is None or len(text) <= start:
            return None
        key = text[start:]
        return key if text == self.redis_key(key) and not is_longer_than_any(key, redis_key) else None

    def scan_pattern(self, prefix: str) -> str:
        """Return a pattern of ``SCAN`` that matches the Redis keys of some keys, and perhaps some others.

        Args:
            prefix: the beginning of those keys.
        """
        return '{' + '?' * _TAG_DIGITS + '}:' + escape_glob(self.prefix + prefix) + '*'

    def tracked_prefix(self, prefix: str) -> str:
        """Return what all Redis keys begin with: the digest comes before whatever they have in common.

        Args:
            prefix: not used.
        """
        return '{'

    def hidden_key(self, name: str, redis_key: str) -> str:
        """Return a Redis key that no scan of a store gives, because its hash tag is not the digest of its key.

        Args:
            name: any text.
            redis_key: the Redis key of one of the store's keys; the hidden one is in the same slot.
        """
        return redis_key[: _TAG_DIGITS + 3] + super().hidden_key(name, redis_key)


def slot_of(redis_key: str) -> int:
    """Return the slot of a Redis key in a cluster.

    Args:
        redis_key: one of :class:`ClusterNames`.
    """
    return _slot_of_tag(_tag_in(redis_key))


def _hash_tag(key: str) -> str:
    kind, comma, rest = key.partition(',')
    shared = rest if comma and kind in _SHARING else key
    return hashlib.blake2b(shared.encode(), digest_size=_TAG_DIGITS // 2).hexdigest()


def _tag_in(redis_key: str) -> str:
    return redis_key[1 : _TAG_DIGITS + 1]


@functools.lru_cache(10_000)
def _slot_of_tag(tag: str) -> int:
    return redis_py.crc.key_slot(tag.encode())
