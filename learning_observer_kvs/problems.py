"""What can be wrong with a configuration: each fault with an id that never changes its meaning, and its report."""

from __future__ import annotations

import enum
import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from learning_observer_kvs.errors import StartupCheck

log = logging.getLogger('learning_observer_kvs')


class Level(enum.IntEnum):
    """How bad a problem is."""

    WARNING = 1
    ERROR = 2


CATALOGUE: dict[str, tuple[str, str]] = {
    'KVS.E000': ('The settings cannot be read', 'Give the path of a readable YAML file.'),
    'KVS.E001': ('There is no kvs block', 'Add a kvs block with a default store.'),
    'KVS.E002': (
        'The kvs block has the wrong shape',
        'Write it as a mapping, or as an array of [name, options] pairs.',
    ),
    'KVS.E003': ('There is no default store', 'Add kvs.default; reducers keep their state there.'),
    'KVS.E004': ('An unknown type of store', 'Use one of the types that are listed.'),
    'KVS.E005': ('A store without a type', 'Add a type.'),
    'KVS.E006': ('The options of a store are no mapping', 'Write the options below the name, one a line.'),
    'KVS.E007': ('A required option is missing', 'Add it.'),
    'KVS.E008': ('An option no type knows', 'Correct the word, or take it out.'),
    'KVS.E009': ('An option has a value of the wrong kind', 'Write the value as it is described.'),
    'KVS.E010': (
        'A store has a name it cannot have',
        'Choose a name that is a plain word and no method of the router.',
    ),
    'KVS.E011': ('Two stores have the same name', 'Give each its own name.'),
    'KVS.E012': ('Two stores would use the same place', 'Give each its own path.'),
    'KVS.E013': ('A key is written twice', 'Take one of the two out.'),
    'KVS.E014': ('A setting of redis_connection is wrong', 'Write the value as it is described.'),
    'KVS.E015': ('A setting of kvs_debug is wrong', 'Write the value as it is described.'),
    'KVS.E016': ('A variable of the environment is not set', 'Set it, or write the value itself.'),
    'KVS.E017': ('A type of store that an installed package brings cannot be used', 'Mend or update that package.'),
    'KVS.E018': ('A store cannot be used', 'See to the file, folder or server that is named.'),
    'KVS.E019': ('A store does not answer in time', 'See whether its server runs and can be reached.'),
    'KVS.E020': ('A Redis is a replica', 'Name its master.'),
    'KVS.E021': ('A cluster holds keys of reducers under the names of a single server', 'Copy them with lo-kvs copy.'),
    'KVS.W001': ('An option that this type does not use', 'Take it out, or choose the type it belongs to.'),
    'KVS.W002': ('An unknown setting of redis_connection', 'Take it out, or correct the word.'),
    'KVS.W003': (
        'A Redis store sees the keys of another',
        'Give each a prefix of its own, none of which begins with another.',
    ),
    'KVS.W004': ('An unknown run mode', 'Write dev, deploy or interactive.'),
    'KVS.W005': ('A block that looks like one of ours, misspelled', 'Correct the word.'),
    'KVS.W006': ('A value is hidden by another file', 'Take one of the two out, or change the order of the files.'),
    'KVS.W007': ('A Redis keeps its data in memory alone', 'Switch on its append-only file, or snapshots.'),
    'KVS.W008': ('A Redis removes any key when its memory is full', 'Give it another maxmemory-policy.'),
    'KVS.W009': ('The last save of a Redis failed', 'Look at its log, and at the disk it saves to.'),
    'KVS.W010': ('An SQLite file is busy', 'Look for a transaction that another process left open.'),
}
"""id: (what it is, what cures it)."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with the settings, or with a file, folder or server that they name.

    Args:
        id: its entry in :data:`CATALOGUE`.
        location: where in the settings, as ``creds.yaml:57``; empty until a check that knows the settings fills it in.
        subject: the option that the problem is about, dotted: ``kvs.default.type``. A store, which does not know its
            place in the settings, gives the name of the option alone.
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
        """An error stops the start."""
        return Level.ERROR if self.id.startswith('KVS.E') else Level.WARNING

    def as_dict(self) -> dict[str, str]:
        """The same for programs, with the level as ``error`` or ``warning``."""
        return asdict(self) | {'level': self.level.name.lower()}

    def __str__(self) -> str:
        return f'{self.location}  {self.subject} {self.message}. {self.hint}  [{self.id}]'


def report(problems: Iterable[Problem]) -> str:
    """One screen of text that says it all."""
    listed = sorted(problems, key=lambda problem: -problem.level)
    errors = sum(problem.level is Level.ERROR for problem in listed)
    many = f'{errors} faults have' if errors > 1 else 'One fault has'
    head = (
        f'The key-value store cannot start. {many} to be mended:' if errors else 'The key-value store can start, but:'
    )
    return '\n'.join([head, '', *(f'  {problem}' for problem in listed)])


def raise_on_errors(problems: Iterable[Problem]) -> None:
    """Stop the start if there is an error; log the warnings.

    Raises:
        StartupCheck: with the report as its text and the findings as ``problems``.
    """
    listed = list(problems)
    if any(problem.level is Level.ERROR for problem in listed):
        raise StartupCheck(report(listed), problems=listed)
    for problem in listed:
        log.warning('%s', problem)
