"""Everything about one student, as one JSON document and as a page that people can read."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from learning_observer_kvs import audit, json_codec
from learning_observer_kvs import erasure_rules as rules
from learning_observer_kvs.arguments import several
from learning_observer_kvs.erasure_rules import Part, Rule
from learning_observer_kvs.errors import CorruptValue, DumpFileError
from learning_observer_kvs.identifiers import Ids, display_path
from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.privacy import event_files
from learning_observer_kvs.privacy.places import Place
from learning_observer_kvs.privacy.search import Compute, find, in_thread
from learning_observer_kvs.private_files import PRIVATE, write_new
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.deadline import deadline_after
from learning_observer_kvs.stores.keys import display_key
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


class Piece(NamedTuple):
    """A key that has something about the student.

    Attributes:
        store: the name of the store.
        key: the key.
        text: what is stored.
        error: why that cannot be read; ``''`` where it can.
        written: when it was written, in ISO 8601; ``None`` where the store does not know.
        rule: by which rule the whole of it is about the student; ``None`` if only parts are.
    """

    store: str
    key: str
    text: bytes
    error: str
    written: str | None
    rule: Rule | None


@dataclass
class Collected:
    """What an export is made of, not decoded.

    Attributes:
        ids: the student's.
        made: when, in ISO 8601.
        pieces: the keys of stores.
        files: the paths of files.
        not_reached: what could not be searched.
        possible_aliases: what the student is called besides.
    """

    ids: Ids
    made: str
    pieces: list[Piece] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    not_reached: list[str] = field(default_factory=list)
    possible_aliases: list[str] = field(default_factory=list)


async def export(
    stores: Mapping[str, Store],
    ids: Ids,
    *,
    folders: Iterable[str | os.PathLike[str]] = (),
    not_reached: Iterable[str] = (),
    progress: Callable[[int], None] = lambda keys: None,
) -> Export:
    """Collect everything about one student; of values shared with others the student's item alone.

    Args:
        stores: the stores by name.
        ids: the student's.
        folders: of study logs and failed events.
        not_reached: what was not searched, for the document; what :func:`.find` names comes to it.
        progress: called with how many keys and files were looked at since the last call.

    Returns:
        The data. What others wrote into an item or state of the student is in it as it is.

    Raises:
        StoreUnavailable, Overloaded, EventFileError: something cannot be searched.
    """
    found = await collect(stores, ids, folders=folders, not_reached=not_reached, progress=progress)
    return await asyncio.to_thread(exported, found)


async def collect(
    stores: Mapping[str, Store],
    ids: Ids,
    *,
    folders: Iterable[str | os.PathLike[str]] = (),
    not_reached: Iterable[str] = (),
    most_bytes: int | None = None,
    compute: Compute = in_thread,
    progress: Callable[[int], None] = lambda keys: None,
) -> Collected:
    """Find everything about one student, for :func:`exported`.

    Args:
        stores: the stores by name.
        ids: the student's.
        folders: of study logs and failed events.
        not_reached: what was not searched; what :func:`.find` names comes to it.
        most_bytes: the largest value that is read; larger ones are named in ``not_reached``.
        compute: calls what looks into large values, and into files.
        progress: called with how many keys and files were looked at since the last call.

    Returns:
        The texts.

    Raises:
        StoreUnavailable, Overloaded, EventFileError: something cannot be searched.
    """
    made = audit.iso_time(time.time())
    found = Collected(ids, made, not_reached=several(not_reached, 'not_reached'))
    aliases: set[str] = set()
    seen: set[str] = set()
    missed: dict[str, None] = {}
    async for place in find(
        stores,
        ids,
        folders=folders,
        aliases=aliases.update,
        on_missed=missed.setdefault,
        progress=progress,
        most_bytes=most_bytes,
        compute=compute,
    ):
        if place.name in seen:
            continue
        seen.add(place.name)
        if place.store is None:
            found.files.append(place.location)
        else:
            await _add(found, stores[place.store], place, most_bytes)
    found.possible_aliases = sorted(aliases)
    found.not_reached += missed
    return found


async def _add(found: Collected, store: Store, place: Place, most_bytes: int | None) -> None:
    name, key = str(place.store), str(place.key)
    [described] = await store.describe_all([key])
    if most_bytes is not None and isinstance(described, Description) and described.bytes > most_bytes:
        found.not_reached.append(
            f'Store {name}: {display_key(key)}, whose value of {described.bytes:,} bytes is too large.'
        )
        return
    text, error = None, ''
    try:
        [text] = await store.read_until(deadline_after(store.retry_timeout), [key])
        if text is None:
            return
    except CorruptValue as why:
        error = str(why)
    at = described.written if isinstance(described, Description) else None
    written = None if at is None else audit.iso_time(at)
    found.pieces.append(Piece(name, key, text or b'', error, written, place.whole))


def exported(found: Collected) -> Export:
    """Return an export: the texts decoded, and of values shared with others the student's items.

    Args:
        found: what was collected.

    Raises:
        EventFileError: a file cannot be read.
    """
    ids = found.ids
    export = Export(
        ids.given[0],
        list(ids.given[1:]),
        found.made,
        not_reached=found.not_reached,
        possible_aliases=found.possible_aliases,
    )
    for piece in found.pieces:
        _decode(export, piece, ids)
    export.states.sort(key=lambda state: [str(state[name]) for name in ('store', 'reducer', 'fields', 'state')])
    events = {path: list(event_files.events_of(Path(path), ids)) for path in found.files}
    export.events = {path: some for path, some in events.items() if some}
    return export


def _decode(found: Export, piece: Piece, ids: Ids) -> None:
    name, key = piece.store, piece.key
    parts: list[Part] = [Part((), None)]
    value: JSON = f'It cannot be read: {piece.error}'
    if not piece.error:
        try:
            value = json_codec.decode(piece.text)
            if piece.rule is None:  # it may be another value by now
                parts = rules.parts_of_value(ids, name, key, value)
        except CorruptValue as error:
            value = f'It cannot be read: what is stored {error}.'
    parsed = parse_key(state_key(key))
    if parsed is not None and piece.rule == 'state':
        state = 'replayed events' if key != state_key(key) else parsed.state_type.name.lower()
        what = {'reducer': parsed.source, 'state': state, 'fields': dict(parsed.fields)}
        found.states.append({'store': name, **what, 'written': piece.written, 'value': value})
        return
    for part in parts:
        item: Any = value
        for step in part.path:
            item = item[step]
        inside = display_path(part.path)
        found.entries.append({'store': name, 'key': key, 'path': inside, 'written': piece.written, 'value': item})


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
