"""``lo-kvs dump``."""

from __future__ import annotations

import click

from learning_observer_kvs.cli.common import config_option, counted, echo_json, store_option, with_store
from learning_observer_kvs.stores.base import Store


@click.command('dump')
@click.argument('file', required=False)
@click.option('--prefix', default='', help='Only keys that begin with it.')
@config_option
@store_option
def command(file: str | None, prefix: str, config: tuple[str, ...], name: str) -> None:
    """Write a store to FILE as one JSON object, or print it.

    The file appears whole or not at all. It may be larger than memory.

    \b
    Example:
      lo-kvs dump backup.json
    """

    async def act(store: Store) -> None:
        if file is None:
            echo_json(await store.dump(prefix=prefix))
        else:
            click.echo(f'{counted(await store.dump(file, prefix), "entry", "entries")} written to {file}', err=True)

    with_store(config, name, act)
