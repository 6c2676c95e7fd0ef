"""Dumps for research: ids of people become keyed hashes, the same id the same hash in every dump with one key file.

What people wrote stays as it is: a name in an essay is not hidden, nor is whose essay it is from those who know it.
"""

from __future__ import annotations

import functools
import hashlib
import os
import secrets
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path

from learning_observer_kvs import json_codec
from learning_observer_kvs.errors import DumpFileError
from learning_observer_kvs.identifiers import (
    ID_FIELDS,
    LISTS_OF_PEOPLE,
    LONG_VALUE,
    REDUCER_KEYS,
    canonical,
    digest_of_long,
    escape,
    is_id_field,
    parsed_text,
    unescape,
)
from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.private_files import PRIVATE, others_that_can_read, write_new
from learning_observer_kvs.queries import rows
from learning_observer_kvs.queries.kept import Kept, every_key
from learning_observer_kvs.stores.base import Store

KEY_BYTES = 32
HASH_BYTES = 16

PEOPLE = ('STUDENT', 'TEACHER')
"""The fields of keys that hold the id of a person."""

NAME_FIELDS = frozenset(
    (
        *('name', 'fullname', 'givenname', 'familyname', 'firstname', 'lastname', 'displayname', 'nickname'),
        *('photourl', 'photo', 'picture', 'avatar'),
    )
)
"""Names of fields that name a person, beside the id, in an entry of a roster."""

_LEFT_OUT = ('google_stored_auth',)
"""How keys begin that let their reader act for a person; a dump for research does not have them."""

_MAPPING = 'email-studentID-mapping:'


def read_key(path: str | os.PathLike[str]) -> bytes:
    """Return the key of a key file; one that is not there is made, readable for this user alone.

    Args:
        path: the file: a line of hex digits.

    Raises:
        DumpFileError: it cannot be read or made, others can read it, or it is not a key.
    """
    file = Path(os.path.abspath(path))
    try:
        if not file.exists():
            write_new(str(file), f'{secrets.token_hex(KEY_BYTES)}\n'.encode(), PRIVATE)
        if (who := others_that_can_read(str(file), PRIVATE)) is not None:
            raise DumpFileError(f'{file} can be read by {who}, who could undo the pseudonyms. Use chmod 600.')
        key = bytes.fromhex(file.read_text().strip())
    except OSError as error:
        raise DumpFileError(f'{file} cannot be used as a key file: {error.strerror}.') from None
    except ValueError:
        key = b''
    if len(key) != KEY_BYTES:
        raise DumpFileError(f'{file} is not a key file: it must hold {2 * KEY_BYTES} hex digits. Name one to be made.')
    return key


