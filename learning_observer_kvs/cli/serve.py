"""``lo-kvs serve``."""

from __future__ import annotations

import importlib

import click

from learning_observer_kvs.cli.command import Command, config_option, json_option


@click.command('serve', cls=Command)
@click.option(
    '--port', '-p', default=8890, show_default=True, type=click.IntRange(0, 65535), help='The port; 0 takes a free one.'
)
@config_option
@json_option
def command(port: int, config: tuple[str, ...], as_json: bool) -> None:
    """Serve /debug/kvs to this machine alone, until Ctrl-C.

    Every user of this machine can read it. Nothing is created: stores that are not there are named and left out.

    \b
    Example:
      lo-kvs serve --config devdata/creds.yaml
    """
    # It imports aiohttp, which the help of lo-kvs would wait for.
    importlib.import_module('learning_observer_kvs.cli.serving').serve(port, config, as_json)
