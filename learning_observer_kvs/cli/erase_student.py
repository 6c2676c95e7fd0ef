"""``lo-kvs erase-student``."""

from __future__ import annotations

import asyncio
import sys

import click

from learning_observer_kvs.cli.common import config_option, counted, printable, progress, store_option, with_store
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stream_analytics.fields import KeyField
from learning_observer_kvs.stream_analytics.keys import parse_key, state_key

KEYS_AT_ONCE = 1000
"""How many keys are looked at, and removed, at a time."""


@click.command('erase-student')
@click.argument('student')
@click.option('--dry-run', is_flag=True, help='Print the keys without removing them.')
@config_option
@store_option
def command(student: str, dry_run: bool, config: tuple[str, ...], name: str) -> None:
    """Remove every reducer key of STUDENT from one store.

    STUDENT is the name that is in the keys: ls-17 in STUDENT:ls-17. Events that arrive meanwhile make new keys: end
    the student's sessions first. Study logs and dumps are not touched. The exit status is 1 if the student has no key.

    \b
    Example:
      lo-kvs erase-student ls-17 --dry-run
    """

    async def act(store: Store) -> int:
        found = 0
        with progress('Searching', total=None, unit='keys') as advance:
            cursor: str | None = None
            while True:
                page = await store.scan('', cursor, KEYS_AT_ONCE)
                keys = [key for key in dict.fromkeys(page.keys) if _student_of(key) == student]
                if dry_run:
                    found += len(keys)
                    click.echo(''.join(f'{printable(key)}\n' for key in keys), nl=False)
                else:
                    found += sum(await asyncio.gather(*map(store.remove, keys)))
                advance(len(page.keys))
                cursor = page.cursor
                if cursor is None:
                    return found

    found = with_store(config, name, act)
    done = ', none removed' if dry_run else ' removed'
    click.echo(f'{counted(found, "key")} of {student!r} in store {name!r}{done}.', err=True)
    if not found:
        sys.exit(1)


def _student_of(key: str) -> str | None:
    parsed = parse_key(state_key(key))
    return parsed.fields.get(KeyField.STUDENT.name) if parsed else None
