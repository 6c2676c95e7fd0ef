"""``lo-kvs erase-student``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Collection

import click

from learning_observer_kvs.cli.command import Command, config_option, json_option, store_option
from learning_observer_kvs.cli.common import Stores, counted, echo_json, place, printable, progress, where, with_stores
from learning_observer_kvs.errors import StoreMissing
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stream_analytics.fields import KeyField
from learning_observer_kvs.stream_analytics.keys import parse_key, state_key

KEYS_AT_ONCE = 1000
"""How many keys are looked at, and removed, at a time."""

MAX_SEARCHES = 5
"""How often the store is searched until nothing is found."""

FLUSH_TIME = 1.0
"""Seconds that a server may take for a flush, once ``flush_interval`` is over."""


@click.command('erase-student', cls=Command)
@click.argument('student')
@click.option('--dry-run', is_flag=True, help='Print the keys without removing them.')
@config_option
@store_option
@json_option
def command(student: str, dry_run: bool, config: tuple[str, ...], name: str, as_json: bool) -> None:
    """Remove every reducer key of STUDENT from one store.

    STUDENT is the name that is in the keys: ls-17 in STUDENT:ls-17. Events that arrive meanwhile make new keys: end
    the student's sessions first. The store is searched again until nothing is found; with flush_interval after the
    longest interval of the settings, as servers that run write until then what they keep. Study logs, files of failed
    events and dumps are not touched. The exit status is 1 if the student has no key, or if keys come back each time.

    \b
    Example:
      lo-kvs erase-student ls-17 --dry-run
    """
    shown: list[str] = []

    async def act(stores: Stores) -> tuple[Store, int, bool]:
        interval = 0.0 if dry_run else longest_interval(stores.router)
        store = await _existing(stores, name, interval)
        with progress('Searching', total=None, unit='keys') as advance:
            if not dry_run:
                return store, *await erase(store, student, interval, advance)

            async def show(keys: Collection[str]) -> None:
                shown.extend(keys)
                if not as_json:
                    click.echo(''.join(f'{printable(key)}\n' for key in keys), nl=False)

            await search(store, student, show, advance)
            return store, len(shown), True

    def interrupted() -> str:
        return 'Nothing was removed.' if dry_run else 'Some keys may be removed. Run this again to remove the others.'

    store, found, is_gone = with_stores(config, act, interrupted=interrupted)
    done = ', none removed' if dry_run else ' removed'
    if as_json:
        keys = {'keys': shown} if dry_run else {'removed': found, 'complete': is_gone}
        echo_json(place(store) | {'student': student} | keys)
    else:
        click.echo(f'{counted(found, "key")} of {student!r} in {where(store)}{done}.', err=True)
    if not is_gone:
        click.echo(
            f'Keys of {student!r} came back each of {MAX_SEARCHES} times, and there may be more: events of this '
            'student still arrive. End the sessions and run this again.',
            err=True,
        )
    if not found or not is_gone:
        sys.exit(1)


async def _existing(stores: Stores, name: str, interval: float) -> Store:
    """The store, which a server that runs may make when it writes what it keeps."""
    try:
        return await stores.existing(name)
    except StoreMissing:
        if not interval:
            raise
    click.echo(f'Waiting {interval:g} s (flush_interval) for a store that is not there yet.', err=True)
    await asyncio.sleep(interval + FLUSH_TIME)
    return await stores.existing(name)


def longest_interval(router: KVSRouter) -> float:
    """Return for how long servers with these settings may keep what is to be written.

    Args:
        router: the stores. Two may have the same data, so it is not asked which.

    Returns:
        The longest ``flush_interval``, in seconds; 0 if no store has one.
    """
    return max((router[name].flush_interval or 0.0 for name in router.names()), default=0.0)


async def erase(
    store: Store,
    student: str,
    interval: float,
    advance: Callable[[int], None] = lambda keys: None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> tuple[int, bool]:
    """Remove every key of a student, until none is found any more.

    Args:
        store: the store.
        student: the name that is in the keys.
        interval: seconds after which other processes have written what they keep; 0 if they keep nothing.
        advance: called with how many keys have been looked at since the last call.
        sleep: waits for so many seconds.

    Returns:
        How many keys were removed, and whether none was left at last.
    """
    removed = 0

    async def remove(keys: Collection[str]) -> None:
        nonlocal removed
        removed += sum(await asyncio.gather(*map(store.remove, keys)))

    for number in range(MAX_SEARCHES):
        if number and interval:
            click.echo(f'Waiting {interval:g} s (flush_interval) for what servers still keep.', err=True)
            await sleep(interval + FLUSH_TIME)
        found = await search(store, student, remove, advance)
        if not found and (number or not interval):
            return removed, True
    return removed, False


async def search(
    store: Store, student: str, act: Callable[[Collection[str]], Awaitable[None]], advance: Callable[[int], None]
) -> int:
    """Find every key of a student once.

    Args:
        store: the store.
        student: the name that is in the keys.
        act: awaited with the keys of each page.
        advance: called with how many keys have been looked at since the last call.

    Returns:
        How many were found; on some backends one may count twice.
    """
    found = 0
    cursor: str | None = None
    while True:
        page = await store.scan('', cursor, KEYS_AT_ONCE)
        keys = [key for key in dict.fromkeys(page.keys) if _student_of(key) == student]
        await act(keys)
        found += len(keys)
        advance(len(page.keys))
        cursor = page.cursor
        if cursor is None:
            return found


def _student_of(key: str) -> str | None:
    parsed = parse_key(state_key(key))
    return parsed.fields.get(KeyField.STUDENT.name) if parsed else None
