"""A school for the soak: students that send events at a steady rate, and server processes that are watched."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parent.parent.parent
PROGRAM = Path(__file__).with_name('soak_server.py')

RATE = 2.0
"""Events that a student sends in a second."""

DOCUMENTS = 3
"""How many documents a student writes in, in turns."""

Settings = dict[str, Any]


def previous_version(commit: str, folder: Path) -> Path:
    """Get the package of a commit of this repository.

    Args:
        commit: the commit.
        folder: where to put it.

    Returns:
        The directory for ``PYTHONPATH``.
    """
    folder.mkdir()
    archive = subprocess.run(
        ['git', '-C', str(ROOT), 'archive', commit, 'learning_observer_kvs'], capture_output=True, check=True
    )
    subprocess.run(['tar', '-x', '-C', str(folder)], input=archive.stdout, check=True)
    return folder


@dataclass(frozen=True)
class Sample:
    """What a server process used at one moment.

    Args:
        memory: bytes of resident memory.
        descriptors: open descriptors, but for the sockets of students.
    """

    memory: int
    descriptors: int


class Server:
    """A server process.

    Args:
        settings: its settings.
        version: the directory of the version of the package that it runs.
        log: the file for what it says.
    """

    def __init__(self, settings: Settings, version: Path, log: Path) -> None:
        self._settings = settings
        self._version = version
        self._log = log
        self.port = 0
        self.students = 0
        self.samples: list[Sample] = []
        self.is_stopping = False

    async def start(self) -> Self:
        """Start it, and wait until it listens."""
        with self._log.open('ab') as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, str(PROGRAM), json.dumps(self._settings)),
                env=os.environ | {'PYTHONPATH': str(self._version), 'PYTHONWARNINGS': 'default'},
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        assert line, self._log.read_text()
        self.port = int(line)
        return self

    async def stop(self) -> int:
        """End it as in a rolling restart; its exit status."""
        self.is_stopping = True
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        return await self._process.wait()

    def kill(self) -> None:
        """End it at once, if it runs."""
        if self._process.returncode is None:
            self._process.kill()

    def sample(self) -> None:
        """Note what it uses now, if it serves students."""
        if self.is_stopping or not self.students:
            return
        pages = int(Path(f'/proc/{self._process.pid}/statm').read_text().split()[1])
        descriptors = len(os.listdir(f'/proc/{self._process.pid}/fd'))
        self.samples.append(Sample(pages * os.sysconf('SC_PAGE_SIZE'), descriptors - self.students))


class School:
    """Students that send numbered events to two servers, and to the other one while theirs is replaced.

    Args:
        servers: the servers; they may be replaced at any time.
        students: how many there are.

    Attributes:
        sent: how many events each student has sent.
        waits: the seconds from the moment when an event was due until its answer.
        errors: what servers answered in place of a result, counted.
    """

    def __init__(self, servers: list[Server], students: int) -> None:
        self.servers = servers
        self.sent = [0] * students
        self.waits: list[float] = []
        self.errors: Counter[str] = Counter()
        self._tasks: list[asyncio.Task[None]] = []
        self._has_ended = False

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._student(n)) for n in range(len(self.sent))]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def end(self) -> None:
        """Have each student send no more, and wait until every event is answered."""
        self._has_ended = True
        await asyncio.gather(*self._tasks)

    async def run(self, seconds: float) -> None:
        """Let the lesson go on, and note what the servers use; raises what a student met with.

        Args:
            seconds: how long.
        """
        until = time.monotonic() + seconds
        while (now := time.monotonic()) < until:
            for server in self.servers:
                server.sample()
            done, _ = await asyncio.wait(self._tasks, timeout=min(1, until - now), return_when='FIRST_EXCEPTION')
            for task in done:
                task.result()

    async def _student(self, number: int) -> None:
        due = time.monotonic() + number / len(self.sent) / RATE
        connection = Connection(self, number)
        try:
            while not self._has_ended:
                await asyncio.sleep(due - time.monotonic())
                self.sent[number] += 1
                await connection.deliver(self.sent[number])
                self.waits.append(time.monotonic() - due)
                due += 1 / RATE
        finally:
            connection.close()


class Connection:
    """One student's connection, to whichever server serves it at the moment.

    Args:
        school: the student's school.
        student: the number of the student.
    """

    def __init__(self, school: School, student: int) -> None:
        self._school = school
        self._student = student
        self._server: Server | None = None
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def deliver(self, number: int) -> None:
        """Send an event until a server has answered it.

        Args:
            number: the number of the event.
        """
        event = {'student': f's{self._student}', 'number': number, 'doc_id': f'd{number % DOCUMENTS}'}
        line = json.dumps(event).encode() + b'\n'
        while True:
            if self._preferred() is not self._server:
                self.close()
            reader, writer = self._streams or await self._connect()
            try:
                writer.write(line)
                answer = await reader.readline()
            except ConnectionError:
                answer = b''
            if not answer:  # the server stopped before it read the event
                self.close()
                continue
            self._school.errors.update(json.loads(answer))
            return

    def _preferred(self) -> Server:
        """Half of the students belong to each server; those of one that stops go to the other until it is replaced."""
        servers = self._school.servers
        first = servers[self._student % len(servers)]
        return next((server for server in (first, *servers) if not server.is_stopping), first)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self._server = self._preferred()
        self._streams = await asyncio.open_connection('127.0.0.1', self._server.port)
        self._server.students += 1
        return self._streams

    def close(self) -> None:
        """Leave the server."""
        if self._streams is not None and self._server is not None:
            self._streams[1].close()
            self._server.students -= 1
            self._streams = None


def percentile(values: list[float], share: float) -> float:
    """Return the value that a share of the values does not exceed.

    Args:
        values: at least one.
        share: between 0 and 1.
    """
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def expected(school: School) -> Iterator[tuple[str, Any]]:
    """Yield the keys of the internal states and what they must be when every event was applied once, in order.

    Args:
        school: the school, after the end.
    """
    for student, sent in enumerate(school.sent):
        name = f'STUDENT:s{student}'
        yield f'Internal,soak.order,{name}', {'last': sent, 'wrong': []}
        yield (
            f'Internal,soak.text,{name}',
            {'text': ''.join(chr(ord('a') + number % 26) for number in range(1, sent + 1))},
        )
        yield f'Internal,soak.rest,{name}', sent - sent % 3 or None
        for document in range(DOCUMENTS):
            count = sum(number % DOCUMENTS == document for number in range(1, sent + 1))
            if count:
                yield f'Internal,soak.documents,EventField.doc_id:d{document},{name}', count
