"""Settings as messages show them: never a secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Self

HIDDEN = '(hidden)'


class Text(str):
    """A value that came from where there is text only, so that numbers and booleans are made of it where they belong.

    Attributes:
        written: what stands in the settings, such as ``${NAME}``; shown instead of the value, which may be a secret.
            ``None`` if the value itself does.
    """

    written: str | None = None

    @classmethod
    def of(cls, text: str, written: str | None = None) -> Self:
        """The text, with what stands for it in the settings."""
        made = cls(text)
        made.written = written
        return made


class Unset(Text):
    """Text that could not be had, because a variable is not set. That is told by itself; nothing else is wrong."""


_SECRET = re.compile(r'password|passwd|passphrase|secret|token|credential|(api|private)_?key', re.IGNORECASE)
_CREDENTIALS = re.compile(r'://\S*@')
_QUERY = re.compile(r'(://[^?\s]*)\?\S+')

LONGEST = 100
"""Characters of a value that are shown."""


def is_secret(name: object) -> bool:
    """Whether the value of a setting of this name is never shown."""
    return isinstance(name, str) and _SECRET.search(name) is not None


def without_credentials(address: str) -> str:
    """An address without what stands before its host or after its question mark."""
    return _QUERY.sub(rf'\1?{HIDDEN}', _CREDENTIALS.sub(f'://{HIDDEN}@', address))


def shown(name: object, value: object) -> str:
    """A setting's value: quoted, cut where it is long; of what holds other values, and of secrets, the kind alone."""
    if value is None or isinstance(value, bool):
        return {None: 'null', True: 'true', False: 'false'}[value]
    if is_secret(name):
        return HIDDEN
    if isinstance(value, Text) and value.written is not None:
        return value.written
    if isinstance(value, Mapping):
        return 'a mapping'
    if isinstance(value, (list, tuple, set)):
        return 'a list'
    text = repr(without_credentials(value) if isinstance(value, str) else value)
    return text if len(text) <= LONGEST else text[:LONGEST] + '…'


def masked(value: Any, name: object = '') -> Any:
    """A copy of nested settings in which every secret is hidden."""
    if isinstance(value, Mapping):
        return {key: masked(item, key) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [masked(item, name) for item in value]
    if value is not None and is_secret(name):
        return HIDDEN
    if isinstance(value, Text) and value.written is not None:
        return value.written
    return without_credentials(value) if isinstance(value, str) else value
