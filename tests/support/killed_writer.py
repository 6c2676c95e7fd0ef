"""A process that writes pairs of keys until it is killed with ``kill -9``, again and again.

Run as a program it forks a writer for each line on its standard input, kills it at a random moment and prints the last
number that was acknowledged for each pair.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from learning_observer_kvs.stores.sqlite.store import SQLiteKVS
from tests.support.programs import run_and_kill

PAIRS = 4
TYPES = {'filesystem': FilesystemKVS, 'sqlite': SQLiteKVS}


def keys(pair: int) -> list[str]:
    """The two keys of a pair; those of every second pair have no readable file name."""
    name = 'r' * (300 if pair % 2 else 1)
    return [f'Internal,{name},{pair}', f'External,{name},{pair}']


def value(number: int) -> dict[str, object]:
    """A value from which it shows whether a part is missing."""
    return {'number': number, 'text': str(number) * (number % 1000)}


async def write(store: Store, start: int, acknowledge: int) -> None:
    """Write for ever; report each number at once when it is acknowledged.

    Args:
        store: where to write.
        start: the number after which the numbers begin.
        acknowledge: the file descriptor for the reports, a line each.
    """

    async def write_pair(pair: int) -> None:
        number = start
        while True:
            number += 1
            await store.multiset(dict.fromkeys(keys(pair), value(number)))
            os.write(acknowledge, f'{pair} {number}\n'.encode())

    await asyncio.gather(*map(write_pair, range(PAIRS)))


def kill_one(store: Store, start: int) -> dict[int, int]:
    """Fork a writer and kill it; return the last acknowledged number of each pair."""
    text, _ = run_and_kill(lambda report: write(store, start, report), 1 / 50)
    acknowledged = dict.fromkeys(range(PAIRS), start)
    for line in text.decode().splitlines():
        pair, _, number = line.partition(' ')
        acknowledged[int(pair)] = max(acknowledged[int(pair)], int(number))
    return acknowledged


def main() -> NoReturn:
    store = TYPES[sys.argv[1]](sys.argv[2])
    random.seed(int(sys.argv[3]))
    for line in sys.stdin:
        print(json.dumps(kill_one(store, int(line))), flush=True)
    sys.exit()


class Killer:
    """The program, as another process uses it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def kill_one(self, start: int) -> dict[int, int]:
        """Have a writer begin after a number and be killed; return the last acknowledged number of each pair."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f'{start}\n')
        self._process.stdin.flush()
        return {int(pair): number for pair, number in json.loads(self._process.stdout.readline()).items()}


@contextmanager
def killer(kind: str, path: Path, seed: int) -> Iterator[Killer]:
    """Start the program.

    Args:
        kind: the type of the store.
        path: where it is.
        seed: of the moments at which writers are killed.
    """
    command = [sys.executable, '-m', 'tests.support.killed_writer', kind, str(path), str(seed)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Killer(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait() == 0


async def check(store: Store, acknowledged: dict[int, int]) -> int:
    """Assert that every pair is whole and not older than what was acknowledged; return the highest number."""
    highest = 0
    for pair, number in acknowledged.items():
        internal, external = await store.multiget(keys(pair))
        assert internal == external
        found = internal['number'] if internal else 0
        assert found >= number
        assert internal == (value(found) if found else None)
        assert [await store[key] for key in keys(pair)] == [internal, external]
        highest = max(highest, found)
    return highest


if __name__ == '__main__':
    main()
