"""The commands of "Back up and restore", run on real parts while a server writes."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.filesystem.directory import Directory
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from tests.project.documentation import EXAMPLES, ROOT, sections
from tests.support.redis_server import free_port, until

PAGE = 'docs/how-to/back-up-and-restore.md'
PAIRS = 40

Steps = dict[str, list[str]]


def steps(section: str) -> Steps:
    """The commands of a section by the word that comes before them: ``Back up``, ``Restore``."""
    text = sections(PAGE, '##')[section]
    parts = re.split(r'^(Back up|Restore): ', text, flags=re.M)[1:]
    return {word: re.findall(r'^\$ (.+)$', part, re.M) for word, part in zip(parts[::2], parts[1::2], strict=True)}


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with the examples of the page."""
    shutil.copytree(EXAMPLES / 'back-up-and-restore', tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def redis_port(directory: Path) -> Iterator[int]:
    """The port of a Redis that runs with the page's settings, in the working directory."""
    port = free_port()
    for name in ('redis.conf', 'redis.yaml'):
        text = (directory / name).read_text().replace('6379', str(port)).replace('localhost', '127.0.0.1')
        (directory / name).write_text(text)
    subprocess.run(['redis-server', 'redis.conf'], check=True, stdout=subprocess.DEVNULL)
    ping = ['redis-cli', '-p', str(port), 'ping']
    until(lambda: subprocess.run(ping, check=False, capture_output=True).stdout == b'PONG\n', 'Redis')
    yield port
    subprocess.run(['redis-cli', '-p', str(port), 'shutdown', 'nosave'], check=False, stdout=subprocess.DEVNULL)


async def run(commands: list[str], port: int = 6379) -> None:
    """Run commands of the page in a shell that stops at the first error."""
    script = '\n'.join(['umask 077', *commands]).replace('6379', str(port))
    python = f'lo-kvs() {{ {sys.executable} -W error -m learning_observer_kvs.cli "$@"; }}'
    process = await asyncio.create_subprocess_exec(
        'bash',
        *('-e', '-c', f'{python}\n{script}'),
        env=os.environ | {'PYTHONPATH': str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()


def key(pair: int, state: str) -> str:
    return f'{state},a.b,STUDENT:{pair}'


class Writers:
    """A server that writes pairs of states; an asynchronous context.

    Attributes:
        acknowledged: the last acknowledged number of each pair.
    """

    def __init__(self, store: Store) -> None:
        self.acknowledged = [0] * PAIRS
        self._store = store
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def reach(self, numbers: list[int]) -> None:
        """Wait until these numbers have been written."""
        while any(now < then for now, then in zip(self.acknowledged, numbers, strict=True)):
            self._changed.clear()
            await self._changed.wait()

    async def _write(self, pair: int) -> None:
        while True:
            number = self.acknowledged[pair] + 1
            value = {'number': number, 'text': 'x' * (number % 500)}
            await self._store.multiset({key(pair, 'Internal'): value, key(pair, 'External'): value})
            self.acknowledged[pair] = number
            self._changed.set()

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._write(pair)) for pair in range(PAIRS)]
        await self.reach([5] * PAIRS)
        return self

    async def __aexit__(self, *error: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)


async def numbers_in(store: Store) -> list[int]:
    """The number of each pair, of which both states are the same."""
    found: dict[str, Any] = await store.dump()
    assert len(found) == 2 * PAIRS
    for pair in range(PAIRS):
        assert found[key(pair, 'Internal')] == found[key(pair, 'External')]
    return [found[key(pair, 'Internal')]['number'] for pair in range(PAIRS)]


async def back_up_and_restore(config: str, section: str, port: int = 6379) -> None:
    """Back up while a server writes, write on, restore: the store is as it was at one moment of the backup."""
    commands = steps(section)
    async with KVSRouter.from_settings(config) as router, Writers(router()) as server:
        before = list(server.acknowledged)
        await run(commands['Back up'], port)
        after = [number + 1 for number in server.acknowledged]  # one more may be under way
        await server.reach([number + 5 for number in after])
    await run(commands['Restore'], port)
    async with KVSRouter.from_settings(config) as router:
        restored = await numbers_in(router())
        assert all(a <= b <= c for a, b, c in zip(before, restored, after, strict=True)), (before, restored, after)
        await router().set('a', 'b')


async def test_sqlite(directory: Path) -> None:
    await back_up_and_restore('sqlite.yaml', 'SQLite')
    assert (directory / 'state-backup.sqlite3').stat().st_mode & 0o77 == 0


async def test_files(directory: Path) -> None:
    await back_up_and_restore('files.yaml', 'Files')


async def test_files_with_a_change_that_a_killed_process_left_half_way(directory: Path) -> None:
    old, new = {'text': 'old'}, {'text': 'new'}
    pair = (key(0, 'Internal'), key(0, 'External'))
    async with FilesystemKVS('.lo_states') as store:
        await store.multiset(dict.fromkeys(pair, old))
    program = (
        'import asyncio, os, signal, sys\n'
        'from learning_observer_kvs.stores.filesystem.store import FilesystemKVS\n'
        'store = FilesystemKVS(".lo_states")\n'
        'store.directory.before_step = lambda step: step == "rename" and os.kill(os.getpid(), signal.SIGKILL)\n'
        f'asyncio.run(store.multiset(dict.fromkeys({pair!r}, {new!r})))\n'
    )
    killed = await asyncio.create_subprocess_exec(
        sys.executable, '-c', program, env=os.environ | {'PYTHONPATH': str(ROOT)}
    )
    assert await killed.wait() == -signal.SIGKILL
    assert Directory(str(directory / '.lo_states')).read('.lo_kvs/journal') is not None
    commands = steps('Files')
    await run(commands['Back up'])
    await run(commands['Restore'])
    async with FilesystemKVS('.lo_states') as store:
        assert await store.dump() == dict.fromkeys(pair, new)


async def test_redis(redis_port: int) -> None:
    async with KVSRouter.from_settings('redis.yaml') as router:
        await router.memoization().set('cached', 1)
        await router.memoization().set('short', 2)
        await back_up_and_restore('redis.yaml', 'Redis', redis_port)
    async with KVSRouter.from_settings('redis.yaml') as router:
        assert await router.memoization()['cached'] == 1
        described = await router.memoization().describe('cached')
        assert described is not None
        assert described.expires_in is not None
        assert 0 < described.expires_in <= 3600
