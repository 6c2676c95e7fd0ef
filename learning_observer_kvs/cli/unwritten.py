"""What running servers keep and have not written yet: how long that may be, and waiting for it."""

from __future__ import annotations

import asyncio

import click

from learning_observer_kvs.cli.common import Stores
from learning_observer_kvs.errors import StoreMissing
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.reducers.erased_students import FLUSH_TIME
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.memory import InMemoryKVS


def longest_interval(router: KVSRouter) -> float:
    """Return for how long servers with these settings may keep what is to be written.

    Args:
        router: the stores. Two may have the same data, so it is not asked which.

    Returns:
        The longest ``flush_interval``, in seconds; 0 if no store has one.
    """
    return max((router[name].flush_interval or 0.0 for name in router.names()), default=0.0)


async def existing_when_written(stores: Stores, name: str, interval: float) -> Store:
    """Open a store without creating anything; a server that runs may create it when it writes what it keeps.

    Args:
        stores: the stores of the settings.
        name: the store's name.
        interval: seconds after which servers have written that; 0 does not wait.

    Returns:
        The store.

    Raises:
        KVSNotConfigured, StoreMissing, StoreUnavailable: as for ``stores.existing``.
    """
    try:
        return await stores.existing(name)
    except StoreMissing:
        if not interval or isinstance(stores.router[name], InMemoryKVS):
            raise
    click.echo(f'Waiting {interval:g} s (flush_interval) for store {name!r}, not there yet.', err=True)
    await asyncio.sleep(interval + FLUSH_TIME)
    return await stores.existing(name)


def say_waiting(seconds: float) -> None:
    """Print to standard error that a command waits for what servers keep.

    Args:
        seconds: for how long.
    """
    click.echo(f'Waiting {seconds:g} s (flush_interval) for what servers still keep.', err=True)
