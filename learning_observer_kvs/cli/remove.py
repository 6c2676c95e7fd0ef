"""``lo-kvs remove``."""

from __future__ import annotations

import sys

import click

from learning_observer_kvs.cli.command import Command, config_option, json_option, store_option
from learning_observer_kvs.cli.common import Stores, echo_json, place, where, with_stores
from learning_observer_kvs.stores.base import Store


@click.command('remove', cls=Command)
@click.argument('key')
@config_option
@store_option
@json_option
def command(key: str, config: tuple[str, ...], name: str, as_json: bool) -> None:
    """Remove KEY. The exit status is 1 if there is no such key.

    \b
    Example:
      lo-kvs remove Internal,writing.reconstruct,STUDENT:ls-17
    """

    async def act(stores: Stores) -> tuple[Store, bool]:
        store = await stores.existing(name)
        return store, await store.remove(key)

    store, was_there = with_stores(
        config, act, interrupted=lambda: f'The key may or may not have been removed: lo-kvs get {key!r} shows it.'
    )
    if as_json:
        echo_json(place(store) | {'key': key, 'removed': was_there})
    elif was_there:
        click.echo(f'Removed {key!r} from {where(store)}.', err=True)
    else:
        click.echo(f'There is no key {key!r} in {where(store)}.', err=True)
    if not was_there:
        sys.exit(1)
