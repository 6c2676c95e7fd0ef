"""Which keys a store accepts, and how messages show a key."""

from __future__ import annotations

from collections.abc import Iterable

from learning_observer_kvs.errors import CorruptValue, InvalidKey

MAX_KEY_BYTES = 1 << 20
"""The longest key in bytes of UTF-8; memoization keys hold whole essays."""


def check_key(key: str) -> str:
    """Check that a key is one that every store accepts.

    Args:
        key: what a caller gave as a key.

    Returns:
        The key as a plain ``str``.

    Raises:
        InvalidKey: it is not text, empty, longer than ``MAX_KEY_BYTES``, or not valid Unicode.
    """
    if not isinstance(key, str):
        raise InvalidKey(f'A key must be text; this one is {type(key).__name__}: {key!r}.')
    if not key:
        raise InvalidKey('A key must have at least one character; this one is empty.')
    if not key.isascii() or len(key) > MAX_KEY_BYTES:
        try:
            size = len(key.encode())
        except UnicodeEncodeError as error:
            raise InvalidKey(f'{display_key(key)} is not valid Unicode at character {error.start}.') from None
        if size > MAX_KEY_BYTES:
            raise InvalidKey(f'{display_key(key)} has {size:,} bytes; a key may have at most {MAX_KEY_BYTES:,}.')
    return key if type(key) is str else str.__str__(key)


def check_keys(keys: Iterable[str]) -> list[str]:
    """Check several keys.

    Args:
        keys: what a caller gave as keys.

    Returns:
        The keys, as :func:`check_key` returns each.

    Raises:
        InvalidKey: a key is not one that every store accepts; or it is a text, whose characters would be keys.
    """
    if isinstance(keys, str):
        raise InvalidKey(f'Several keys are asked for, and one text is given: {display_key(keys)}. Give a list.')
    return [check_key(key) for key in keys]


def check_prefix(prefix: str, name: str = 'prefix') -> str:
    """Check that text can be the beginning of a key, or the cursor of a page.

    Args:
        prefix: what a caller gave.
        name: what the message calls it.

    Returns:
        The text as a plain ``str``; it may be empty.

    Raises:
        InvalidKey: it is not text, longer than ``MAX_KEY_BYTES``, or not valid Unicode.
    """
    try:
        return check_key(prefix) if prefix != '' else ''
    except InvalidKey as error:
        raise InvalidKey(f'The {name} of a scan cannot be the beginning of a key: {error}') from None


def check_position(cursor: str | None, prefix: str) -> None:
    """Check the cursor of a backend that has its keys in order, where it is the last key of a page.

    Args:
        cursor: the cursor; ``None`` for the first page.
        prefix: what the keys of the page begin with.

    Raises:
        InvalidKey: no key that begins with the prefix can be the cursor.
    """
    if cursor is not None and not cursor.startswith(prefix):
        raise InvalidKey(
            f'{display_key(cursor)} is not the cursor of a page of keys that begin with {display_key(prefix)}.'
        )


def display_key(key: str) -> str:
    """Return a key as messages show it.

    Args:
        key: any text.

    Returns:
        The key in quotes; of one with over 200 characters the first 150 and their number.
    """
    return repr(key) if len(key) <= 200 else f'{key[:150]!r}… ({len(key):,} characters)'


def at(key: str, name: str, location: str) -> str:
    """Return a key with where it is, as messages show it.

    Args:
        key: the key.
        name: the name of the store.
        location: where that is.
    """
    return f'{display_key(key)} in store {name!r} ({location})'


def corrupt(key: str, name: str, location: str, why: CorruptValue) -> CorruptValue:
    """Return the error of a stored text that cannot be decoded, with where it is.

    Args:
        key: the key.
        name: the name of the store.
        location: where that is.
        why: what the codec raised.
    """
    return CorruptValue(f'{at(key, name, location)}: what is stored {why}. Remove the key, or repair it.')
