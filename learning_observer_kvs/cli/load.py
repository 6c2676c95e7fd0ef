"""``lo-kvs load``."""

from __future__ import annotations

import click

from learning_observer_kvs.cli.common import config_option, counted, persistent, store_option, with_store
from learning_observer_kvs.stores.base import Store


@click.command('load')
@click.argument('file')
@config_option
@store_option
def command(file: str, config: tuple[str, ...], name: str) -> None:
    """Store every entry of FILE, which dump wrote. An invalid file is rejected before anything is stored.

    \b
    Example:
      lo-kvs load backup.json --store archive
    """

    async def act(store: Store) -> int:
        return await persistent(store).load(file)

    click.echo(f'{counted(with_store(config, name, act), "entry", "entries")} loaded from {file}', err=True)
