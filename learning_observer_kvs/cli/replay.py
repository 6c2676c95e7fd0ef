"""``lo-kvs replay``."""

from __future__ import annotations

import difflib
import importlib
import io
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TypeGuard

import click

from learning_observer_kvs.cli.command import Command, config_option, json_option
from learning_observer_kvs.cli.common import Stores, counted, echo_json, place, printable, progress, where, with_stores
from learning_observer_kvs.errors import EventFileError
from learning_observer_kvs.replay import failures, files, study_log
from learning_observer_kvs.replay.retry import RetryReport, retry
from learning_observer_kvs.replay.runner import FILES_AT_ONCE, ReplayReport, replay
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stream_analytics.helpers import Pipeline
from learning_observer_kvs.stream_analytics.keys import fully_qualified_function_name
from learning_observer_kvs.stream_analytics.registry import is_reducer

KINDS = ('study-logs', 'failed-events')


@click.command('replay', cls=Command)
@click.argument('paths', nargs=-1, required=True, type=click.Path())
@click.option(
    '--reducer',
    '-r',
    'names',
    multiple=True,
    required=True,
    help='A reducer, as package.module:function, or every reducer of a package.module; repeatable.',
)
@click.option('--only', type=click.Choice(KINDS), help='The kind of files to read in directories that have both.')
@click.option(
    '--at-once', default=FILES_AT_ONCE, show_default=True, type=click.IntRange(1), help='Study logs fed concurrently.'
)
@click.option('--unclear', is_flag=True, help='Apply failed events that may have been applied when they failed, too.')
@click.option(
    '--unmarked', is_flag=True, help='Give events whose file does not say which reducers failed to every --reducer.'
)
@config_option
@json_option
def command(
    paths: tuple[str, ...],
    names: tuple[str, ...],
    only: str | None,
    at_once: int,
    unclear: bool,
    unmarked: bool,
    config: tuple[str, ...],
    as_json: bool,
) -> None:
    """Feed study logs through reducers, or failed events to the reducers that failed.

    PATHS are files, or directories of them. The states are kept in the default store of the settings. If a reducer
    fails on an event, the replay reports that and continues, and the exit status is 1.

    Of study logs (.study.log, .study.log.gz) every reducer gets the events that a server would give it, each time. A
    file with a line that is not an event is left out whole. Events that a reducer fails on are kept as failed events.

    Failed events are in critical-error-*.tb, which a Learning Observer server writes, and failed-events-*.jsonl. Each
    goes once to each reducer that failed on it, however often this command runs: the states note it.

    \b
    Examples:
      lo-kvs replay devdata/sample --reducer devdata.reducers:reconstruct --config devdata/creds.yaml
      lo-kvs replay logs --only failed-events --reducer writing_observer.writing_analysis
    """
    load_integration(config)
    reducers = list(dict.fromkeys(reducer for name in names for reducer in reducers_of(name)))
    found = files.find(map(Path, paths))
    if only is None and found.study_logs and found.failures:
        raise click.UsageError(
            f'There are {counted(len(found.study_logs), "study log")} and '
            f'{counted(len(found.failures), "file")} of failed events. A study log holds the failed events too: choose '
            'one kind with --only study-logs or --only failed-events.'
        )
    if only == 'failed-events' or (only is None and not found.study_logs):
        retry_failures(found.failures, reducers, unclear, unmarked, config, as_json)
    else:
        replay_logs(found.study_logs, reducers, at_once, config, as_json)


def replay_logs(
    paths: list[Path], reducers: Sequence[Pipeline], at_once: int, config: tuple[str, ...], as_json: bool
) -> None:
    """Feed study logs through reducers, and print the report.

    Args:
        paths: the files.
        reducers: the reducers.
        at_once: how many files are fed concurrently.
        config: the paths of the settings.
        as_json: whether to print JSON.

    Raises:
        SystemExit: with 1, if there were failures.
    """

    async def act(stores: Stores) -> tuple[ReplayReport, Store]:
        with progress('Replaying', total=events_in(paths), unit='events') as advance:
            report = await replay(paths, reducers, router=stores.router, at_once=at_once, progress=advance)
        return report, stores.router()

    report, store = with_stores(
        config,
        act,
        interrupted=lambda: 'The states may have some of the events; a second replay feeds all of them again.',
        retry_seconds=None,
    )
    kept = sorted(os.path.abspath(path) for path in report.kept)
    if as_json:
        echo_json(
            {
                **place(store),
                'files': report.files,
                'events': report.events,
                'suppressed': report.suppressed,
                'skipped': report.skipped,
                'seconds': round(report.seconds, 3),
                'events_per_second': round(report.events_per_second),
                'failures': report.failures,
                'kept': kept,
                'invalid_files': report.invalid,
                'invalid_lines': report.invalid_lines,
            }
        )
    else:
        for failure in report.failures:
            _say(failure)
        for path in kept:
            _say(f'The events that reducers failed on are kept in {path}: replay that file later.')
        _print_invalid(report)
        _print_suppressed(report.suppressed)
        click.echo(
            f'{counted(report.files, "file")}, {counted(report.events, "event")} through '
            f'{counted(len(reducers), "reducer")} into {where(store)} in {report.seconds:.1f} s: '
            f'{report.events_per_second:,.0f} events/s, {report.skipped:,} skipped, '
            f'{counted(len(report.failures), "failure")}, {counted(len(report.invalid), "invalid file")}'
        )
    if report.failures or report.invalid:
        sys.exit(1)


def _say(message: str) -> None:
    """Print a line to standard error; it may quote what a student wrote."""
    click.echo(printable(message), err=True)


def _print_suppressed(events: int) -> None:
    if events:
        _say(f'{counted(events, "event")} of erased students left out; see lo-kvs suppressed.')


