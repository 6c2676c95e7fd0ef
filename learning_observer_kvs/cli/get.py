"""``lo-kvs get``."""

from __future__ import annotations

import sys

import click

from learning_observer_kvs.cli.common import config_option, echo_json, store_option, with_store
from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.stores.base import Store


@click.command('get')
@click.argument('key')
@config_option
@store_option
def command(key: str, config: tuple[str, ...], name: str) -> None:
    """Print the value of KEY as JSON. The exit status is 1 if there is no such key.

    \b
    Example:
      lo-kvs get External,writing.reconstruct,EventField.doc_id:1AbC,STUDENT:ls-17
    """

    async def act(store: Store) -> tuple[bool, JSON]:
        return await store.describe(key) is not None, await store[key]

    exists, value = with_store(config, name, act)
    if not exists:
        click.echo(f'There is no key {key!r} in store {name!r}.', err=True)
        sys.exit(1)
    echo_json(value)
