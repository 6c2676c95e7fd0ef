"""``lo-kvs dump``."""

from __future__ import annotations

import os
import sys

import click

from learning_observer_kvs.checks.places import named
from learning_observer_kvs.cli.command import Command, config_option, json_option, store_option
from learning_observer_kvs.cli.common import (
    Stores,
    binary_output,
    counted,
    echo_json,
    place,
    progress,
    where,
    with_stores,
)
from learning_observer_kvs.stores.base import Store


@click.command('dump', cls=Command)
@click.argument('file', default='-')
@click.option('--prefix', default='', help='Only keys that begin with it.')
@click.option('--allow-empty', is_flag=True, help='Replace FILE even if there is no entry to write.')
@config_option
@store_option
@json_option
def command(file: str, prefix: str, allow_empty: bool, config: tuple[str, ...], name: str, as_json: bool) -> None:
    """Write a store to FILE as one JSON object, or print it: -, or without FILE.

    The file appears whole or not at all. It may be larger than memory. One that is there is not replaced by a dump
    without entries. The exit status is 1 if there are files that look like keys and are not in the dump.

    \b
    Examples:
      lo-kvs dump backup.json
      lo-kvs dump - | gzip > backup.json.gz
    """
    is_printed = file == '-'

    async def act(stores: Stores) -> tuple[Store, int, list[str]]:
        store = await stores.existing(name)
        with progress('Writing', total=None, unit='entries') as advance:
            target = binary_output() if is_printed else file
            count = await store.dump(target, prefix, allow_empty=allow_empty, progress=advance)
            return store, count, await store.unrecognized()

    store, count, unrecognized = with_stores(
        config,
        act,
        interrupted=lambda: 'What was printed is not whole.' if is_printed else f'{file} is as it was. Run this again.',
    )
    path = None if is_printed else os.path.abspath(file)
    if as_json:
        report = place(store) | {'file': path, 'entries': count, 'unrecognized': unrecognized}
        echo_json(report, err=is_printed)
    else:
        entries = counted(count, 'entry', 'entries')
        click.echo(f'{entries} of {where(store)} written{"" if path is None else f" to {path}"}.', err=True)
        if unrecognized:
            click.echo(f'Not in the dump: {named(unrecognized)}.', err=True)
    if unrecognized:
        sys.exit(1)
