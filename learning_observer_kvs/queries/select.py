"""The runtime's query for values: what is chosen of the states of many keys, read in one call."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from typing import Any

from learning_observer_kvs.errors import InvalidKey
from learning_observer_kvs.kvs import KVS
from learning_observer_kvs.queries.paths import Fields, chosen
from learning_observer_kvs.stores.base import Store

KeyElements = AsyncIterable[Mapping[str, Any]] | Iterable[Mapping[str, Any]] | Mapping[str, Any]
"""What ``queries.keys`` gives; or one element of it."""


async def select(
    keys: KeyElements, fields: Fields = None, *, store: Store | None = None
) -> AsyncIterator[dict[str, Any]]:
    """Read the states of keys, and go through what is chosen of each, as the runtime's queries do.

    Args:
        keys: elements of :func:`~learning_observer_kvs.queries.keys`.
        fields: ``{dotted path: name}``; ``SelectFields.All`` (or ``'All'``) for every top-level entry of a state but
            ``provenance``; ``None`` or ``SelectFields.Missing`` for none.
        store: where the states are; by default the default store of ``KVS``.

    Yields:
        ``{'provenance': {'key': …, 'provenance': …}, <name>: value, …}`` for each key, in order. A state that is
        missing, or ``null``, is the key's ``default``. Where a path leads to nothing, in its place a ``dict`` that
        describes the error.

    Raises:
        InvalidKey: an element without ``key`` and ``provenance``.
        InvalidValue: all entries are asked of a state that has none: a number, text or list.
        ValueError: the fields are something else.
        KVSNotConfigured: there is no default store.
        CorruptValue, StoreUnavailable, Overloaded: as for ``multiget``.
    """
    elements = [element async for element in _each(keys)]
    for element in elements:
        if not isinstance(element, Mapping) or not {'key', 'provenance'} <= element.keys():
            raise InvalidKey(f"{element!r} is not an element of queries.keys: it needs 'key' and 'provenance'.")
    values = await (KVS() if store is None else store).multiget([element['key'] for element in elements])
    for element, value in zip(elements, values, strict=True):
        state = copy.deepcopy(element.get('default')) if value is None else value
        origin = {'key': element['key'], 'provenance': element['provenance']}
        yield {'provenance': origin} | chosen(state, fields)


async def _each(keys: KeyElements) -> AsyncIterator[Mapping[str, Any]]:
    if isinstance(keys, AsyncIterable):
        async for element in keys:
            yield element
    else:
        for element in [keys] if isinstance(keys, Mapping) else keys:
            yield element
