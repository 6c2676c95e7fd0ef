"""``lo-kvs check``."""

from __future__ import annotations

import asyncio

import click

from learning_observer_kvs.checks import static
from learning_observer_kvs.cli.common import echo_json, json_option
from learning_observer_kvs.config.rows import Configuration
from learning_observer_kvs.errors import StartupCheck
from learning_observer_kvs.kvs import KVS_MAP, live_problems, reserved_names
from learning_observer_kvs.problems import Level, report
from learning_observer_kvs.settings import Settings, read_settings
from learning_observer_kvs.stores.configured import parse_settings
from learning_observer_kvs.stores.deadline import limited_to


@click.command('check')
@click.argument('creds', nargs=-1, type=click.Path(), envvar='LO_KVS_CONFIG')
@click.option('--live', is_flag=True, help='Also check the files, directories and servers that it names.')
@click.option(
    '--fail-level',
    type=click.Choice(['warning', 'error']),
    default='error',
    show_default=True,
    help='The lowest level that makes the exit status 1.',
)
@json_option
def command(creds: tuple[str, ...], live: bool, fail_level: str, as_json: bool) -> None:
    """Report every problem of a configuration: of CREDS, by default creds.yaml.

    Of several files the first that has a value wins, as in: local.pmss creds.yaml.
    Without --live no store is opened. With it each is tried, and nothing is left behind.
    The exit status is 1 if the server would not start.

    \b
    Example:
      lo-kvs check creds.yaml --live
    """
    try:
        configuration = parse_settings(read_settings(creds or 'creds.yaml'), KVS_MAP)
    except StartupCheck as failure:
        if not as_json:
            raise
        configuration, found = Configuration(settings=Settings()), list(failure.problems)
    else:
        found = static.check(configuration, KVS_MAP, reserved_names())
    if live and all(problem.level is Level.WARNING for problem in found):
        with limited_to(0):  # a server that is loading is a problem now
            found += asyncio.run(live_problems(configuration))
    if as_json:
        echo_json([problem.as_dict() for problem in found])
    elif found:
        click.echo(report(found))
    else:
        stores = ', '.join(f'{row.name} ({row.type})' for row in configuration.stores)
        click.echo(f'{configuration.settings.source}: no problems. Stores: {stores}')
    if any(problem.level >= Level[fail_level.upper()] for problem in found):
        raise SystemExit(1)
