"""``lo-kvs dump``."""

from __future__ import annotations

import os
import sys
from typing import BinaryIO

import click

from learning_observer_kvs import audit
from learning_observer_kvs.checks.places import named
from learning_observer_kvs.cli.command import Command, config_option, json_option, store_option
from learning_observer_kvs.cli.common import (
    Stores,
    binary_output,
    counted,
    echo_json,
    place,
    progress,
    where,
    with_stores,
)
from learning_observer_kvs.privacy import pseudonyms
from learning_observer_kvs.privacy.pseudonyms import Pseudonyms, read_key
from learning_observer_kvs.queries.kept import Kept, kept
from learning_observer_kvs.queries.rows import entries, write_csv, write_ndjson
from learning_observer_kvs.stores import dump, suppression
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stream_analytics.fields import KeyStateType


@click.command('dump', cls=Command)
@click.argument('file', default='-')
@click.option('--prefix', default='', help='Only keys that begin with it.')
@click.option(
    '--student', 'students', metavar='STUDENT', multiple=True, help='Only states of this student; repeatable.'
)
@click.option('--reducer', 'reducers', metavar='REDUCER', multiple=True, help='Only states of this one; repeatable.')
@click.option(
    '--state', type=click.Choice(['internal', 'external']), help='Only these; of rows by default the external ones.'
)
@click.option('--csv', 'layout', flag_value='csv', help='Write a row for each state, as CSV.')
@click.option('--ndjson', 'layout', flag_value='ndjson', help='The same, as a JSON object on each line.')
@click.option(
    '--pseudonymize',
    metavar='KEYFILE',
    help='Write hashes for the ids of people; KEYFILE is made if it is missing.',
)
@click.option('--allow-empty', is_flag=True, help='Replace FILE even if there is no entry to write.')
@config_option
@store_option
@json_option
def command(
    file: str,
    prefix: str,
    students: tuple[str, ...],
    reducers: tuple[str, ...],
    state: str | None,
    layout: str | None,
    pseudonymize: str | None,
    allow_empty: bool,
    config: tuple[str, ...],
    name: str,
    as_json: bool,
) -> None:
    """Write a store to FILE as one JSON object, or print it: -, or without FILE.

    The file appears whole or not at all. It may be larger than memory. One that is there is not replaced by a dump
    without entries. Links are followed, and a device or FIFO is written to. The exit status is 1 if there are files
    that look like keys and are not in the dump.

    --student, --reducer and --state choose what is kept for students and by reducers. With --csv or --ndjson each
    state is a row: its reducer, the fields of its scope, when it was written (where the store knows), its bytes, and
    each of its entries.

    With --pseudonymize ids of students and teachers, and names in rosters, become hashes that only KEYFILE can repeat.
    What people wrote stays as it is.

    \b
    Examples:
      lo-kvs dump backup.json
      lo-kvs dump - | gzip > backup.json.gz
      lo-kvs dump of-bob.json --student bob
      lo-kvs dump words.csv --csv --reducer writing.reconstruct
      lo-kvs dump research.json --pseudonymize school.key
    """
    if prefix and (layout or students or reducers or state):
        raise click.UsageError('--prefix goes with none of --student, --reducer, --state, --csv and --ndjson.')
    if pseudonymize is not None and (layout or students or reducers or state):
        raise click.UsageError('--pseudonymize goes with none of --student, --reducer, --state, --csv and --ndjson.')
    is_printed = file == '-'
    what = None
    if layout or students or reducers or state:
        chosen = state or ('external' if layout else None)
        state_type = None if chosen is None else KeyStateType[chosen.upper()]
        what = kept(students=students, reducers=reducers, state_type=state_type)

    async def act(stores: Stores) -> tuple[Store, int, list[str]]:
        store = await stores.existing(name)
        with progress('Writing', total=None, unit='entries') as advance:
            target = binary_output() if is_printed else file
            if pseudonymize is not None:
                hashed = pseudonyms.entries(store, Pseudonyms(read_key(pseudonymize)), prefix)
                count = await dump.write(target, hashed, store.encode, allow_empty=allow_empty, progress=advance)
                audit.record('pseudonymized', audit.user(), store=name, entries=count, file=file)
                return store, count, await store.unrecognized()
            if what is None:
                count = await store.dump(target, prefix, allow_empty=allow_empty, progress=advance)
                return store, count, await store.unrecognized()
            if layout is None:
                erased = await suppression.read(store)
                suppressed = (erased.only(students) if students else erased).as_json()
                count = await dump.write(
                    target,
                    entries(store, what),
                    store.encode,
                    suppressed=suppressed,
                    allow_empty=allow_empty,
                    progress=advance,
                )
                return store, count, []

            async def write_to(file: BinaryIO, what: Kept = what) -> int:
                return await (write_csv if layout == 'csv' else write_ndjson)(file, store, what, advance)

            return store, await dump.write_whole(target, write_to, allow_empty=allow_empty), []

    def interrupted() -> str:
        if is_printed:
            return 'What was printed is not whole.'
        if dump.is_written_in_place(file):
            return f'What was written to {file} is not whole.'
        return f'{file} is as it was. Run this again.'

    store, count, unrecognized = with_stores(
        config,
        act,
        interrupted=interrupted,
    )
    path = None if is_printed else os.path.abspath(file)
    if as_json:
        report = place(store) | {'file': path, 'entries': count, 'unrecognized': unrecognized}
        echo_json(report, err=is_printed)
    else:
        number = counted(count, 'row') if layout else counted(count, 'entry', 'entries')
        click.echo(f'{number} of {where(store)} written{"" if path is None else f" to {path}"}.', err=True)
        if unrecognized:
            click.echo(f'Not in the dump: {named(unrecognized)}.', err=True)
    if unrecognized:
        sys.exit(1)
