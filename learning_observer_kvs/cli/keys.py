"""``lo-kvs keys``."""

from __future__ import annotations

import fnmatch
from contextlib import aclosing

import click

from learning_observer_kvs.cli.command import Command, config_option, json_option, store_option
from learning_observer_kvs.cli.common import Stores, counted, echo_json, printable, progress, where, with_stores
from learning_observer_kvs.stores.base import Store


@click.command('keys', cls=Command)
@click.argument('prefix', default='')
@click.option('--match', metavar='GLOB', help='Print those alone that match, such as "*,STUDENT:ls-17".')
@click.option('--limit', type=click.IntRange(1), help='Print at most this many.')
@config_option
@store_option
@json_option
def command(
    prefix: str, match: str | None, limit: int | None, config: tuple[str, ...], name: str, as_json: bool
) -> None:
    """Print the keys that begin with PREFIX, one a line.

    With --match the whole key must match: * is any text, ? any character, [ab] one of these. The store is read by
    PREFIX alone, so one makes it faster. With --json each line is a JSON string; without it control characters are
    escaped.

    \b
    Examples:
      lo-kvs keys Internal,writing.reconstruct, --limit 20
      lo-kvs keys --match '*,STUDENT:ls-17'
    """
    printed = 0

    async def act(stores: Stores) -> Store:
        nonlocal printed
        store = await stores.existing(name)
        with progress('Searching', total=None, unit='keys') as advance:
            async with aclosing(store.pages(prefix)) as pages:
                async for page in pages:
                    advance(len(page))
                    keys = [key for key in page if match is None or fnmatch.fnmatchcase(key, match)]
                    for key in keys if limit is None else keys[: limit - printed]:
                        if as_json:
                            echo_json(key, indent=None)
                        else:
                            click.echo(printable(key))
                        printed += 1
                    if printed == limit:
                        break
        return store

    store = with_stores(config, act, interrupted=lambda: f'{counted(printed, "key")} printed, and there may be more.')
    click.echo(f'{counted(printed, "key")} in {where(store)}.', err=True)
