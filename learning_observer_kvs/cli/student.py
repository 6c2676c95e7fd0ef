"""What the privacy commands share: where they look, and how they name a student and places."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import click

from learning_observer_kvs.cli.common import Stores, place, printable, where
from learning_observer_kvs.cli.unwritten import existing_when_written, longest_interval
from learning_observer_kvs.config.paths import absolute
from learning_observer_kvs.errors import StoreMissing
from learning_observer_kvs.identifiers import Ids
from learning_observer_kvs.privacy.places import Place
from learning_observer_kvs.stores.base import Store

alias_option = click.option(
    '--alias', 'aliases', multiple=True, help='Another id or an address of the same student; repeatable.'
)
folder_option = click.option(
    '--folder',
    'folders',
    multiple=True,
    type=click.Path(exists=True),
    help='A folder of study logs or failed events besides those that the settings name; repeatable.',
)


class Scope(NamedTuple):
    """Where a privacy command looks.

    Attributes:
        stores: the stores by name.
        folders: the folders.
        not_reached: what it cannot see, as sentences.
        interval: seconds for which running servers may keep what is to be written.
    """

    stores: Mapping[str, Store]
    folders: list[str]
    not_reached: list[str]
    interval: float

    def missing(self, not_reached: Iterable[str]) -> Scope:
        """Return the same with more that it cannot see.

        Args:
            not_reached: sentences.
        """
        return self._replace(not_reached=[*self.not_reached, *not_reached])

    def as_json(self) -> dict[str, object]:
        """Return what was searched, as the JSON of answers has it."""
        searched: list[object] = [place(store) for store in self.stores.values()]
        return {'searched': searched + self.folders, 'not_reached': self.not_reached}

    def print_searched(self) -> None:
        """Say what was searched, and what was not."""
        for text in [*map(where, self.stores.values()), *(f'folder {folder}' for folder in self.folders)]:
            click.echo(printable(f'Searched: {text}'), err=True)
        for text in self.not_reached:
            click.echo(printable(f'Not searched: {text}'), err=True)


async def scope_of(stores: Stores, folders: tuple[str, ...], *, waits: bool = False) -> Scope:
    """Open everything that the settings name, without creating anything.

    Args:
        stores: the stores of the settings.
        folders: more folders.
        waits: whether to wait for a store that is not there yet, because a running server may be about to make it.

    Returns:
        Where to look.

    Raises:
        StoreMissing: none of the stores is there.
        StoreUnavailable: a store cannot be used.
    """
    opened: dict[str, Store] = {}
    not_reached: list[str] = []
    named: dict[str, None] = {}
    for folder in folders:
        named[absolute(folder)] = None
    if (study_logs := stores.configuration.study_logs) is not None:
        named[study_logs] = None
    longest = longest_interval(stores.router)
    missing: StoreMissing | None = None
    for name in stores.router.names():
        named[stores.router[name].failed_events] = None
        try:
            opened[name] = await existing_when_written(stores, name, longest if waits else 0.0)
        except StoreMissing as error:
            missing = missing or error
            not_reached.append(str(error))
    if missing is not None and not opened:
        raise missing
    return Scope(opened, list(named), not_reached, longest)


def ids_of(student: str, aliases: tuple[str, ...]) -> Ids:
    """Return the ids that a command was given.

    Args:
        student: the id.
        aliases: the others.

    Raises:
        click.UsageError: one is empty.
    """
    try:
        return Ids((student, *aliases))
    except ValueError:
        raise click.BadParameter('An id must have at least one character.', param_hint='STUDENT') from None


def place_json(found: Place) -> dict[str, object]:
    """Return a place as the JSON of answers has it.

    Args:
        found: the place.
    """
    parts = [{'path': list(part.path), 'rule': part.rule} for part in found.parts]
    if found.store is None:
        return {'file': found.location, 'parts': parts}
    return {'store': found.store, 'location': found.location, 'key': found.shown_key, 'parts': parts}


def print_place(found: Place) -> None:
    """Print a place, a line for the key or file and each part of it.

    Args:
        found: the place.
    """
    shown = found.parts[:10]
    for part in shown:
        where = found.shown + (f'  {part}' if part.path else '')
        rule = part.rule or 'no rule is known'
        click.echo(f'{printable(where)}  ({rule})')
    if len(found.parts) > len(shown):
        click.echo(f'{printable(found.shown)}  … and {len(found.parts) - len(shown):,} more')


def aliases_hint(found: Iterable[str]) -> None:
    """Print to standard error what else the student is called, if anything.

    Args:
        found: the other ids and addresses.
    """
    if names := ', '.join(map(repr, sorted(found))):
        text = f'Other data calls this student also: {names}. Search for what is right of that with --alias.'
        click.echo(printable(text), err=True)
