"""The problems that a configuration, or what it names, can have; and their report."""

from __future__ import annotations

import difflib
import enum
import logging
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from learning_observer_kvs.errors import StartupCheck

log = logging.getLogger('learning_observer_kvs')


class Level(enum.IntEnum):
    """The severity of a problem."""

    WARNING = 1
    ERROR = 2


CATALOGUE: dict[str, tuple[str, str]] = {
    'KVS.E000': ('The settings cannot be read', 'Give the path of a readable YAML file.'),
    'KVS.E001': ('The kvs block is missing', 'Add a kvs block with a default store.'),
    'KVS.E002': (
        'The kvs block has the wrong shape',
        'Write it as a mapping, or as an array of [name, options] pairs.',
    ),
    'KVS.E003': ('The default store is missing', 'Add kvs.default; reducers keep their state there.'),
    'KVS.E004': ('An unknown type of store', 'Use one of the types that are listed.'),
    'KVS.E005': ('A store without a type', 'Add a type.'),
    'KVS.E006': ('The options of a store are not a mapping', 'Write the options below the name, one a line.'),
    'KVS.E007': ('A required option is missing', 'Add it.'),
    'KVS.E008': ('An option that no type of store has', 'Correct its name, or remove it.'),
    'KVS.E009': ('An option has a value of the wrong kind', 'Write the value as it is described.'),
    'KVS.E010': (
        'A store has a name that is not allowed',
        'Choose a name that is an identifier and not a method of the router.',
    ),
    'KVS.E011': ('Two stores have the same name', 'Give each its own name.'),
    'KVS.E012': ('Two stores would use the same path', 'Give each its own path.'),
    'KVS.E013': ('A key is written twice', 'Remove one.'),
    'KVS.E014': ('An option of redis_connection is wrong', 'Write the value as it is described.'),
    'KVS.E015': ('An option of kvs_debug is wrong', 'Write the value as it is described.'),
    'KVS.E016': ('An environment variable is not set', 'Set it, or write the value itself.'),
    'KVS.E017': ('A store type of an installed package cannot be used', 'Fix or update that package.'),
    'KVS.E018': ('A store cannot be used', 'Check the file, directory or server that is named.'),
    'KVS.E019': ('A store does not answer in time', 'Check that its server runs and can be reached.'),
    'KVS.E020': ('A Redis is a replica', 'Name its master.'),
    'KVS.E021': ('A cluster holds keys of reducers under the names of a single server', 'Copy them with lo-kvs copy.'),
    'KVS.E022': ('A Redis refuses commands or keys of a store', 'Allow them.'),
    'KVS.E023': ('Two reducers would keep their states under the same keys', 'Give one of them another name.'),
    'KVS.E030': ('An option of privacy or retention is wrong', 'Write the value as it is described.'),
    'KVS.W001': ('An option that this type does not use', 'Remove it, or choose the type it belongs to.'),
    'KVS.W002': ('An unknown option of redis_connection', 'Remove it, or correct its name.'),
    'KVS.W003': (
        'A Redis store sees the keys of another',
        'Give each a prefix of its own, none of which begins with another.',
    ),
    'KVS.W004': ('An unknown run mode', 'Write dev, deploy or interactive.'),
    'KVS.W005': ('A block whose name is a misspelling', 'Correct the name.'),
    'KVS.W006': ('A value is hidden by another file', 'Remove one of the two, or change the order of the files.'),
    'KVS.W007': ('A Redis keeps its data in memory only', 'Switch on its append-only file, or snapshots.'),
    'KVS.W008': ('A Redis removes any key when its memory is full', 'Give it another maxmemory-policy.'),
    'KVS.W009': ('The last save of a Redis failed', 'Look at its log, and at the disk it saves to.'),
    'KVS.W010': ('An SQLite file is busy', 'Look for a transaction that another process left open.'),
    'KVS.W012': ('A Redis store without a prefix shares its database', 'Give it a prefix, or a database of its own.'),
    'KVS.W013': ('A Redis evicts idempotency records when its memory is full', 'Give it another maxmemory-policy.'),
    'KVS.W017': (
        'Files look like keys and are not',
        'Move them away; or put their values under keys with lo-kvs set.',
    ),
    'KVS.W018': (
        'A store is where the settings are, not in the working directory',
        'Start in that folder, or write the absolute path.',
    ),
    'KVS.W014': ('A fail-over of a Redis loses acknowledged writes', 'Have it accept only what a replica can have.'),
    'KVS.W021': ('A value of a PMSS file is in quotes', 'Write it without.'),
    'KVS.W020': ('Others can read the data of a store', 'Take the permission from them with chmod.'),
}
"""For each id what the problem is, and the general hint. An id never changes its meaning."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with the settings, or with a file, directory or server that they name.

    Args:
        id: its entry in :data:`CATALOGUE`.
        location: its source location, as ``creds.yaml:57``; empty until a check that knows the settings fills it in.
        subject: the option that the problem is about, dotted: ``kvs.default.type``. A store, which does not know its
            location in the settings, gives the name of the option alone.
        message: what is wrong, as the rest of a sentence that begins with the subject.
        hint: what to do, as a sentence.
    """

    id: str
    location: str
    subject: str
    message: str
    hint: str

    @property
    def level(self) -> Level:
        """How severe it is: an error stops the start."""
        return Level.ERROR if self.id.startswith('KVS.E') else Level.WARNING

    def as_dict(self) -> dict[str, str]:
        """Return the fields for programs.

        Returns:
            All fields by name, and ``level`` as ``error`` or ``warning``.
        """
        return asdict(self) | {'level': self.level.name.lower()}

    def __str__(self) -> str:
        """Return the line of a report."""
        return f'{self.location}  {self.subject} {self.message}. {self.hint}  [{self.id}]'


def report(problems: Iterable[Problem]) -> str:
    """Return all problems as one text, the errors first.

    Args:
        problems: at least one.

    Returns:
        A heading, and a line for each problem.
    """
    listed = sorted(problems, key=lambda problem: -problem.level)
    errors = sum(problem.level is Level.ERROR for problem in listed)
    counted = '1 error' if errors == 1 else f'{errors} errors'
    heading = (
        f'The key-value store cannot start. {counted} must be fixed:'
        if errors
        else 'The key-value store can start, but:'
    )
    return '\n'.join([heading, '', *(f'  {problem}' for problem in listed)])


def raise_on_errors(problems: Iterable[Problem]) -> None:
    """Stop the start if there is an error; otherwise log the warnings.

    Args:
        problems: those that were found.

    Raises:
        StartupCheck: at least one is an error. Its text is the report, its ``problems`` are all of them.
    """
    listed = list(problems)
    if any(problem.level is Level.ERROR for problem in listed):
        raise StartupCheck(report(listed), problems=listed)
    for problem in listed:
        log.warning('%s', problem)


def announce(message: str) -> None:
    """Log what has to be seen when a server starts.

    Args:
        message: a line. Where the program has not configured its logging it is printed to standard error, as Python
            prints warnings then.
    """
    log.info('%s', message)
    if not log.hasHandlers():
        print(message, file=sys.stderr, flush=True)


def did_you_mean(word: object, known: Iterable[str]) -> str | None:
    """Return a hint for a misspelled word.

    Args:
        word: what is written.
        known: the words that could be meant.

    Returns:
        ``Did you mean 'redis'?``; ``None`` if no known word is similar.
    """
    similar = difflib.get_close_matches(str(word), list(known), 1)
    return f'Did you mean {similar[0]!r}?' if similar else None
