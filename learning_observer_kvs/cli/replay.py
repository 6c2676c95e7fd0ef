"""``lo-kvs replay``."""

from __future__ import annotations

import asyncio
import difflib
import importlib
import os
import sys
from contextlib import suppress
from pathlib import Path

import click

from learning_observer_kvs.cli.common import config_option, counted, echo_json, json_option, progress
from learning_observer_kvs.errors import EventFileError
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.replay import study_log
from learning_observer_kvs.replay.runner import FILES_AT_ONCE, ReplayReport, replay
from learning_observer_kvs.stream_analytics.helpers import Pipeline
from learning_observer_kvs.stream_analytics.keys import fully_qualified_function_name
from learning_observer_kvs.stream_analytics.registry import is_reducer


@click.command('replay')
@click.argument('paths', nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    '--reducer', '-r', 'names', multiple=True, required=True, help='A reducer, as package.module:function; repeatable.'
)
@click.option(
    '--at-once', default=FILES_AT_ONCE, show_default=True, type=click.IntRange(1), help='Files replayed concurrently.'
)
@config_option
@json_option
def command(
    paths: tuple[Path, ...], names: tuple[str, ...], at_once: int, config: tuple[str, ...], as_json: bool
) -> None:
    """Feed study logs (.study.log, .study.log.gz, or directories of them) through reducers.

    The states are kept in the default store of the settings. If a reducer fails on an event, the replay reports that
    and continues, and the exit status is 1.

    \b
    Example:
      lo-kvs replay devdata/sample --reducer devdata.reducers:reconstruct --config devdata/creds.yaml
    """
    reducers = [reducer(name) for name in names]
    files = study_log.find(paths)

    async def run() -> ReplayReport:
        async with KVSRouter.from_settings(config) as router:
            with progress('Replaying', total=events_in(files), unit='events') as advance:
                return await replay(files, reducers, router=router, at_once=at_once, progress=advance)

    report = asyncio.run(run())
    if as_json:
        echo_json(
            {
                'files': report.files,
                'events': report.events,
                'seconds': round(report.seconds, 3),
                'events_per_second': round(report.events_per_second),
                'failures': report.failures,
            }
        )
    else:
        for failure in report.failures:
            click.echo(failure, err=True)
        click.echo(
            f'{counted(report.files, "file")}, {counted(report.events, "event")} through '
            f'{counted(len(reducers), "reducer")} in {report.seconds:.1f} s: '
            f'{report.events_per_second:,.0f} events/s, {counted(len(report.failures), "failure")}'
        )
    if report.failures:
        sys.exit(1)


def events_in(files: list[Path]) -> int:
    """Count the events to replay.

    Args:
        files: study logs; one that cannot be read counts as far as it can be (the replay reports it).

    Returns:
        The number of events.
    """
    total = 0
    for path in files:
        with suppress(EventFileError):
            total += study_log.count(path)
    return total


def reducer(name: str) -> Pipeline:
    """Import a reducer; the working directory is searched too.

    Args:
        name: ``package.module:function``.

    Returns:
        The decorated reducer.

    Raises:
        click.BadParameter: there is no such module or function, or it is not a reducer.
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    module_name, colon, function = name.partition(':')
    if not colon:
        raise click.BadParameter(f'{name!r}: write it as package.module:function.', param_hint='--reducer')
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise click.BadParameter(f'{name!r}: {error}.', param_hint='--reducer') from None
    found = getattr(module, function, None)
    if found is None:
        close = difflib.get_close_matches(function, dir(module), 1)
        hint = f' Did you mean {close[0]!r}?' if close else ''
        raise click.BadParameter(f'{module_name} has no {function!r}.{hint}', param_hint='--reducer')
    if not callable(found) or not is_reducer(fully_qualified_function_name(found)):
        raise click.BadParameter(
            f'{name!r} is not a reducer: decorate it with student_event_reducer or kvs_pipeline.',
            param_hint='--reducer',
        )
    pipeline: Pipeline = found
    return pipeline
