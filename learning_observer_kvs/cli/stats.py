"""``lo-kvs stats``."""

from __future__ import annotations

import sys
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

import click

from learning_observer_kvs import failed_events
from learning_observer_kvs.cli.command import Command, config_option, json_option, store_option
from learning_observer_kvs.cli.common import Stores, counted, echo_json, place, printable, progress, where, with_stores
from learning_observer_kvs.errors import CorruptValue, EventFileError
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.reads import each_once
from learning_observer_kvs.stream_analytics.keys import parse_key

STATES = ('internal', 'external')

NAMES = ('internal_keys', 'internal_bytes', 'external_keys', 'external_bytes')
"""What is counted of each reducer."""

MAX_MESSAGES = 20

Counts = dict[str, dict[str, int]]


@dataclass
class Unreadable:
    """What could not be counted.

    Attributes:
        count: how much: keys, and lines and files of failed events.
        messages: the first of them, a line each.
    """

    count: int = 0
    messages: list[str] = field(default_factory=list)

    def add(self, error: Exception) -> None:
        """Take one.

        Args:
            error: why it cannot be read; its text names it.
        """
        self.count += 1
        if len(self.messages) < MAX_MESSAGES:
            self.messages.append(str(error))


@click.command('stats', cls=Command)
@config_option
@store_option
@json_option
def command(config: tuple[str, ...], name: str, as_json: bool) -> None:
    """Count the keys and bytes of one store, by reducer, and the events that are kept as failed.

    Every key is looked at, and no value is read. Bytes are those of the JSON text. What a server has done since it
    started (events, times, conflicts, and what it has not written yet) is known in its process alone: there
    router.metrics() returns it, and Prometheus can read it. The exit status is 1 if something could not be counted,
    such as a Redis key of another type or a line that is not a failed event; it is named.

    \b
    Example:
      lo-kvs stats --json
    """
    reducers: Counts = {}
    other = {'keys': 0, 'bytes': 0}
    unreadable = Unreadable()
    looked_at = 0

    async def act(stores: Stores) -> Store:
        nonlocal looked_at
        store = await stores.existing(name)
        with progress('Counting', total=None, unit='keys') as advance:
            async with aclosing(each_once(store, store.pages())) as pages:
                async for page in pages:
                    for key, description in zip(page, await store.describe_all(page), strict=True):
                        if isinstance(description, CorruptValue):
                            unreadable.add(description)
                        elif description is not None:  # gone since the page was read
                            _count(reducers, other, key, description.bytes)
                    looked_at += len(page)
                    advance(len(page))
        return store

    store = with_stores(config, act, interrupted=lambda: f'{counted(looked_at, "key")} counted; there may be more.')
    failed = _failed(Path(store.failed_events), unreadable)
    reducers = dict(sorted(reducers.items()))
    if as_json:
        left = {'unreadable': unreadable.count, 'messages': unreadable.messages}
        echo_json(place(store) | {'reducers': reducers, 'other': other, 'failed_events': failed} | left)
    else:
        _print(store, reducers, other, failed, unreadable)
        click.echo(f'{counted(looked_at, "key")} in {where(store)}.', err=True)
    if unreadable.count:
        sys.exit(1)


def _print(store: Store, reducers: Counts, other: dict[str, int], failed: int, unreadable: Unreadable) -> None:
    for reducer, counts in reducers.items():
        parts = [
            f'{counted(counts[f"{state}_keys"], f"{state} state")}, {counts[f"{state}_bytes"]:,} bytes'
            for state in STATES
        ]
        click.echo(f'{printable(reducer)}: {"; ".join(parts)}')
    click.echo(f'Other keys: {counted(other["keys"], "key")}, {other["bytes"]:,} bytes')
    click.echo(f'Failed events in {store.failed_events}: {failed:,}')
    for message in unreadable.messages:
        click.echo(printable(f'Not counted: {message}'), err=True)
    if others := unreadable.count - len(unreadable.messages):
        click.echo(f'… and {others:,} more.', err=True)


def _count(reducers: Counts, other: dict[str, int], key: str, size: int) -> None:
    parsed = parse_key(key)
    if parsed is None:
        other['keys'] += 1
        other['bytes'] += size
        return
    counts = reducers.setdefault(parsed.source, dict.fromkeys(NAMES, 0))
    state = parsed.state_type.name.lower()
    counts[f'{state}_keys'] += 1
    counts[f'{state}_bytes'] += size


def _failed(folder: Path, unreadable: Unreadable) -> int:
    """How many events the folder of a store's failed events has, also those of other stores that share it."""
    events = 0
    try:
        for path in failed_events.find(folder):
            events += _events_in(path, unreadable)
    except EventFileError as error:
        unreadable.add(error)
    return events


def _events_in(path: Path, unreadable: Unreadable) -> int:
    events = 0
    try:
        for found in failed_events.read(path):
            if isinstance(found, EventFileError):
                unreadable.add(found)
            else:
                events += 1
    except EventFileError as error:
        unreadable.add(error)
    return events
