"""``lo-kvs expire``."""

from __future__ import annotations

import sys
import time

import click

from learning_observer_kvs import audit
from learning_observer_kvs.cli.command import Command, config_option, json_option
from learning_observer_kvs.cli.common import Stores, counted, echo_json, printable, progress, where, with_stores
from learning_observer_kvs.cli.student import Scope, scope_of
from learning_observer_kvs.config.options import seconds_of_age
from learning_observer_kvs.privacy.retention import Expired, expire


@click.command('expire', cls=Command)
@click.option('--older-than', help='The age, such as 5y; by default retention.older_than of the settings.')
@click.option('--dry-run', is_flag=True, help='Print the states, and remove nothing.')
@config_option
@json_option
def command(older_than: str | None, dry_run: bool, config: tuple[str, ...], as_json: bool) -> None:
    """Remove the states of students that were last written long ago, from all stores of the settings.

    The age is retention.older_than of the settings, or --older-than: 30d, 8w, 18m or 5y. Both states of a reducer go
    together, by the later of their times. Redis does not keep these times: there use redis_ephemeral, whose keys expire
    by themselves. The exit status is 1 if states have no time, or cannot be read, such as a Redis key of another type.

    \b
    Example:
      lo-kvs expire --dry-run
    """
    shown: list[str] = []

    async def act(stores: Stores) -> tuple[dict[str, Expired], Scope, str]:
        retention = stores.configuration.retention
        of_settings = None if retention is None else retention.mapping.get('older_than')
        age = of_settings if older_than is None else older_than
        seconds = None if age is None else seconds_of_age(age)
        if age is None or seconds is None:
            raise click.UsageError(
                'Give an age, such as --older-than 5y, or retention: {older_than: 5y} in the settings.'
            )
        before = time.time() - seconds
        scope = await scope_of(stores, ())
        if not dry_run:
            audit.record('expiring', audit.user(), older_than=age)
        found = {}
        with progress('Searching', total=None, unit='keys') as advance:
            for name, store in scope.stores.items():
                found[name] = await expire(
                    store, before, dry_run=dry_run, on_old=show if dry_run else lambda key: None, progress=advance
                )
        if not dry_run:
            removed = {name: one.removed for name, one in found.items()}
            audit.record('expired', audit.user(), older_than=age, removed=removed)
        return found, scope, age

    def show(key: str) -> None:
        shown.append(key)
        if not as_json:
            click.echo(printable(key))

    found, scope, age = with_stores(
        config,
        act,
        interrupted=lambda: 'Nothing was removed.' if dry_run else 'Some states are removed. Run this again.',
    )
    if as_json:
        stores = {
            name: {
                'old': one.states,
                'removed': one.removed,
                'kept': one.kept,
                'undated': one.undated,
                'unreadable': one.unreadable,
                'messages': one.messages,
            }
            for name, one in found.items()
        }
        extra = {'states': shown} if dry_run else {}
        echo_json({'older_than': age, 'stores': stores, 'not_reached': scope.not_reached} | extra)
    else:
        for name, one in found.items():
            for message in one.messages:
                click.echo(printable(message), err=True)
            done = 'none removed' if dry_run else f'{one.removed:,} removed'
            click.echo(
                f'{where(scope.stores[name])}: {counted(one.states, "state")} older than {age}, {done}; {one.kept:,} '
                f'younger, {one.undated:,} without a time, {one.unreadable:,} unreadable.',
                err=True,
            )
        for text in scope.not_reached:
            click.echo(printable(f'Not searched: {text}'), err=True)
    if any(one.undated or one.unreadable for one in found.values()):
        sys.exit(1)
