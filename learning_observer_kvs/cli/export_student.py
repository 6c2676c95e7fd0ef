"""``lo-kvs export-student``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from learning_observer_kvs import audit
from learning_observer_kvs.cli.command import Command, config_option, json_option
from learning_observer_kvs.cli.common import Stores, counted, echo_json, printable, progress, with_stores
from learning_observer_kvs.cli.student import Scope, alias_option, aliases_hint, folder_option, ids_of, scope_of
from learning_observer_kvs.privacy.exporting import Export, document, export, write
from learning_observer_kvs.privacy.page import page


@click.command('export-student', cls=Command)
@click.argument('student')
@click.option('--to', 'path', type=click.Path(), default='student-data.json', show_default=True, help='The JSON file.')
@alias_option
@folder_option
@config_option
@json_option
def command(
    student: str,
    path: str,
    aliases: tuple[str, ...],
    folders: tuple[str, ...],
    config: tuple[str, ...],
    as_json: bool,
) -> None:
    """Write everything about the student STUDENT to a JSON file, and beside it to an HTML page for people.

    Both are readable for the user of this command alone, and do not replace a file. Of values that others share only
    the student's item is in them. The exit status is 1 if nothing names the student.

    \b
    Example:
      lo-kvs export-student ls-17 --alias jo@school.example --to ls-17.json
    """
    ids = ids_of(student, aliases)
    target = Path(path)
    if not target.name:
        raise click.BadParameter(f'{path} is a folder; name a file.', param_hint='--to')
    shown = target.with_suffix('.html')
    if shown == target:
        raise click.BadParameter('The page beside it would have the same name; let it end in .json.', param_hint='--to')
    for file in (target, shown):
        if os.path.lexists(file):
            raise click.BadParameter(f'{file} is there; give another path.', param_hint='--to')

    async def act(stores: Stores) -> tuple[Export, Scope]:
        scope = await scope_of(stores, folders)
        with progress('Searching', total=None, unit='keys and files') as advance:
            found = await export(
                scope.stores, ids, folders=scope.folders, not_reached=scope.not_reached, progress=advance
            )
        if not found.is_empty:
            write({target: document(found), shown: page(found)})
            counts = {'states': len(found.states), 'entries': len(found.entries)}
            audit.record('exported', audit.user(), student=student, aliases=list(aliases), **counts, file=str(target))
        return found, scope

    found, scope = with_stores(config, act, interrupted=lambda: f'{target} may be missing. Run this again.')
    scope = scope._replace(not_reached=found.not_reached)
    files = [] if found.is_empty else [os.path.abspath(target), os.path.abspath(shown)]
    counts = {
        'states': len(found.states),
        'entries': len(found.entries),
        'events': sum(map(len, found.events.values())),
    }
    if as_json:
        names = {'student': student, 'aliases': list(aliases), 'possible_aliases': found.possible_aliases}
        echo_json(names | {'files': files, **counts} | scope.as_json())
    else:
        scope.print_searched()
        aliases_hint(found.possible_aliases)
        click.echo(
            f'{counted(counts["states"], "state")}, {counted(counts["entries"], "entry", "entries")} and '
            f'{counted(counts["events"], "event")} of {student!r}.',
            err=True,
        )
        for name in files:
            click.echo(printable(name))
    if found.is_empty:
        sys.exit(1)
