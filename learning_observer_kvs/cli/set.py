"""``lo-kvs set``."""

from __future__ import annotations

import click

from learning_observer_kvs import json_codec
from learning_observer_kvs.cli.command import Command, config_option, json_option, store_option
from learning_observer_kvs.cli.common import Stores, binary_input, echo_json, place, where, with_stores
from learning_observer_kvs.errors import CorruptValue
from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.stores.base import Store


@click.command('set', cls=Command)
@click.argument('key')
@click.argument('value', metavar='JSON')
@config_option
@store_option
@json_option
def command(key: str, value: str, config: tuple[str, ...], name: str, as_json: bool) -> None:
    """Store the value JSON under KEY; - reads it from the standard input.

    \b
    Example:
      lo-kvs set greeting '"hello"'
      lo-kvs get a | lo-kvs set b -
    """
    text = binary_input().read() if value == '-' else value.encode('utf-8', 'surrogateescape')
    parsed = _parsed(text)

    async def act(stores: Stores) -> Store:
        store = stores.to_write(name)
        await store.set(key, parsed)
        return store

    store = with_stores(
        config, act, interrupted=lambda: f'The value may or may not have been stored: lo-kvs get {key!r} shows it.'
    )
    if as_json:
        echo_json(place(store) | {'key': key})
    else:
        click.echo(f'Stored under {key!r} in {where(store)}.', err=True)


def _parsed(text: bytes) -> JSON:
    try:
        return json_codec.decode(text)
    except CorruptValue as error:
        raise click.BadParameter(
            f'the value {error}. Write a text in double quotes: \'"hello"\'.', param_hint='JSON'
        ) from None
