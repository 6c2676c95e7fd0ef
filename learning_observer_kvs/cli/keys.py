"""``lo-kvs keys``."""

from __future__ import annotations

import click

from learning_observer_kvs.cli.common import config_option, echo_json, json_option, printable, store_option, with_store
from learning_observer_kvs.stores.base import Store


@click.command('keys')
@click.argument('prefix', default='')
@click.option('--limit', type=click.IntRange(1), help='Print at most this many.')
@config_option
@store_option
@json_option
def command(prefix: str, limit: int | None, config: tuple[str, ...], name: str, as_json: bool) -> None:
    """Print the keys that begin with PREFIX, one a line.

    With --json each line is a JSON string; without it control characters are escaped.

    \b
    Example:
      lo-kvs keys Internal,writing.reconstruct, --limit 20
    """

    async def act(store: Store) -> None:
        left, cursor = limit, None
        while True:
            page = await store.scan(prefix, cursor, 1000)
            for key in page.keys[:left]:
                if as_json:
                    echo_json(key, indent=None)
                else:
                    click.echo(printable(key))
            if left is not None:
                left -= len(page.keys)
            cursor = page.cursor
            if cursor is None or (left is not None and left <= 0):
                return

    with_store(config, name, act)
