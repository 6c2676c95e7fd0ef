"""``lo-kvs load``."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import click

from learning_observer_kvs.cli.command import Command, config_option, json_option, store_option
from learning_observer_kvs.cli.common import (
    Stores,
    binary_input,
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


@click.command('load', cls=Command)
@click.argument('file')
@click.option('--replace', is_flag=True, help='Replace values that differ; by default they are left and reported.')
@config_option
@store_option
@json_option
def command(file: str, replace: bool, config: tuple[str, ...], name: str, as_json: bool) -> None:
    """Store every entry of FILE, which dump wrote; - reads it from the standard input.

    An invalid file is rejected before anything is stored. A key that holds another value is left and named, unless
    --replace is given; the exit status is 1 then. It may be interrupted and run again.

    What is older than the erasure of its student is left out. A dump that was made after one notes it in the store;
    states that the store has of the student from before are named, and the exit status is 1.

    \b
    Examples:
      lo-kvs load backup.json --store archive
      gunzip < backup.json.gz | lo-kvs load -
    """
    done = 0

    async def act(stores: Stores) -> tuple[Store, copy.CopyReport]:
        nonlocal done
        store = stores.to_write(name)
        with progress('Loading', total=None, unit='entries') as advance:

            def note(entries: int) -> None:
                nonlocal done
                done += entries
                advance(entries)

            return store, await copy.load(store, path, overwrite=replace, name=label, progress=note)

    with _readable_twice(file) as (path, label):
        store, report = with_stores(
            config,
            act,
            interrupted=lambda: (
                f'{counted(done, "entry", "entries")} are stored. Run this again: what is stored is not written twice.'
            ),
        )
    if as_json:
        written = {'file': None if file == '-' else label, 'written': report.copied, 'present': report.present}
        left = {'erased': report.erased, 'doubtful': report.doubtful}
        echo_json(place(store) | written | {'differing': report.differing, **left, 'messages': report.messages})
    else:
        _print(report, label, store)
    if report.differing or report.doubtful:
        sys.exit(1)


@contextmanager
def _readable_twice(file: str) -> Iterator[tuple[str, str]]:
    """Copy what can be read but once to a file for this user alone; its path, and what messages call it."""
    label = 'the standard input' if file == '-' else os.path.abspath(file)
    if file != '-' and (os.path.isfile(file) or os.path.isdir(file) or not os.path.exists(file)):
        yield file, label
        return
    with tempfile.NamedTemporaryFile() as copied:
        if file == '-':
            shutil.copyfileobj(binary_input(), copied)
        else:
            with open(file, 'rb') as fifo:
                shutil.copyfileobj(fifo, copied)
        copied.flush()
        yield copied.name, label


def _print(report: copy.CopyReport, label: str, store: Store) -> None:
    echo_messages(report)
    entries = counted(report.copied, 'entry', 'entries')
    others = f'{report.present:,} were there already, {report.differing:,} with another value'
    click.echo(f'{entries} of {label} loaded into {where(store)}; {others}.', err=True)
    echo_erased(report)
    if report.differing:
        click.echo('Those were left as they are; --replace replaces them.', err=True)
