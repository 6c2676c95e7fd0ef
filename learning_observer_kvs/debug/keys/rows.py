"""The rows of a list of keys: what is known of each, and the beginning of its value, if the viewer may read it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from typing import Any, NamedTuple

from learning_observer_kvs.debug import views
from learning_observer_kvs.debug.keys import within_values
from learning_observer_kvs.debug.masking import Mask
from learning_observer_kvs.debug.views import describe_key
from learning_observer_kvs.errors import CorruptValue
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.types import Described, Description

PREVIEWED_BYTES = 8 << 10
"""The longest text whose beginning a list shows."""

PREVIEWED_IN_ALL = 1 << 20
"""How many bytes are read for the previews of a page."""

AUTHORIZE_SECONDS = 1.0
"""How long a page asks which values one may read, of the last ones that it reads; the others are not shown."""


class Viewer(NamedTuple):
    """Who looks, and how.

    Attributes:
        may_read: whether they may read the value of a key.
        mask: what is not shown of values.
        computed: calls a function: with the texts that it is given, and then its arguments.
        paced: runs what goes on in a task of its own at the pace of pages.
        has_gone: whether the answer is not waited for any more.
        turns: by the store's name, held while many keys are described or read, so that many viewers take as much of
            the server as one.
    """

    may_read: Callable[[str], Awaitable[bool]]
    mask: Mask
    computed: Callable[..., Awaitable[Any]]
    paced: Callable[[Coroutine[Any, Any, Any]], Generator[Any, Any, Any]]
    has_gone: Callable[[], bool]
    turns: Mapping[str, asyncio.Lock]


class Row(NamedTuple):
    """A key of a list.

    Attributes:
        key: the key.
        known: what the store knows of it.
        raw: its stored text, where a part of it is shown.
        found: the part of its value in which a text was found.
        note: why no part of the value is shown, where that is so.
    """

    key: str
    known: Description | CorruptValue
    raw: bytes | None = None
    found: str | None = None
    note: str | None = None

    @property
    def has_preview(self) -> bool:
        """Whether a part of its value is shown."""
        return self.raw is not None or self.found is not None


async def rows_of(
    store: Store, viewer: Viewer, found: Mapping[str, str | None], known: Mapping[str, Described]
) -> list[Row]:
    """Return the rows of keys, with the texts of those whose beginning is shown.

    Args:
        store: the store.
        viewer: who looks.
        found: the keys, with the part of the value where it was looked into.
        known: what the store knows of some of them.

    Raises:
        StoreUnavailable, Overloaded: the store cannot be used.
    """
    new = [key for key in found if key not in known]
    described = {**known, **dict(zip(new, await store.describe_all(new) if new else (), strict=True))}
    rows = [Row(key, of, found=part) for key, part in found.items() if (of := described[key]) is not None]
    total, ends, to_read = 0, time.monotonic() + AUTHORIZE_SECONDS, []
    for number, row in enumerate(rows):
        if row.found is not None:
            continue
        if isinstance(row.known, CorruptValue):
            rows[number] = row._replace(note='is not text')
            continue
        size = row.known.bytes
        if size > PREVIEWED_BYTES or total + size > PREVIEWED_IN_ALL:
            rows[number] = row._replace(note='too long for a list')
        elif time.monotonic() > ends:
            rows[number] = row._replace(note='authorize takes too long')
        elif not await viewer.may_read(row.key):
            rows[number] = row._replace(note='may not be read')
        else:
            total += size
            to_read.append(number)
    texts = await views.texts_of(store, [rows[number].key for number in to_read])
    for number, raw in zip(to_read, texts, strict=True):
        rows[number] = rows[number]._replace(raw=raw)
    return rows


def rows_view(mask: Mask, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return keys as in JSON. To be called in a thread.

    Args:
        mask: what is not shown of values.
        rows: the keys.

    Returns:
        For each what :func:`~learning_observer_kvs.debug.views.describe_key` returns, with ``bytes``, ``written``,
        ``expires_in``, ``preview``, ``masked``, ``note``.
    """
    view = []
    for row in rows:
        preview, is_masked, note = row.found, False, row.note
        if row.raw is not None:
            text, is_masked = within_values.shown(mask, row.key, row.raw)
            preview = None if text is None else within_values.preview(text)
            note = 'is not JSON' if text is None else note
        view.append(
            {
                **describe_key(row.key),
                **{name: getattr(row.known, name, None) for name in ('bytes', 'written', 'expires_in')},
                'preview': preview,
                'masked': is_masked,
                'note': note,
            }
        )
    return view
