"""What several commands share: the stores that they work on, output, and progress."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, BinaryIO, TypeVar

import click

from learning_observer_kvs import audit, kvs
from learning_observer_kvs.checks import places
from learning_observer_kvs.cli.command import interruptible
from learning_observer_kvs.config.rows import Configuration
from learning_observer_kvs.errors import StoreMissing
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.settings import read_settings
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.copy import CopyReport
from learning_observer_kvs.stores.deadline import limited_to
from learning_observer_kvs.stores.memory import InMemoryKVS

T = TypeVar('T')

RETRY_SECONDS = 3.0
"""How long each call of a command waits for a server that is away; a person waits for the command."""

SHOW_AFTER = 1.0
"""Seconds after which progress is shown."""


class Stores:
    """The stores of a configuration, for a command.

    Args:
        configuration: rows without an error.

    Attributes:
        configuration: as given.
        router: the stores.
    """

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self._rows = configuration.stores_by_name
        self.router = KVSRouter()
        self.router.configure(configuration)

    async def existing(self, name: str) -> Store:
        """Open a store without creating anything.

        Args:
            name: its name.

        Returns:
            The store.

        Raises:
            KVSNotConfigured: the configuration has no store of this name.
            StoreMissing: it is not there; the message says so, and where else one may be meant.
            StoreUnavailable: it cannot be used.
        """
        store = self.router[name]
        try:
            await store.open_existing()
        except StoreMissing as missing:
            found = places.beside_settings(self._rows[name])
            hint = (
                f' But {found[1]} exists: a relative path begins at the working directory. Run this in {found[0]}, or '
                'write the absolute path in the settings.'
                if found
                else ''
            )
            raise StoreMissing(f'Store {name!r}: {missing}{hint}') from None
        return store

    def to_write(self, name: str) -> Store:
        """Return a store that a command writes to, which is created where it is missing.

        Args:
            name: its name.

        Raises:
            KVSNotConfigured: the configuration has no store of this name.
            click.UsageError: it is a store in memory.
        """
        store = self.router[name]
        if isinstance(store, InMemoryKVS):
            raise click.UsageError(
                f'Store {store.name!r} is of type {store.TYPE}: what is written there is gone when this command ends. '
                'Name another store.'
            )
        return store


def with_stores(
    config: tuple[str, ...],
    act: Callable[[Stores], Awaitable[T]],
    *,
    interrupted: Callable[[], str],
    retry_seconds: float | None = RETRY_SECONDS,
) -> T:
    """Run a coroutine function on the stores of a configuration, in a new event loop, and close them.

    Args:
        config: the paths of the settings.
        act: what to do with the stores.
        interrupted: returns what is done, and how to go on, after Ctrl-C.
        retry_seconds: how long each call waits for a server that is away; ``None``: as its ``retry_timeout`` says.

    Returns:
        What ``act`` returned.

    Raises:
        StartupCheck: the settings are wrong.
        KVSError: what ``act`` raised.
        Interrupted: Ctrl-C was pressed.
    """

    async def run() -> T:
        stores = Stores(kvs.checked(read_settings(config)))
        async with stores.router:
            stack.enter_context(audit.kept_in(stores.configuration.audit))
            if retry_seconds is None:
                return await act(stores)
            with limited_to(retry_seconds):
                return await act(stores)

    with interruptible(interrupted), ExitStack() as stack:
        return asyncio.run(run())


def where(store: Store) -> str:
    """Return a store as the answers of commands name it.

    Args:
        store: the store.

    Returns:
        Its name, and its absolute path or address.
    """
    return f'store {store.name!r} ({store.location()})'


def place(store: Store) -> dict[str, str]:
    """Return a store as the JSON of answers names it.

    Args:
        store: the store.
    """
    return {'store': store.name, 'location': store.location()}


def binary_input() -> BinaryIO:
    """Return the standard input as bytes; JSON is UTF-8, whatever the locale.

    Raises:
        click.UsageError: it is closed.
    """
    if sys.stdin is None:
        raise click.UsageError('The standard input is closed.')
    return sys.stdin.buffer


def binary_output() -> BinaryIO:
    """Return the standard output as bytes; JSON is UTF-8, whatever the locale."""
    return sys.stdout.buffer


def echo_json(value: Any, indent: int | None = 2, *, err: bool = False) -> None:
    """Print a value as JSON; if the terminal cannot encode it (a lone surrogate, for example), all in ASCII.

    Args:
        value: any JSON value.
        indent: spaces of a level; ``None`` prints one line.
        err: whether to print it to standard error.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    try:
        text.encode(getattr(sys.stderr if err else sys.stdout, 'encoding', None) or 'utf-8')
    except UnicodeEncodeError:
        text = json.dumps(value, indent=indent)
    click.echo(text, err=err)


def echo_messages(report: CopyReport) -> None:
    """Print to standard error what was wrong with single keys, and how many there are beyond those that are named.

    Args:
        report: of a copy, or of a file that was loaded.
    """
    for line in report.messages:
        click.echo(printable(line), err=True)
    others = report.differing + report.failed + report.doubtful - len(report.messages)
    if others > 0:
        click.echo(f'… and {others:,} more.', err=True)


def echo_erased(report: CopyReport) -> None:
    """Print to standard error how many entries were of erased students.

    Args:
        report: of a copy, or of a file that was loaded.
    """
    if report.erased:
        entries = counted(report.erased, 'entry of an erased student was', 'entries of erased students were')
        click.echo(f'{entries} left out; lo-kvs suppressed lists them, and lifts that.', err=True)


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
    """Show a progress bar, once something lasts over ``SHOW_AFTER`` seconds, while standard error is a terminal.

    Args:
        label: the text before the bar.
        total: how many steps there are; ``None`` if that is not known.
        unit: what a step is, in the plural.

    Yields:
        A function that advances the bar by a number of steps.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda steps: None
        return
    bar = _Bar(label, total, unit)
    timer = threading.Timer(SHOW_AFTER, bar.show)
    timer.daemon = True
    timer.start()
    try:
        yield bar.advance
    finally:
        timer.cancel()
        bar.hide()


class _Bar:
    """A progress bar that may be shown by another thread."""

    def __init__(self, label: str, total: int | None, unit: str) -> None:
        self._label, self._total, self._unit = label, total, unit
        self._lock = threading.Lock()
        self._done = 0
        self._hide: Callable[[], None] | None = None
        self._update: Callable[[int], None] = lambda done: None
        self._is_over = False

    def show(self) -> None:
        """Show the bar, unless what it measures is over."""
        from rich.console import Console  # slow to import, and seldom needed
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns: list[Any] = [TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn()]
        columns += [TextColumn(self._unit), TimeRemainingColumn()]
        with self._lock:
            if self._is_over:
                return
            bar = Progress(*columns, console=Console(stderr=True), transient=True)
            task = bar.add_task(self._label, total=self._total, completed=self._done)
            self._update = lambda done: bar.update(task, completed=done)
            self._hide = bar.stop
            bar.start()

    def advance(self, steps: int) -> None:
        """Advance the bar.

        Args:
            steps: how many steps were done since the last call.
        """
        self._done += steps
        self._update(self._done)

    def hide(self) -> None:
        """Remove the bar, or do not show it any more."""
        with self._lock:
            self._is_over = True
            if self._hide is not None:
                self._hide()