class Pseudonyms:
    """The pseudonyms of the people of a store.

    Args:
        key: of the hashes.

    Attributes:
        known: the ids that are recognized as whole strings, wherever they stand; in memory, about 100 bytes each.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.known: set[str] = set()
        self.of = functools.lru_cache(100_000)(self._of)

    def _of(self, text: str) -> str:
        """Return the pseudonym of an id.

        Args:
            text: the id, in any form.
        """
        plain = _canonical(text).encode('utf-8', 'surrogatepass')
        return 'p' + hashlib.blake2b(plain, key=self._key, digest_size=HASH_BYTES).hexdigest()

    def learn(self, key: str, value: JSON) -> None:
        """Note the ids in an entry: of keys' fields, of rosters and mappings.

        Args:
            key: the key.
            value: its value.
        """
        if key.startswith(REDUCER_KEYS):
            for _, name, text in _fields(key):
                if name in PEOPLE:
                    self.known.add(_canonical(text))
            return
        if key.startswith(_MAPPING):
            self.known.add(_canonical(key.removeprefix(_MAPPING)))
            if isinstance(value, str):
                self.known.add(_canonical(value))
        for path, text in _texts(value):
            if text.strip() and (is_id_field(path) or _is_in_list_of_ids(path)):
                self.known.add(_canonical(text))

    def key(self, key: str) -> str:
        """Return a key with pseudonyms for ids.

        Args:
            key: the key.
        """
        if key.startswith(REDUCER_KEYS):
            parts = key.split(',')
            for number, name, text in _fields(key):
                if name in PEOPLE or self._is_known(text):
                    parts[number] = f'{name}:{self.of(text)}'
            return ','.join(parts)
        if self._is_known(key):
            return self.of(key)
        inside = parsed_text(key)
        if inside is not None:
            return json_codec.encode(self.value(inside[0])).decode()
        head, colon, rest = key.partition(':')
        return f'{head}:{self.key(rest)}' if colon else key

    def value(self, value: JSON) -> JSON:
        """Return a value with pseudonyms for ids, and for names in entries that have an id.

        Args:
            value: any JSON value; it stays as it is.
        """
        if isinstance(value, str):
            if self._is_known(value):
                return self.of(value)
            if value.startswith(REDUCER_KEYS):
                return self.key(value)
            inside = parsed_text(value)
            if inside is not None and (changed := self.value(inside[0])) != inside[0]:
                return json_codec.encode(changed).decode()
            return value
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if isinstance(value, dict):
            is_person = any(_plain(name) in ID_FIELDS for name in value)
            return {
                self.of(name) if self._is_known(name) else name: self._field(name, item, is_person)
                for name, item in value.items()
            }
        return value

    def _field(self, name: str, item: JSON, is_person: bool) -> JSON:
        plain = _plain(name)
        if plain in ID_FIELDS and isinstance(item, (str, int)) and not isinstance(item, bool) and item != '':
            return self.of(str(item))
        if is_person and plain in NAME_FIELDS and item is not None:
            return self.of(json_codec.encode(item).decode())
        return self.value(item)

    def _is_known(self, text: str) -> bool:
        return text in self.known or _canonical(text) in self.known


async def entries(
    store: Store,
    pseudonyms: Pseudonyms,
    prefix: str = '',
    *,
    progress: Callable[[int], None] = lambda keys: None,
) -> AsyncGenerator[tuple[str, JSON], None]:
    """Yield the entries of a store with pseudonyms; the store is read twice, at first for the ids.

    Args:
        store: the store.
        pseudonyms: they learn the ids of the whole store.
        prefix: only keys that begin with it.
        progress: called with how many keys were read in the first pass since the last call.

    Raises:
        CorruptValue, StoreUnavailable, Overloaded: as for ``dump``.
    """
    async with aclosing(_all(store, '')) as found:
        async for key, value in found:
            pseudonyms.learn(key, value)
            progress(1)
    async with aclosing(_all(store, prefix)) as found:
        async for key, value in found:
            if not key.startswith(_LEFT_OUT):
                yield pseudonyms.key(key), pseudonyms.value(value)


def _all(store: Store, prefix: str) -> AsyncGenerator[tuple[str, JSON], None]:
    return rows.entries(store, Kept((prefix,), every_key))


def _fields(key: str) -> Iterator[tuple[int, str, str]]:
    """The fields of a reducer's key: position among the parts, name, value."""
    for number, part in enumerate(key.split(',')[2:], 2):
        name, colon, text = part.partition(':')
        if colon:
            yield number, name, unescape(text)


def _texts(value: JSON) -> Iterator[tuple[tuple[str | int, ...], str]]:
    waiting: list[tuple[tuple[str | int, ...], JSON]] = [((), value)]
    while waiting:
        path, item = waiting.pop()
        if isinstance(item, str):
            yield path, item
        elif isinstance(item, int) and not isinstance(item, bool) and path and path[-1] != 'id':
            yield path, str(item)  # a number that is called "id" alone may be that of a course
        elif isinstance(item, dict):
            waiting += [((*path, name), inner) for name, inner in item.items()]
        elif isinstance(item, list):
            waiting += [((*path, number), inner) for number, inner in enumerate(item)]


def _is_in_list_of_ids(path: tuple[str | int, ...]) -> bool:
    return len(path) > 1 and isinstance(path[-1], int) and path[-2] in LISTS_OF_PEOPLE


def _canonical(text: str) -> str:
    """One text for all forms of an id; of a long one what stands for it in keys that would be too long."""
    plain = canonical(text)
    return plain if len(plain) <= LONG_VALUE else digest_of_long(escape(plain))


def _plain(name: str) -> str:
    return name.replace('_', '').replace('-', '').lower()
