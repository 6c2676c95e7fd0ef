"""Programs that act as other users of the machine, which only root can start."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self


class User(NamedTuple):
    """Whom a program acts as."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


STAFF = 4500
ROOT = User(0, 0)
OWNER = User(4001, 4001, (STAFF,))
MEMBER = User(4002, 4002, (STAFF,))
STRANGER = User(4003, 4003)

_PROGRAM = """
import asyncio, json, os, signal, sys, tempfile
from learning_observer_kvs.checks import static
from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.kvs import KVSRouter, live_problems
from learning_observer_kvs.settings import read_settings
from tests.support.checks import parse

async def run(path, kind, mode, *acts):
    options = {'type': kind, 'path': path, 'mode': mode, 'retry_timeout': 0.1}
    configuration = read_settings({'kvs': {'default': options}})
    async with KVSRouter.from_settings(configuration) as router:
        return [await globals()[act](router(), configuration) for act in acts]

async def write(store, configuration):
    for value in range(20, 0, -1):
        await store.multiset({'k': value, f'new {os.getuid()}': value, 'a/b ' + 'x' * 300: value})

async def read(store, configuration):
    return await store['k'], len(await store.keys())

async def check(store, configuration):
    return [str(problem) for problem in await live_problems(parse(configuration))]

async def look(store, configuration):
    await read(store, configuration)
    await check(store, configuration)

async def look_and_die(store, configuration):
    await look(store, configuration)
    os.kill(os.getpid(), signal.SIGKILL)

async def warm_up():
    with tempfile.TemporaryDirectory() as folder:
        for kind in ('sqlite', 'filesystem'):
            await run(f'{folder}/{kind}', kind, 'group', 'write', 'look')

def child(uid, gid, groups, umask, path, kind, mode, acts):
    os.setgroups(groups)
    os.setgid(gid)
    os.setuid(uid)
    os.umask(umask)
    os.chdir('/')
    try:
        return repr(asyncio.run(run(path, kind, mode, *acts)))
    except StoreUnavailable as error:
        return f'refused: {error}'

asyncio.run(warm_up())  # imports all that is needed, which another user may not be able to
for line in sys.stdin:
    outlet, inlet = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(inlet, child(*json.loads(line)).encode())
        os._exit(0)
    os.close(inlet)
    said = open(outlet, 'rb').read().decode()
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said]), flush=True)
"""


class Users:
    """A process of root whose children act as other users. A context manager."""

    def __enter__(self) -> Self:
        """Start the process."""
        command = [sys.executable, '-W', 'error', '-c', _PROGRAM]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self._process.communicate(timeout=10)

    def act(self, user: User, acts: str, path: Path, kind: str, mode: str = 'private', umask: int = 0o022) -> str:
        """Use a store as a user.

        Args:
            user: who uses it.
            acts: ``write``, ``read``, ``check``, ``look`` (read and check), or ``look_and_die``; or several.
            path: where the store is.
            kind: its type.
            mode: its option.
            umask: of the process.

        Returns:
            The list of results; or ``refused:`` and why.
        """
        request = [*user, umask, str(path), kind, mode, acts.split()]
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + '\n')
        self._process.stdin.flush()
        status, said = json.loads(self._process.stdout.readline())
        assert status == (-9 if acts == 'look_and_die' else 0), said
        return str(said)


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder below which every user of the machine may pass, as those that pytest makes are not."""
    folder = Path(tempfile.mkdtemp(prefix='lo-kvs-users-'))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
