"""``lo-kvs remove-reducer``."""

from __future__ import annotations

import asyncio
import sys

import click

from learning_observer_kvs.cli.command import Command, config_option, json_option, store_option
from learning_observer_kvs.cli.common import Stores, counted, echo_json, place, progress, where, with_stores
from learning_observer_kvs.cli.unwritten import existing_when_written, longest_interval, say_waiting
from learning_observer_kvs.queries.kept import kept
from learning_observer_kvs.queries.remove import MAX_SEARCHES, Removed, remove_states
from learning_observer_kvs.stores.base import Store


@click.command('remove-reducer', cls=Command)
@click.argument('reducer')
@click.option('--yes', is_flag=True, help='Remove them.')
@config_option
@store_option
@json_option
def command(reducer: str, yes: bool, config: tuple[str, ...], name: str, as_json: bool) -> None:
    """Count the keys of REDUCER in one store, or remove them: with --yes.

    REDUCER is the name that is in the keys: writing.reconstruct in Internal,writing.reconstruct,STUDENT:ls-17. Both of
    its states go, of every student, and the notes on events that were replayed to it. Servers that still run it begin
    again from its null state, and make new keys: take it out of them first. The store is searched again until nothing
    is found; with flush_interval after the longest interval of the settings, as servers that run write until then what
    they keep. The exit status is 1 if the reducer has no key, or if keys come back each time.

    \b
    Examples:
      lo-kvs remove-reducer writing.reconstruct
      lo-kvs remove-reducer writing.reconstruct --yes
    """

    async def act(stores: Stores) -> tuple[Store, Removed]:
        interval = longest_interval(stores.router) if yes else 0.0
        store = await existing_when_written(stores, name, interval)
        with progress('Searching', total=None, unit='keys') as advance:
            if yes:
                return store, await remove_states(store, reducer, interval=interval, progress=advance, sleep=_wait)
            pages = kept(reducers=[reducer]).pages(store, advance)
            return store, Removed(sum([len(keys) async for keys in pages]), True)

    def interrupted() -> str:
        return 'Some keys may be removed. Run this again to remove the others.' if yes else 'Nothing was removed.'

    store, found = with_stores(config, act, interrupted=interrupted)
    if as_json:
        details = {'removed': found.keys, 'complete': found.is_complete} if yes else {'keys': found.keys}
        echo_json({**place(store), 'reducer': reducer, **details})
    else:
        done = ' removed.' if yes else ', none removed. With --yes they are removed.'
        click.echo(f'{counted(found.keys, "key")} of {reducer!r} in {where(store)}{done}', err=True)
    if not found.is_complete:
        click.echo(
            f'Keys of {reducer!r} came back each of {MAX_SEARCHES} times, and there may be more: events for it still '
            'arrive. Take it out of the servers and run this again.',
            err=True,
        )
    if not found.keys or not found.is_complete:
        sys.exit(1)


async def _wait(seconds: float) -> None:
    say_waiting(seconds)
    await asyncio.sleep(seconds)
