"""What the commands share that remove all that is kept for a student, or by a reducer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import click

from learning_observer_kvs.cli.common import Stores, counted, echo_json, place, progress, where, with_stores
from learning_observer_kvs.errors import StoreMissing
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.queries.kept import Kept
from learning_observer_kvs.queries.remove import MAX_SEARCHES, remove
from learning_observer_kvs.reducers.erased_students import FLUSH_TIME
from learning_observer_kvs.stores.base import Store


class Ended(NamedTuple):
    """What was found or removed.

    Attributes:
        store: the store.
        keys: how many keys.
        is_complete: whether none was left; ``True`` if only the search was asked for.
    """

    store: Store
    keys: int
    is_complete: bool


def run(
    config: tuple[str, ...],
    name: str,
    kept: Kept,
    *,
    removes: bool,
    show: Callable[[Collection[str]], None] = lambda keys: None,
) -> Ended:
    """Remove keys until none is found any more, or find them.

    Args:
        config: the paths of the settings.
        name: the name of the store.
        kept: which keys.
        removes: whether they are removed; ``False``: they are found.
        show: called with the keys of each page that are found and not removed.

    Returns:
        What was found or removed; where keys are found on Redis, one may count twice.
    """

    async def act(stores: Stores) -> Ended:
        interval = longest_interval(stores.router) if removes else 0.0
        store = await _existing(stores, name, interval)
        with progress('Searching', total=None, unit='keys') as advance:
            if removes:
                return Ended(store, *await remove(store, kept, interval, advance, _wait))
            found = 0
            async for keys in kept.pages(store, advance):
                found += len(keys)
                show(keys)
            return Ended(store, found, True)

    def interrupted() -> str:
        return 'Some keys may be removed. Run this again to remove the others.' if removes else 'Nothing was removed.'

    return with_stores(config, act, interrupted=interrupted)


def report(
    ended: Ended, what: Mapping[str, str], details: Mapping[str, object] | None, *, still: str, hint: str = ''
) -> int:
    """Print what was found or removed.

    Args:
        ended: what was.
        what: the student or the reducer, by what it is.
        details: what the JSON has beside that; ``None``: it is printed for people.
        still: which events still arrive, and what to do, where keys came back each time.
        hint: what to print behind what was found and not removed; empty where it was removed.

    Returns:
        The exit status: 1 if there is no key, or if keys came back each time.
    """
    [of] = what.values()
    if details is not None:
        echo_json({**place(ended.store), **what, **details})
    else:
        done = f', none removed{hint}' if hint else ' removed.'
        click.echo(f'{counted(ended.keys, "key")} of {of!r} in {where(ended.store)}{done}', err=True)
    if not ended.is_complete:
        click.echo(f'Keys of {of!r} came back each of {MAX_SEARCHES} times, and there may be more: {still}', err=True)
    return 0 if ended.keys and ended.is_complete else 1


def longest_interval(router: KVSRouter) -> float:
    """Return for how long servers with these settings may keep what is to be written.

    Args:
        router: the stores. Two may have the same data, so it is not asked which.

    Returns:
        The longest ``flush_interval``, in seconds; 0 if no store has one.
    """
    return max((router[name].flush_interval or 0.0 for name in router.names()), default=0.0)


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


async def _wait(seconds: float) -> None:
    click.echo(f'Waiting {seconds:g} s (flush_interval) for what servers still keep.', err=True)
    await asyncio.sleep(seconds)