def _print_invalid(report: ReplayReport) -> None:
    for messages in report.invalid.values():
        for message in messages:
            _say(message)
    if others := report.invalid_lines - sum(map(len, report.invalid.values())):
        _say(f'… and {counted(others, "more such line")}.')
    for path in report.invalid:
        _say(f'{path}: nothing of this file was replayed. When it is corrected, replay it alone.')


def retry_failures(
    paths: list[Path],
    reducers: Sequence[Pipeline],
    unclear: bool,
    unmarked: bool,
    config: tuple[str, ...],
    as_json: bool,
) -> None:
    """Give failed events to the reducers that failed, and print the report.

    Args:
        paths: the files.
        reducers: the reducers that may get events.
        unclear: whether to apply events that may have been applied.
        unmarked: whether to give events to every reducer where the file does not say which ones failed.
        config: the paths of the settings.
        as_json: whether to print JSON.

    Raises:
        SystemExit: with 1, if an event that failed at one of the reducers is not in the states.
    """
    rows = list(failures.read(paths))

    async def act(stores: Stores) -> tuple[RetryReport, Store]:
        store = stores.to_write('default')
        with progress('Replaying', total=len(rows), unit='events') as advance:
            report = await retry(
                rows, reducers, router=stores.router, unclear=unclear, unmarked=unmarked, progress=advance
            )
        return report, store

    report, store = with_stores(
        config,
        act,
        interrupted=lambda: 'Some events may be replayed. Run this again: an event is not applied twice.',
        retry_seconds=None,
    )
    if as_json:
        echo_json(
            {
                **place(store),
                'files': len(paths),
                'replayed': report.replayed,
                'already_replayed': report.already,
                'suppressed': report.suppressed,
                'unclear': report.unclear,
                'unmarked': report.unmarked,
                'other_reducers': dict(report.other_reducers),
                'skipped': report.skipped,
                'seconds': round(report.seconds, 3),
                'failures': report.failures,
            }
        )
    else:
        _print(report, len(paths), store)
        _print_suppressed(report.suppressed)
    if not report.is_complete:
        sys.exit(1)


def _print(report: RetryReport, file_count: int, store: Store) -> None:
    for failure in report.failures:
        _say(failure)
    for event in report.unclear:
        click.echo(
            f'{printable(event)}: it may have been applied when it failed; compare the state, or use --unclear.',
            err=True,
        )
    for location in report.unmarked:
        click.echo(
            f'{printable(location)}: it does not say which reducers failed; --unmarked gives it to every one.', err=True
        )
    for name, count in sorted(report.other_reducers.items()):
        click.echo(
            f'{counted(count, "event")} of {printable(name)} left; name it with --reducer to replay them.', err=True
        )
    click.echo(
        f'{counted(file_count, "file")} of failed events into {where(store)} in {report.seconds:.1f} s: '
        f'{report.replayed:,} replayed, {report.already:,} before, {len(report.unclear):,} unclear, '
        f'{len(report.unmarked):,} unmarked, {report.skipped:,} skipped, '
        f'{counted(len(report.failures), "failure")}'
    )


def events_in(paths: list[Path]) -> int:
    """Count the events to replay.

    Args:
        paths: study logs; one that cannot be read counts as far as it can be (the replay reports it).

    Returns:
        The number of events.
    """
    total = 0
    for path in paths:
        with suppress(EventFileError):
            total += study_log.count(path)
    return total


def reducers_of(name: str) -> list[Pipeline]:
    """Import reducers; the working directory is searched too.

    Args:
        name: ``package.module:function``, or ``package.module`` for all that it defines.

    Returns:
        The decorated reducers, in the order of their definition.

    Raises:
        click.BadParameter: there is no such module or function, or it is not a reducer.
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    module_name, colon, function = name.partition(':')
    try:
        with redirect_stdout(io.StringIO()):  # modules of the Learning Observer print while they are imported
            module = importlib.import_module(module_name)
    except (ImportError, ValueError) as error:
        raise click.BadParameter(
            f'{name!r}: {error}. Write it as package.module:function, or package.module.', param_hint='--reducer'
        ) from None
    if colon:
        return [_reducer(module, function)]
    found = [each for each in vars(module).values() if _is_reducer(each) and each.__module__ == module_name]
    if not found:
        raise click.BadParameter(
            f'{module_name} defines no reducer. Write package.module, or package.module:function.',
            param_hint='--reducer',
        )
    return found


def load_integration(config: Sequence[str]) -> None:
    """Where the Learning Observer is installed: load its settings, and make its decorators ours.

    To be called before a module of reducers is imported.

    Args:
        config: the paths of the settings.
    """
    for entry in entry_points(group='lo_modules'):
        if entry.value == 'learning_observer_kvs.module':
            with suppress(ModuleNotFoundError), redirect_stdout(io.StringIO()):
                entry.load().prepare_replay(config)


def _is_reducer(candidate: object) -> TypeGuard[Pipeline]:
    return (
        callable(candidate)
        and hasattr(candidate, '__wrapped__')  # the undecorated function has the same name, and may be there, too
        and hasattr(candidate, '__qualname__')
        and is_reducer(fully_qualified_function_name(candidate))
    )


def _reducer(module: ModuleType, function: str) -> Pipeline:
    found = getattr(module, function, None)
    if found is None:
        close = difflib.get_close_matches(function, dir(module), 1)
        hint = f' Did you mean {close[0]!r}?' if close else ''
        raise click.BadParameter(f'{module.__name__} has no {function!r}.{hint}', param_hint='--reducer')
    if not _is_reducer(found):
        raise click.BadParameter(
            f'{module.__name__}:{function} is not a reducer: decorate it with student_event_reducer or kvs_pipeline.',
            param_hint='--reducer',
        )
    return found
