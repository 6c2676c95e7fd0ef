"""What several commands share: the options that name a store, and progress."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.memory import InMemoryKVS

T = TypeVar('T')

config_option = click.option(
    '--config',
    '-c',
    multiple=True,
    type=click.Path(),
    default=['creds.yaml'],
    envvar='LO_KVS_CONFIG',
    show_default=True,
    show_envvar=True,
    help='The settings; of several files the first that has a value wins.',
)
store_option = click.option('--store', '-s', 'name', default='default', show_default=True, help='Which store.')
json_option = click.option('--json', 'as_json', is_flag=True, help='Print JSON, for programs.')


def lasting(store: Store) -> Store:
    """The store, if what is put there is there when the command has ended."""
    if isinstance(store, InMemoryKVS):
        raise click.UsageError(
            f'Store {store.name!r} is of type {store.TYPE}: what is put there is gone when this command ends. Name '
            'another store.'
        )
    return store


def with_store(config: tuple[str, ...], name: str, act: Callable[[Store], Awaitable[T]]) -> T:
    """Run something on a store of a configuration, in a loop of its own."""

    async def run() -> T:
        async with KVSRouter.from_settings(config) as router:
            return await act(router[name])

    return asyncio.run(run())


def echo_json(value: Any, indent: int | None = 2) -> None:
    """Print a value as JSON; what the terminal cannot show, such as half of an emoji, is escaped."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or 'utf-8')
    except UnicodeEncodeError:
        text = json.dumps(value, indent=indent)
    click.echo(text)


def printable(text: str) -> str:
    """A text of others for a line of the terminal: what would move its cursor or end the line is escaped."""
    return ''.join(c if c.isprintable() else c.encode('unicode_escape').decode() for c in text)


def counted(number: int, what: str, plural: str = '') -> str:
    """``1 key``, ``2,000 keys``."""
    return f'{number:,} {what if number == 1 else plural or what + "s"}'


@contextmanager
def progress(what: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
    """A bar on the terminal; nothing where there is none. Gives a function that moves it on."""
    if not sys.stderr.isatty():
        yield lambda steps: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns: list[Any] = [TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TextColumn(unit)]
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda steps: bar.advance(task, steps)
