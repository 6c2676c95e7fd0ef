"""``lo-kvs set``."""

from __future__ import annotations

import sys

import click

from learning_observer_kvs import json_codec
from learning_observer_kvs.cli.common import config_option, persistent, store_option, with_store
from learning_observer_kvs.errors import CorruptValue
from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.stores.base import Store


@click.command('set')
@click.argument('key')
@click.argument('value', metavar='JSON')
@config_option
@store_option
def command(key: str, value: str, config: tuple[str, ...], name: str) -> None:
    """Store the value JSON under KEY; - reads it from the standard input.

    \b
    Example:
      lo-kvs set greeting '"hello"'
      lo-kvs get a | lo-kvs set b -
    """
    parsed = _parsed(sys.stdin.read() if value == '-' else value)

    async def act(store: Store) -> None:
        await persistent(store).set(key, parsed)

    with_store(config, name, act)


def _parsed(text: str) -> JSON:
    try:
        return json_codec.decode(text.encode('utf-8', 'surrogateescape'))
    except CorruptValue as error:
        raise click.BadParameter(
            f'the value {error}. Write a text in double quotes: \'"hello"\'.', param_hint='JSON'
        ) from None
