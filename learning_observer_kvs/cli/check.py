"""``lo-kvs check``."""

from __future__ import annotations

import json

import click

from learning_observer_kvs import checks
from learning_observer_kvs.cli.common import json_option
from learning_observer_kvs.kvs import KVS_MAP, reserved_names
from learning_observer_kvs.settings import read_settings, store_entries


@click.command('check')
@click.argument('creds', default='creds.yaml', envvar='LO_KVS_CONFIG')
@json_option
def command(creds: str, as_json: bool) -> None:
    """Find every fault of a configuration, without opening any store.

    Ends with status 1 if the server would not start with it.

    \b
    Example:
      lo-kvs check creds.yaml
    """
    settings = read_settings(creds)
    problems = checks.check_settings(settings, KVS_MAP, reserved_names())
    if as_json:
        click.echo(
            json.dumps(
                [
                    {
                        'id': problem.id,
                        'level': problem.level.name.lower(),
                        'place': problem.place,
                        'subject': problem.subject,
                        'fault': problem.fault,
                        'cure': problem.cure,
                    }
                    for problem in problems
                ],
                indent=2,
                ensure_ascii=False,
            )
        )
    elif problems:
        click.echo(checks.report(problems))
    else:
        stores = ', '.join(f'{entry.name} ({entry.options["type"]})' for entry in store_entries(settings))
        click.echo(f'{creds}: no problems. Stores: {stores}')
    if any(problem.level is checks.Level.ERROR for problem in problems):
        raise SystemExit(1)
