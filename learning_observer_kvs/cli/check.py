"""``lo-kvs check``."""

from __future__ import annotations

import asyncio
import os

import click
from click.core import ParameterSource

from learning_observer_kvs.checks import static
from learning_observer_kvs.checks.places import check_places
from learning_observer_kvs.cli.command import Command, config_option, interruptible, json_option
from learning_observer_kvs.cli.common import echo_json, progress
from learning_observer_kvs.config.rows import Configuration
from learning_observer_kvs.errors import StartupCheck
from learning_observer_kvs.kvs import KVS_MAP, KVSRouter, live_problems, reserved_names
from learning_observer_kvs.problems import Level, report
from learning_observer_kvs.settings import Settings, read_settings
from learning_observer_kvs.stores.configured import parse_settings
from learning_observer_kvs.stores.deadline import limited_to


@click.command('check', cls=Command)
@click.argument('creds', nargs=-1, type=click.Path())
@click.option('--live', is_flag=True, help='Also check the files, directories and servers that it names.')
@click.option(
    '--fail-level',
    type=click.Choice(['warning', 'error']),
    default='error',
    show_default=True,
    help='The lowest level that makes the exit status 1.',
)
@config_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, creds: tuple[str, ...], live: bool, fail_level: str, config: tuple[str, ...], as_json: bool
) -> None:
    """Report every problem of a configuration: of CREDS or --config, by default creds.yaml.

    Of several files the first that has a value wins, as in: local.pmss creds.yaml. Without --live no store is opened.
    With it, what its stores do is tried, and nothing is left behind. The exit status is 1 if the server would not
    start.

    \b
    Example:
      lo-kvs check creds.yaml --live
    """
    is_default = ctx.get_parameter_source('config') is not ParameterSource.COMMANDLINE
    paths = creds if creds and is_default else (*creds, *config)
    try:
        configuration = parse_settings(read_settings(paths), KVS_MAP)
    except StartupCheck as failure:
        if not as_json:
            raise
        configuration, found = Configuration(settings=Settings()), list(failure.problems)
    else:
        found = static.check(configuration, KVS_MAP, reserved_names())
    is_usable = all(problem.level is Level.WARNING for problem in found)
    stores = _stores(configuration) if is_usable else {}
    if live and is_usable:
        with (
            interruptible(lambda: 'Nothing was changed.'),
            limited_to(0),  # a server that is loading is a problem now
            progress('Checking', total=None, unit='stores'),
        ):
            found += asyncio.run(live_problems(configuration))
    elif is_usable:
        found += check_places(configuration.stores_by_name)
    if as_json:
        problems = [problem.as_dict() for problem in found]
        echo_json({'settings': [os.path.abspath(path) for path in paths], 'stores': stores, 'problems': problems})
    else:
        click.echo(report(found) if found else f'{configuration.settings.source}: no problems.')
        for name, store in stores.items():
            click.echo(f'Store {name!r}: {store["type"]}, {store["location"]}')
    if any(problem.level >= Level[fail_level.upper()] for problem in found):
        raise SystemExit(1)


def _stores(configuration: Configuration) -> dict[str, dict[str, str]]:
    router = KVSRouter()
    router.configure(configuration)
    return {name: {'type': router[name].TYPE, 'location': router[name].location()} for name in router.names()}
