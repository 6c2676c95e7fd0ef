"""Writers that are killed one after the other, and a program that reads their files and knows nothing of stores.

Run as a program it starts two writers and the reader, kills a writer for each line on its standard input and puts
another in its place; at the end it prints what the reader saw.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import select
import signal
import sys
from collections import Counter
from pathlib import Path

from learning_observer_kvs.stores.filesystem.names import FileNames
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS

PAIRS = 4


def keys(pair: int) -> list[str]:
    """The two keys of a pair; those of every second pair have no readable file name."""
    name = 'r' * (300 if pair % 2 else 1)
    return [f'Internal,{name},{pair}', f'External,{name},{pair}']


def value(key: str, number: int) -> dict[str, object]:
    """A value from which it shows whether a part is missing, and whether it is that of another key."""
    return {'key': key, 'number': number, 'text': str(number) * (number % 2000)}


def is_whole(key: str, found: object) -> bool:
    """Whether something is a value of a key."""
    return isinstance(found, dict) and isinstance(found.get('number'), int) and found == value(key, found['number'])


async def write(root: str, started: int) -> None:
    """Write for ever: in one batch with others, and alone."""

    async def write_pair(store: FilesystemKVS, pair: int) -> None:
        while True:
            number = random.randrange(1, 1 << 30)
            await store.multiset({key: value(key, number) for key in keys(pair)})

    async with FilesystemKVS(root) as store:
        await store.multiset({key: value(key, 1) for key in keys(0)})
        os.write(started, b'.')
        await asyncio.gather(
            *(write_pair(store, pair) for pair in random.sample(range(PAIRS), random.randint(1, PAIRS)))
        )


def start_writer(root: str) -> int:
    """Fork a writer, and wait until it writes."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        random.seed()
        asyncio.run(write(root, writing))
    os.close(writing)
    assert os.read(reading, 1) == b'.'
    os.close(reading)
    return child


def read(root: str, stopped: int) -> Counter[str]:
    """Read the files in turn until something can be read from a pipe; sometimes slowly, in small parts."""
    names = FileNames(subdirs=False)
    paths = {key: Path(root, names.path_of(key)) for pair in range(PAIRS) for key in keys(pair)}
    seen: Counter[str] = Counter()
    while not select.select([stopped], [], [], 0)[0]:
        for key, path in paths.items():
            with path.open('rb', buffering=0) as file:
                if random.random() < 0.1:
                    text = b''
                    while part := file.read(100):
                        text += part
                else:
                    text = file.read()
            try:
                found = json.loads(text)
            except ValueError:
                seen['torn'] += 1
                continue
            if names.path_of(key) != key.replace(',', '-44-'):
                found = found.get('value') if found.get('key') == key else None
            seen['whole' if is_whole(key, found) else 'wrong'] += 1
    return seen


def main() -> None:
    root = sys.argv[1]

    async def fill() -> None:
        async with FilesystemKVS(root) as store:
            await store.multiset({key: value(key, 1) for pair in range(PAIRS) for key in keys(pair)})

    asyncio.run(fill())
    stopped, stop = os.pipe()
    found, report = os.pipe()
    reader = os.fork()
    if not reader:
        os.write(report, json.dumps(read(root, stopped)).encode())
        os._exit(0)
    writers = [start_writer(root), start_writer(root)]
    for _ in range(int(sys.argv[2])):
        select.select([], [], [], random.random() / 50)  # any moment of the writing
        killed = writers.pop(0)
        os.kill(killed, signal.SIGKILL)
        os.waitpid(killed, 0)
        writers.append(start_writer(root))
    for writer in writers:
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
    os.write(stop, b'.')
    status = os.waitstatus_to_exitcode(os.waitpid(reader, 0)[1])
    assert status == 0, status
    print(os.read(found, 1 << 16).decode())


if __name__ == '__main__':
    main()
