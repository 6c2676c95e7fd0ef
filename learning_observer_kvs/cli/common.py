"""What several commands share: the options that name settings and a store, output, and progress."""

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
from learning_observer_kvs.stores.deadline import limited_to
from learning_observer_kvs.stores.memory import InMemoryKVS

T = TypeVar('T')

RETRY_SECONDS = 3.0
"""How long each call of a command waits for a server that is away; a person waits for the command."""

config_option = click.option(
    '--config',
    '-c',
    multiple=True,
    type=click.Path(),
    default=['creds.yaml'],
    envvar='LO_KVS_CONFIG',
    show_default=True,
    show_envvar=True,
    help='The settings; repeatable, and the first file that has a value wins.',
)
store_option = click.option(
    '--store', '-s', 'name', default='default', show_default=True, help="The store's name in the settings."
)
json_option = click.option('--json', 'as_json', is_flag=True, help='Print JSON.')


def persistent(store: Store) -> Store:
    """Check that what a command writes to a store is still there after the command.

    Args:
        store: where the command is to write.

    Returns:
        The same store.

    Raises:
        click.UsageError: it is a store in memory.
    """
    if isinstance(store, InMemoryKVS):
        raise click.UsageError(
            f'Store {store.name!r} is of type {store.TYPE}: what is written there is gone when this command ends. '
            'Name another store.'
        )
    return store


def with_store(config: tuple[str, ...], name: str, act: Callable[[Store], Awaitable[T]]) -> T:
    """Run a coroutine function on a store of a configuration, in a new event loop, and close the store.

    Args:
        config: the paths of the settings.
        name: the store's name in them.
        act: what to do with the store.

    Returns:
        What ``act`` returned.

    Raises:
        StartupCheck: the settings are wrong.
        KVSNotConfigured: they have no store of this name.
        KVSError: what ``act`` raised.
    """
    return with_router(config, lambda router: act(router[name]))


def with_router(config: tuple[str, ...], act: Callable[[KVSRouter], Awaitable[T]]) -> T:
    """Run a coroutine function on the stores of a configuration, in a new event loop, and close them.

    Args:
        config: the paths of the settings.
        act: what to do with the stores.

    Returns:
        What ``act`` returned.

    Raises:
        StartupCheck: the settings are wrong.
        KVSError: what ``act`` raised.
    """

    async def run() -> T:
        with limited_to(RETRY_SECONDS):
            async with KVSRouter.from_settings(config) as router:
                return await act(router)

    return asyncio.run(run())


def echo_json(value: Any, indent: int | None = 2) -> None:
    """Print a value as JSON; if the terminal cannot encode it (a lone surrogate, for example), all in ASCII.

    Args:
        value: any JSON value.
        indent: spaces of a level; ``None`` prints one line.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or 'utf-8')
    except UnicodeEncodeError:
        text = json.dumps(value, indent=indent)
    click.echo(text)


def printable(text: str) -> str:
    """Escape what would move the terminal's cursor or end the line.

    Args:
        text: any text, such as a key that a student chose.

    Returns:
        The text with backslash escapes in place of characters that are not printable.
    """
    return ''.join(c if c.isprintable() else c.encode('unicode_escape').decode() for c in text)


def counted(number: int, noun: str, plural: str = '') -> str:
    """Format a number with its noun: ``1 key``, ``2,000 keys``.

    Args:
        number: how many.
        noun: in the singular.
        plural: in the plural, if it is not the singular with an ``s``.

    Returns:
        The number, with commas, and the noun.
    """
    return f'{number:,} {noun if number == 1 else plural or noun + "s"}'


@contextmanager
def progress(label: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
    """Show a progress bar while standard error is a terminal.

    Args:
        label: the text before the bar.
        total: how many steps there are; ``None`` if that is not known.
        unit: what a step is, in the plural.

    Yields:
        A function that advances the bar by a number of steps.
    """
    if not sys.stderr.isatty():
        yield lambda steps: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns: list[Any] = [TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TextColumn(unit)]
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda steps: bar.advance(task, steps)
