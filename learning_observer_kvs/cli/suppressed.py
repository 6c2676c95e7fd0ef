"""``lo-kvs suppressed``."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import click

from learning_observer_kvs import audit, privacy
from learning_observer_kvs.cli.command import Command, config_option, json_option
from learning_observer_kvs.cli.common import Stores, counted, echo_json, printable, with_stores
from learning_observer_kvs.cli.student import ids_of, scope_of
from learning_observer_kvs.stores.suppression import Entry


@click.command('suppressed', cls=Command)
@click.argument('student', required=False)
@click.option('--hash', 'hashes', multiple=True, help='Only the entry with this hash, as it is listed; repeatable.')
@click.option('--lift', is_flag=True, help='Remove the entries, so that older data may come back.')
@config_option
@json_option
def command(student: str | None, hashes: tuple[str, ...], lift: bool, config: tuple[str, ...], as_json: bool) -> None:
    """List the erased students whose older data load, copy and replay leave out, or lift that.

    A store does not know their ids, but keyed hashes of them, with the time of the erasure. With STUDENT only the
    entries of that id are listed, or lifted. The exit status is 1 if there are none of STUDENT or --hash.

    \b
    Examples:
      lo-kvs suppressed
      lo-kvs suppressed ls-17 --lift
    """
    if student is not None:
        ids_of(student, ())
    if lift and student is None and not hashes:
        raise click.UsageError('Say what to lift: STUDENT, or --hash.')

    async def act(stores: Stores) -> Mapping[str, list[Entry]]:
        scope = await scope_of(stores, ())
        found = await privacy.suppressed(scope.stores, student, hashes)
        listed = sorted({entry.hash for entries in found.values() for entry in entries})
        if lift:
            audit.record('lifting', audit.user(), hashes=listed)
            await privacy.lift(scope.stores, found)
        audit.record('lifted' if lift else 'listed', audit.user(), hashes=listed)
        return found

    found = with_stores(config, act, interrupted=lambda: 'Some may be lifted.' if lift else 'Nothing was changed.')
    count = sum(map(len, found.values()))
    if as_json:
        entries = [
            {'store': name, 'hash': entry.hash, 'erased': audit.iso_time(entry.erased)}
            for name, listed in found.items()
            for entry in listed
        ]
        echo_json({'lifted' if lift else 'suppressed': entries})
    else:
        for name, listed in found.items():
            for entry in listed:
                click.echo(f'{entry.hash}  {audit.iso_time(entry.erased)}  {printable(name)}')
        click.echo(f'{counted(count, "entry", "entries")}{" lifted" if lift else ""}.', err=True)
    if not count and (student is not None or hashes):
        sys.exit(1)
