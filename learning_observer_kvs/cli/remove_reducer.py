"""``lo-kvs remove-reducer``."""

from __future__ import annotations

import sys

import click

from learning_observer_kvs.cli import removal
from learning_observer_kvs.cli.command import Command, config_option, json_option, store_option
from learning_observer_kvs.queries.kept import kept


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
    ended = removal.run(config, name, kept(reducers=[reducer]), removes=yes)
    details = {'removed': ended.keys, 'complete': ended.is_complete} if yes else {'keys': ended.keys}
    status = removal.report(
        ended,
        {'reducer': reducer},
        details if as_json else None,
        still='events for it still arrive. Take it out of the servers and run this again.',
        hint='' if yes else '. With --yes they are removed.',
    )
    if status:
        sys.exit(status)
