"""Settings as messages display them: never a secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from learning_observer_kvs.config.raw_text import RawText

REDACTED = '(hidden)'
"""What is displayed in place of a secret."""

MAX_DISPLAYED = 100
"""Characters of a value that are displayed."""

_SECRET = re.compile(r'password|passwd|passphrase|secret|token|credential|(api|private)_?key', re.IGNORECASE)
_CREDENTIALS = re.compile(r'://.*@', re.DOTALL)  # a password may hold anything, also what a URL should not
_WITHOUT_SLASHES = re.compile(r'^[^/@\s]*:.*@', re.DOTALL)
_QUERY = re.compile(r'(://[^?]*)\?.+', re.DOTALL)
_IN_A_TEXT = re.compile(r'(?<![^\s,;(\[\'"])[^\s,;(\[\'"/@]*:\S*@')


def is_secret(option: object) -> bool:
    """Return whether the value of an option must not be displayed.

    Args:
        option: its name; a name that is not text is not secret.

    Returns:
        Whether the name is that of a password, token or the like.
    """
    return isinstance(option, str) and _SECRET.search(option) is not None


def without_credentials(address: str) -> str:
    """Return an address with what stands before its host and after its question mark redacted.

    Args:
        address: a URL, ``user:password@host`` without its beginning, or any other value.

    Returns:
        The address; other values unchanged.
    """
    found, is_url = _CREDENTIALS.subn(f'://{REDACTED}@', address)
    if not is_url:
        found = _WITHOUT_SLASHES.sub(f'{REDACTED}@', found)
    return _QUERY.sub(rf'\1?{REDACTED}', found)


def without_addresses(text: str) -> str:
    """Return a message of another program with the credentials in it redacted.

    Args:
        text: the message; what :func:`without_credentials` redacts may be anywhere in it.

    Returns:
        The message.
    """
    return _IN_A_TEXT.sub(f'{REDACTED}@', text)


def display_value(option: object, value: object) -> str:
    """Return the value of an option as a message displays it.

    Args:
        option: its name, which decides whether the value is secret.
        value: any value that settings can hold.

    Returns:
        The value, quoted, and cut after :data:`MAX_DISPLAYED` characters; of a mapping or a list its kind alone; of a
        secret :data:`REDACTED`.
    """
    if value is None or isinstance(value, bool):
        return {None: 'null', True: 'true', False: 'false'}[value]
    if is_secret(option):
        return REDACTED
    if isinstance(value, RawText) and value.written is not None:
        return without_credentials(value.written)
    if isinstance(value, Mapping):
        return 'a mapping'
    if isinstance(value, (list, tuple, set)):
        return 'a list'
    text = repr(without_credentials(value) if isinstance(value, str) else value)
    return text if len(text) <= MAX_DISPLAYED else text[:MAX_DISPLAYED] + '…'


def redacted(value: Any, option: object = '') -> Any:
    """Return a copy of nested settings in which every secret is replaced by :data:`REDACTED`.

    Args:
        value: a mapping, a list or a single value.
        option: the name of the option that holds it.

    Returns:
        The copy, of plain dictionaries and lists.
    """
    if isinstance(value, Mapping):
        return {key: redacted(item, key) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redacted(item, option) for item in value]
    if value is not None and is_secret(option):
        return REDACTED
    if isinstance(value, RawText) and value.written is not None:
        return without_credentials(value.written)
    return without_credentials(value) if isinstance(value, str) else value
