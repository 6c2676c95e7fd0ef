"""``lo-kvs copy``."""

from __future__ import annotations

import asyncio
import dataclasses
import sys

import click

from learning_observer_kvs.cli.common import (
    config_option,
    counted,
    echo_json,
    json_option,
    persistent,
    printable,
    progress,
)
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.stores import copy


@click.command('copy')
@click.argument('source', metavar='FROM')
@click.argument('target', metavar='TO')
@click.option('--prefix', default='', help='Only keys that begin with it.')
@click.option(
    '--overwrite', is_flag=True, help='Replace values of TO that differ; by default they are left and reported.'
)
@config_option
@json_option
def command(source: str, target: str, prefix: str, overwrite: bool, config: tuple[str, ...], as_json: bool) -> None:
    """Copy every key of the store FROM into the store TO, then read both again and compare.

    Both are names in the settings. It may be interrupted and run again: a key that was copied is not written again.
    Nothing is removed. The exit status is 1 if a key of FROM is not in TO with the same value.

    \b
    Example:
      lo-kvs copy files default
    """
    if source == target:
        raise click.BadParameter(f'FROM and TO are both {source!r}; name two stores.', param_hint='TO')

    async def run() -> copy.CopyReport:
        async with KVSRouter.from_settings(config) as router:
            stores = router[source], persistent(router[target])
            total = 2 * await copy.count(*stores, prefix)
            with progress('Copying', total=total, unit='keys, written and compared') as advance:
                return await copy.copy(*stores, prefix=prefix, overwrite=overwrite, progress=advance)

    report = asyncio.run(run())
    if as_json:
        echo_json(dataclasses.asdict(report) | {'verified': report.verified})
    else:
        _print(report, source, target)
    if not report.verified:
        sys.exit(1)


def _print(report: copy.CopyReport, source: str, target: str) -> None:
    for line in report.messages:
        click.echo(printable(line), err=True)
    others = report.differing + report.failed - len(report.messages)
    if others > 0:
        click.echo(f'… and {others:,} more.', err=True)
    click.echo(
        f'Keys copied: {report.copied:,}. Already present: {report.present:,}. Differing: {report.differing:,}. '
        f'Unreadable: {report.failed:,}.'
    )
    click.echo(f'{source}: {counted(report.source_count, "key")}, digest {report.source_digest}')
    click.echo(f'{target}: {report.target_count:,} of these keys, digest {report.target_digest}')
    click.echo('Verified: the stores agree.' if report.verified else 'The stores differ.')
