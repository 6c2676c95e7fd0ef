"""Everything about one student, as one JSON document and as a page that people can read."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from learning_observer_kvs import audit, json_codec
from learning_observer_kvs import erasure_rules as rules
from learning_observer_kvs.arguments import several
from learning_observer_kvs.erasure_rules import Part
from learning_observer_kvs.errors import CorruptValue, DumpFileError
from learning_observer_kvs.identifiers import Ids, display_path
from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.privacy import event_files
from learning_observer_kvs.privacy.places import Place
from learning_observer_kvs.privacy.search import find
from learning_observer_kvs.private_files import PRIVATE, write_new
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.deadline import deadline_after
from learning_observer_kvs.stores.types import Description
from learning_observer_kvs.stream_analytics.keys import parse_key, state_key


@dataclass
class Export:
    """What there is about one student; all of it is in memory.

    Attributes:
        student: the id.
        aliases: the other ids that were searched for.
        made: when, in ISO 8601.
        states: the states of reducers: store, reducer, which state, fields such as the document, when it was written
            (``None`` where the store does not know), and the value.
        entries: what other keys say about the student: store, key, the place inside the value, and what stands there.
        events: the events of study logs and failed events, by file.
        not_reached: what could not be searched.
        possible_aliases: what mappings and rosters call the student besides; that was not searched for.
    """

    student: str
    aliases: list[str]
    made: str
    states: list[dict[str, JSON]] = field(default_factory=list)
    entries: list[dict[str, JSON]] = field(default_factory=list)
    events: dict[str, list[JSON]] = field(default_factory=dict)
    not_reached: list[str] = field(default_factory=list)
    possible_aliases: list[str] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing."""
        return not (self.states or self.entries or self.events)

    def as_json(self) -> dict[str, JSON]:
        """Return the document."""
        return {
            'student': self.student,
            'aliases': self.aliases,
            'made': self.made,
            'states': self.states,
            'entries': self.entries,
            'events': self.events,
            'not_reached': self.not_reached,
            'possible_aliases': self.possible_aliases,
        }


async def export(
    stores: Mapping[str, Store],
    ids: Ids,
    *,
    folders: Iterable[str | os.PathLike[str]] = (),
    not_reached: Iterable[str] = (),
    most_bytes: int | None = None,
    progress: Callable[[int], None] = lambda keys: None,
) -> Export:
    """Collect everything about one student; of values shared with others the student's item alone.

    Args:
        stores: the stores by name.
        ids: the student's.
        folders: of study logs and failed events.
        not_reached: what was not searched, for the document; what :func:`.find` names comes to it.
        most_bytes: the largest value that is in it; larger ones are named in ``not_reached``.
        progress: called with how many keys and files were looked at since the last call.

    Returns:
        The data. What others wrote into an item or state of the student is in it as it is.

    Raises:
        StoreUnavailable, Overloaded, EventFileError: something cannot be searched.
    """
    made = audit.iso_time(time.time())
    found = Export(ids.given[0], list(ids.given[1:]), made, not_reached=several(not_reached, 'not_reached'))
    aliases: set[str] = set()
    seen: set[str] = set()
    missed: dict[str, None] = {}
    async for place in find(
        stores, ids, folders=folders, aliases=aliases.update, on_missed=missed.setdefault, progress=progress
    ):
        if place.name in seen:
            continue
        seen.add(place.name)
        if place.store is None:
            found.events[place.location] = await asyncio.to_thread(_events, place, ids)
        else:
            await _add(found, stores[place.store], place, ids, most_bytes)
    found.states.sort(key=lambda state: [str(state[name]) for name in ('store', 'reducer', 'fields', 'state')])
    found.events = {path: events for path, events in found.events.items() if events}
    found.possible_aliases = sorted(aliases)
    found.not_reached += missed
    return found


def _events(place: Place, ids: Ids) -> list[JSON]:
    return list(event_files.events_of(Path(place.location), ids))


async def _add(found: Export, store: Store, place: Place, ids: Ids, most_bytes: int | None) -> None:
    name, key = str(place.store), str(place.key)
    [described] = await store.describe_all([key])
    if most_bytes is not None and isinstance(described, Description) and described.bytes > most_bytes:
        found.not_reached.append(f'Store {name}: {key!r}, whose value of {described.bytes:,} bytes is too large.')
        return
    parts: list[Part] = [Part((), None)]
    try:
        [text] = await store.read_until(deadline_after(store.retry_timeout), [key])
        if text is None:
            return
        value = await asyncio.to_thread(store.decode, key, text)
        if place.whole is None:  # it may be another value by now
            parts = await asyncio.to_thread(rules.parts_of_value, ids, name, key, value)
    except CorruptValue as error:
        value = f'It cannot be read: {error}'
    at = described.written if isinstance(described, Description) else None
    written = None if at is None else audit.iso_time(at)
    parsed = parse_key(state_key(key))
    if parsed is not None and place.whole == 'state':
        state = 'replayed events' if key != state_key(key) else parsed.state_type.name.lower()
        what = {'reducer': parsed.source, 'state': state, 'fields': dict(parsed.fields)}
        found.states.append({'store': name, **what, 'written': written, 'value': value})
        return
    for part in parts:
        item: Any = value
        for step in part.path:
            item = item[step]
        inside = display_path(part.path)
        found.entries.append({'store': name, 'key': key, 'path': inside, 'written': written, 'value': item})


def write(files: Mapping[Path, bytes]) -> None:
    """Write files for this user alone (0600), all or none; one that is there is not replaced.

    Args:
        files: the content of each.

    Raises:
        DumpFileError: one is there, or cannot be written.
    """
    with ExitStack() as undo:
        for path, content in files.items():
            try:
                write_new(str(path), content, PRIVATE)
            except OSError as error:
                raise DumpFileError(f'{path} cannot be written: {error.strerror}. Give another path.') from None
            undo.callback(path.unlink)
        undo.pop_all()


def document(found: Export) -> bytes:
    """Return the JSON document.

    Args:
        found: the data.
    """
    return json_codec.indented(json_codec.encode(found.as_json()))
