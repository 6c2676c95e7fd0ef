"""Python programs, each in a process of its own, forked from one that has imported what takes long to import."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

TIMEOUT = 60
"""Seconds that a program may take."""

FORK = """
import importlib, json, os, socket, sys, types, warnings

def next_program(channel):
    # Returns in the processes that are forked.
    while True:
        text, files, _, _ = socket.recv_fds(channel, 1 << 20, 3)
        if not text:
            os._exit(0)
        child = os.fork()
        if not child:
            channel.close()
            return json.loads(text), files
        for file in files:
            os.close(file)
        _, status = os.waitpid(child, 0)
        channel.send(b'%d' % os.waitstatus_to_exitcode(status))

for name in sys.argv[2:]:
    importlib.import_module(name)
program, files = next_program(socket.socket(fileno=int(sys.argv[1])))
for number, file in enumerate(files):
    os.dup2(file, number)
    os.close(file)
os.chdir(program['folder'])
os.environ.clear()
os.environ.update(program['variables'])
sys.path[:] = ['', *program['path'], *sys.path[1:]]
sys.argv = ['-c']
sys.warnoptions[:] = program['warnings']
warnings.resetwarnings()
for option in sys.warnoptions:
    action, _, message = option.partition(':')
    warnings.filterwarnings(action, message=message)
sys.modules['__main__'] = main = types.ModuleType('__main__')
exec(compile(program['text'], '<string>', 'exec'), main.__dict__)
"""
"""Waits for programs and forks; the forked process goes on as the program."""


class Forks:
    """A context manager: a process of which programs are forks, so that they begin with modules imported.

    Args:
        modules: the names of the modules, none of this package.
    """

    def __init__(self, *modules: str) -> None:
        self._modules = modules

    def run(
        self, text: str, *, folder: Path, variables: Mapping[str, str], path: Sequence[Any], warnings: Sequence[str]
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end.

        Args:
            text: the program, as after ``python -c``.
            folder: the working directory.
            variables: the environment.
            path: what comes first on ``sys.path``, as ``PYTHONPATH`` has it.
            warnings: what is done with warnings: an action, or ``action:beginning of the message``.

        Raises:
            TimeoutError: it does not end.
        """
        program = {
            'text': text,
            'folder': str(folder),
            'variables': dict(variables),
            'path': [str(part) for part in path],
            'warnings': list(warnings),
        }
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors, open('/dev/null') as nothing:
            files = [file.fileno() for file in (nothing, out, errors)]
            socket.send_fds(self._channel, [json.dumps(program).encode()], files)
            status = int(self._channel.recv(99))
            said = []
            for file in (out, errors):
                file.seek(0)
                said.append(file.read().decode())
        return subprocess.CompletedProcess(['-c', text], status, *said)

    def __enter__(self) -> Self:
        self._channel, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel.settimeout(TIMEOUT)
        with other:
            self._process = subprocess.Popen(
                [sys.executable, '-W', 'ignore', '-c', FORK, str(other.fileno()), *self._modules],
                pass_fds=[other.fileno()],
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()
        self._process.kill()
        self._process.wait()
