"""``lo-kvs erase-student``."""

from __future__ import annotations

import sys
from collections.abc import Collection

import click

from learning_observer_kvs.cli import removal
from learning_observer_kvs.cli.command import Command, config_option, json_option, store_option
from learning_observer_kvs.cli.common import printable
from learning_observer_kvs.queries.kept import kept


@click.command('erase-student', cls=Command)
@click.argument('student')
@click.option('--dry-run', is_flag=True, help='Print the keys without removing them.')
@config_option
@store_option
@json_option
def command(student: str, dry_run: bool, config: tuple[str, ...], name: str, as_json: bool) -> None:
    """Remove every reducer key of STUDENT from one store.

    STUDENT is the name that is in the keys: ls-17 in STUDENT:ls-17. Events that arrive meanwhile make new keys: end
    the student's sessions first. The store is searched again until nothing is found; with flush_interval after the
    longest interval of the settings, as servers that run write until then what they keep. Study logs, files of failed
    events and dumps are not touched. The exit status is 1 if the student has no key, or if keys come back each time.

    \b
    Example:
      lo-kvs erase-student ls-17 --dry-run
    """
    shown: list[str] = []

    def show(keys: Collection[str]) -> None:
        shown.extend(keys)
        if not as_json:
            click.echo(''.join(f'{printable(key)}\n' for key in keys), nl=False)

    ended = removal.run(config, name, kept(students=[student]), removes=not dry_run, show=show)
    details = {'keys': shown} if dry_run else {'removed': ended.keys, 'complete': ended.is_complete}
    status = removal.report(
        ended,
        {'student': student},
        details if as_json else None,
        still='events of this student still arrive. End the sessions and run this again.',
        hint='.' if dry_run else '',
    )
    if status:
        sys.exit(status)
