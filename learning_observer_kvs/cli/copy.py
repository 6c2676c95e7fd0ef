"""``lo-kvs copy``."""

from __future__ import annotations

import dataclasses
import sys

import click

from learning_observer_kvs.checks.places import named
from learning_observer_kvs.cli.command import Command, config_option, json_option
from learning_observer_kvs.cli.common import (
    Stores,
    counted,
    echo_erased,
    echo_json,
    echo_messages,
    place,
    progress,
    where,
    with_stores,
)
from learning_observer_kvs.stores import copy
from learning_observer_kvs.stores.base import Store


@click.command('copy', cls=Command)
@click.argument('source', metavar='FROM')
@click.argument('target', metavar='TO')
@click.option('--prefix', default='', help='Only keys that begin with it.')
@click.option(
    '--replace', is_flag=True, help='Replace values of TO that differ; by default they are left and reported.'
)
@config_option
@json_option
def command(source: str, target: str, prefix: str, replace: bool, config: tuple[str, ...], as_json: bool) -> None:
    """Copy every key of the store FROM into the store TO, then read both again and compare.

    Both are names in the settings. It may be interrupted and run again: a key that was copied is not written again.
    Nothing is removed. The exit status is 1 if a key of FROM is not in TO with the same value, or FROM has files that
    look like keys and are not.

    \b
    Example:
      lo-kvs copy files default
    """
    if source == target:
        raise click.BadParameter(f'FROM and TO are both {source!r}; name two stores.', param_hint='TO')
    done = count = 0

    async def act(stores: Stores) -> tuple[Store, Store, copy.CopyReport]:
        nonlocal count
        written = stores.to_write(target)
        read = await stores.existing(source)
        with progress('Counting', total=None, unit='keys'):
            count = await copy.count(read, written, prefix)
        with progress('Copying', total=2 * count, unit='keys, written and compared') as advance:

            def note(keys: int) -> None:
                nonlocal done
                done += keys
                advance(keys)

            return read, written, await copy.copy(read, written, prefix=prefix, overwrite=replace, progress=note)

    def interrupted() -> str:
        return f'{min(done, count):,} of {counted(count, "key")} done. Run this again: it goes on where it was.'

    read, written, report = with_stores(config, act, interrupted=interrupted, retry_seconds=None)
    if as_json:
        places = {'from': place(read), 'to': place(written)}
        echo_json(places | dataclasses.asdict(report) | {'verified': report.verified})
    else:
        _print(report, read, written)
    if not report.verified or report.doubtful:
        sys.exit(1)


def _print(report: copy.CopyReport, source: Store, target: Store) -> None:
    echo_messages(report)
    click.echo(
        f'Keys copied: {report.copied:,}. Already present: {report.present:,}. Differing: {report.differing:,}. '
        f'Unreadable: {report.failed:,}.'
    )
    echo_erased(report)
    if report.unrecognized:
        click.echo(f'Not copied: {named(report.unrecognized)}.', err=True)
    click.echo(f'From {where(source)}: {counted(report.source_count, "key")}, digest {report.source_digest}')
    click.echo(f'To {where(target)}: {report.target_count:,} of these keys, digest {report.target_digest}')
    if report.verified:
        click.echo('Verified: the stores agree.')
    else:
        click.echo(
            'Not everything was copied.' if report.source_digest == report.target_digest else 'The stores differ.'
        )
