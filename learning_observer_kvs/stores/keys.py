"""Which keys a store takes, and how messages show them."""

from __future__ import annotations

from learning_observer_kvs.errors import InvalidKey

MAX_KEY_BYTES = 1 << 20
"""How long a key may be in UTF-8; memoization keys hold whole essays."""


def check_key(key: str) -> str:
    """The key, if every store can take it.

    Raises:
        InvalidKey: it is not text, empty, over ``MAX_KEY_BYTES`` long, or not valid Unicode.
    """
    if not isinstance(key, str):
        raise InvalidKey(f'A key is text; this one is {type(key).__name__}: {key!r}.')
    if not key:
        raise InvalidKey('A key is text of one character or more; this one is empty.')
    if not key.isascii() or len(key) > MAX_KEY_BYTES:
        try:
            size = len(key.encode())
        except UnicodeEncodeError as error:
            raise InvalidKey(f'{display_key(key)} is no valid Unicode at character {error.start}.') from None
        if size > MAX_KEY_BYTES:
            raise InvalidKey(f'{display_key(key)} has {size:,} bytes; a key has {MAX_KEY_BYTES:,} at most.')
    return key if type(key) is str else str.__str__(key)


def display_key(key: str) -> str:
    """A key as messages show it: quoted, and cut where it is very long."""
    return repr(key) if len(key) <= 200 else f'{key[:150]!r}… ({len(key):,} characters)'
