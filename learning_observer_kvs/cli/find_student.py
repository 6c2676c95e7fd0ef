"""``lo-kvs find-student``."""

from __future__ import annotations

import sys
from typing import Any

import click

from learning_observer_kvs import audit
from learning_observer_kvs.cli.command import Command, config_option, json_option
from learning_observer_kvs.cli.common import Stores, counted, echo_json, progress, with_stores
from learning_observer_kvs.cli.student import (
    Scope,
    alias_option,
    aliases_hint,
    folder_option,
    ids_of,
    place_json,
    print_place,
    scope_of,
)
from learning_observer_kvs.privacy import erasure
from learning_observer_kvs.privacy.places import Place


@click.command('find-student', cls=Command)
@click.argument('student')
@alias_option
@folder_option
@config_option
@json_option
def command(
    student: str, aliases: tuple[str, ...], folders: tuple[str, ...], config: tuple[str, ...], as_json: bool
) -> None:
    """Print every place that holds the id STUDENT: in keys and values of all stores, in study logs and failed events.

    A place is a key or a file, with the part of it that names the student and the rule by which erase-student erases
    that; no content is printed. Whole strings count, in every encoding: ls-1 is not in ls-12. Addresses and other ids
    that mappings, rosters and events have for the student are named at the end. The exit status is 1 if there is
    nothing.

    \b
    Example:
      lo-kvs find-student ls-17 --alias jo@school.example
    """
    ids = ids_of(student, aliases)
    found: list[dict[str, Any]] = []
    count = 0

    def show(place: Place) -> None:
        nonlocal count
        count += 1
        if as_json:
            found.append(place_json(place))
        else:
            print_place(place)

    async def act(stores: Stores) -> tuple[erasure.Plan, Scope]:
        scope = await scope_of(stores, folders)
        with progress('Searching', total=None, unit='keys and files') as advance:
            plan = await erasure.plan(scope.stores, ids, folders=scope.folders, on_place=show, progress=advance)
        audit.record('found', audit.user(), student=student, aliases=list(aliases), places=count)
        return plan, scope

    plan, scope = with_stores(config, act, interrupted=lambda: 'There may be more places.')
    scope = scope.missing(plan.not_reached)
    if as_json:
        names = {'student': student, 'aliases': list(aliases), 'possible_aliases': sorted(plan.aliases)}
        echo_json(names | {'places': found} | scope.as_json())
    else:
        scope.print_searched()
        aliases_hint(plan.aliases)
        click.echo(f'{counted(count, "place")} of {student!r}.', err=True)
    if not count:
        sys.exit(1)
