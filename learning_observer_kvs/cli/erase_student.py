"""``lo-kvs erase-student``."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click

from learning_observer_kvs import audit, json_codec
from learning_observer_kvs.cli.command import Command, ask, config_option, json_option
from learning_observer_kvs.cli.common import Stores, counted, echo_json, printable, progress, with_stores
from learning_observer_kvs.cli.student import (
    Scope,
    alias_option,
    folder_option,
    ids_of,
    place_json,
    print_place,
    scope_of,
)
from learning_observer_kvs.cli.unwritten import say_waiting
from learning_observer_kvs.errors import Undecided
from learning_observer_kvs.identifiers import Ids
from learning_observer_kvs.privacy.erasure import Plan, Receipt, erase, finish_interrupted, plan
from learning_observer_kvs.private_files import PRIVATE, create

NOT_ERASED = 'Nothing was erased.'


@click.command('erase-student', cls=Command)
@click.argument('student')
@alias_option
@click.option(
    '--not-alias', 'others', multiple=True, help='What a mapping or roster calls the student wrongly; repeatable.'
)
@click.option(
    '--leave', multiple=True, help='A place without a rule that may stay, as find-student names it; repeatable.'
)
@click.option('--keep-logs', is_flag=True, help='Leave study logs and failed events as they are.')
@click.option('--dry-run', is_flag=True, help='Count and list, and erase nothing.')
@click.option('--yes', is_flag=True, help='Do not ask.')
@click.option(
    '--who', default=audit.user, help='Who asked for it, for the receipt; by default the user of this command.'
)
@click.option('--receipt', type=click.Path(), help='The file of the receipt; by default erasure-<time>.json.')
@folder_option
@config_option
@json_option
def command(
    student: str,
    aliases: tuple[str, ...],
    others: tuple[str, ...],
    leave: tuple[str, ...],
    keep_logs: bool,
    dry_run: bool,
    yes: bool,
    who: str,
    receipt: str | None,
    folders: tuple[str, ...],
    config: tuple[str, ...],
    as_json: bool,
) -> None:
    """Erase the student STUDENT: from all stores of the settings, from study logs and failed events.

    Keys of the student, and memoized results that name the student, are removed; from values shared with others the
    student's item is taken out. Where no rule is known for a place nothing is erased until --leave names it. It counts,
    lists and asks first. Everything is searched again until nothing is found; with flush_interval after the longest
    interval of the settings. What is older does not come back by load, copy or replay; see lo-kvs suppressed.

    A receipt is written: who, when, where, how many; no content. The exit status is 1 if nothing names the student, or
    something remains.

    \b
    Examples:
      lo-kvs erase-student ls-17 --dry-run
      lo-kvs erase-student ls-17 --alias jo@school.example --yes
    """
    ids_of(student, (*aliases, *others))
    shown: list[dict[str, Any]] = []

    async def act(stores: Stores) -> tuple[Plan, Scope, Receipt | None, Path | None]:
        scope = await scope_of(stores, folders, waits=not dry_run)
        searched = [] if keep_logs else scope.folders
        ids, refused = ids_of(student, aliases), set(others)
        while True:
            shown.clear()
            with progress('Searching', total=None, unit='keys and files') as advance:
                found = await plan(
                    scope.stores,
                    ids,
                    folders=searched,
                    on_place=lambda place: shown.append(place_json(place)) if as_json else print_place(place),
                    progress=advance,
                )
            if dry_run or (found.is_empty and not scope.interval):
                if not dry_run:
                    await finish_interrupted(scope.stores, ids, time.time())
                return found, scope, None, None
            accepted = _accepted(found, refused, yes)
            if not accepted:
                break
            ids = Ids((*ids.given, *accepted))
        _confirm(found, ids, leave, yes)
        with _receipt_file(receipt) as (path, write), progress('Erasing', None, 'keys and files') as advance:
            named = {'student': student, 'aliases': list(ids.given[1:])}
            audit.record('erasing', audit.user(), **named)
            done = await erase(
                scope.stores,
                ids,
                who=who,
                planned=found,
                folders=scope.folders,
                keep_logs=keep_logs,
                leave=leave,
                interval=scope.interval,
                not_reached=scope.not_reached,
                progress=advance,
                on_wait=say_waiting,
            )
            kept = path if write(done) else None
        audit.record(
            'erased',
            audit.user(),
            **named,
            places=done.erased.total(),
            complete=done.is_complete,
        )
        return found, scope, done, kept

    def interrupted() -> str:
        return 'Nothing was removed.' if dry_run else 'Some data may be removed. Run this again to remove the rest.'

    found, scope, done, path = with_stores(config, act, interrupted=interrupted)
    scope = scope.missing(found.not_reached)
    if as_json:
        names = {'student': student, 'possible_aliases': sorted(found.aliases)}
        extra = {'places': shown} if done is None else {**done.as_json(), 'receipt': path and os.path.abspath(path)}
        echo_json(names | scope.as_json() | extra)
    else:
        _print(student, found, scope, done, path)
    if found.is_empty if done is None else not done.is_complete or path is None:
        sys.exit(1)


def _accepted(found: Plan, refused: set[str], yes: bool) -> list[str]:
    """Ask about each address and other id that other data has for the student; those that are right."""
    known = Ids(refused) if refused else ()
    aliases = sorted(text for text in found.aliases if text not in known)
    if aliases and yes:
        raise click.UsageError(
            f'Other data calls this student also: {", ".join(map(repr, aliases))}. Say of each whether it is '
            'the student, with --alias, or not, with --not-alias. Nothing was erased.'
        )
    accepted = [text for text in aliases if ask(partial(_is_the_same, text), NOT_ERASED)]
    refused.update(set(aliases) - set(accepted))
    return accepted


def _confirm(found: Plan, ids: Ids, leave: tuple[str, ...], yes: bool) -> None:
    """Raise what keeps it from going on, and ask whether to."""
    if undecided := [place for place in found.undecided if place.name not in leave]:
        raise Undecided(undecided)
    if yes or found.is_empty:
        return
    click.echo(_summary(found), err=True)
    typed = ask(_typed_id, NOT_ERASED)
    if typed != ids.given[0]:
        raise click.ClickException('That is not the id. Nothing was erased.')


def _is_the_same(alias: str) -> bool:
    return click.confirm(f'Is {alias!r} the same student?', err=True)


def _typed_id() -> str:
    typed: str = click.prompt('Type the id of the student to erase this', default='', show_default=False, err=True)
    return typed


def _summary(found: Plan) -> str:
    lines = [
        f'  {printable(where)}: {_counted(count, rule)}' for (where, _, rule), count in sorted(found.counts.items())
    ]
    return '\n'.join(['To be erased:', *lines])


def _counted(count: int, rule: str) -> str:
    return counted(count, rule, f'{rule[:-1]}ies' if rule.endswith('y') else '')


@contextmanager
def _receipt_file(given: str | None) -> Iterator[tuple[Path, Callable[[Receipt], bool]]]:
    """Make the file of the receipt before anything is erased, for this user alone; one that is there is not replaced.

    Yields its path, and what writes the receipt and returns whether that was possible. Without one the file is removed.
    """
    number, path = -1, Path(given or '')
    for attempt in range(100):
        if given is None:
            path = Path(time.strftime('erasure-%Y-%m-%dT%H%M%S') + (f'-{attempt}' if attempt else '') + '.json')
        try:
            number = create(str(path), PRIVATE)
            break
        except OSError as error:
            if given is not None or not isinstance(error, FileExistsError):
                raise click.BadParameter(f'{path}: {error.strerror}.', param_hint='--receipt') from None
    is_written = False
    with os.fdopen(number, 'wb', buffering=0) as file:

        def write(receipt: Receipt) -> bool:
            nonlocal is_written
            rest = memoryview(json_codec.indented(json_codec.encode(receipt.as_json())))
            try:
                while rest:
                    rest = rest[file.write(rest) :]
            except OSError as error:
                click.echo(f'{path} cannot be written: {error.strerror}. Keep the receipt that is printed.', err=True)
                return False
            is_written = True
            return True

        try:
            yield path, write
        finally:
            if not is_written:
                path.unlink()


def _print(student: str, found: Plan, scope: Scope, done: Receipt | None, path: Path | None) -> None:
    scope.print_searched()
    if done is None:
        click.echo(_summary(found) if found.counts else f'Nothing of {student!r} is to be erased.', err=True)
        for place in found.undecided:
            click.echo(f'No rule is known for {printable(place.name)}: --leave, or change it by hand.', err=True)
        if found.aliases:
            names = ', '.join(map(repr, sorted(found.aliases)))
            click.echo(printable(f'Also called {names}: say --alias or --not-alias for each.'), err=True)
        click.echo('Nothing was erased.', err=True)
        return
    for (where, location, rule), count in sorted(done.erased.items()):
        click.echo(f'{printable(where)} ({printable(location)}): {_counted(count, rule)} erased.', err=True)
    for text in done.remaining:
        click.echo(f'Not erased: {printable(text)}', err=True)
    receipt = 'printed' if path is None else os.path.abspath(path)
    if path is None:
        echo_json(done.as_json())
    click.echo(f'{counted(done.erased.total(), "place")} of {student!r} erased. Receipt: {receipt}', err=True)
