"""``lo-kvs get``."""

from __future__ import annotations

import sys

import click

from learning_observer_kvs.cli.command import Command, config_option, json_option, store_option
from learning_observer_kvs.cli.common import Stores, echo_json, place, where, with_stores
from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.stores.base import Store


@click.command('get', cls=Command)
@click.argument('key')
@config_option
@store_option
@json_option
def command(key: str, config: tuple[str, ...], name: str, as_json: bool) -> None:
    """Print the value of KEY as JSON. The exit status is 1 if there is no such key.

    With --json it is the field "value" of an object, beside the key and where it is stored.

    \b
    Example:
      lo-kvs get External,writing.reconstruct,EventField.doc_id:1AbC,STUDENT:ls-17
    """

    async def act(stores: Stores) -> tuple[Store, bool, JSON]:
        store = await stores.existing(name)
        return store, await store.describe(key) is not None, await store[key]

    store, exists, value = with_stores(config, act, interrupted=lambda: 'Nothing was changed.')
    if as_json:
        echo_json(place(store) | {'key': key, 'exists': exists, 'value': value})
    elif exists:
        echo_json(value)
        click.echo(f'Read from {where(store)}.', err=True)
    else:
        click.echo(f'There is no key {key!r} in {where(store)}.', err=True)
    if not exists:
        sys.exit(1)
