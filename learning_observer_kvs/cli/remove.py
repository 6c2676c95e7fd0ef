"""``lo-kvs remove``."""

from __future__ import annotations

import sys

import click

from learning_observer_kvs.cli.common import config_option, store_option, with_store
from learning_observer_kvs.stores.base import Store


@click.command('remove')
@click.argument('key')
@config_option
@store_option
def command(key: str, config: tuple[str, ...], name: str) -> None:
    """Remove KEY. The exit status is 1 if there is no such key.

    \b
    Example:
      lo-kvs remove Internal,writing.reconstruct,STUDENT:ls-17
    """

    async def act(store: Store) -> bool:
        return await store.remove(key)

    if not with_store(config, name, act):
        click.echo(f'There is no key {key!r} in store {name!r}.', err=True)
        sys.exit(1)
