"""Simulated students: writing sessions that are sent to a server over its websocket, at the speed of people.

python -m devdata.students http://127.0.0.1:8888 --students 12
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import math
import sys
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp

from devdata.essays import ESSAYS
from devdata.sessions import SOURCE, write_session

LONGEST_PAUSE = 15.0
"""The longest pause of a student in seconds, so that a demo does not stand still."""

Message = Mapping[str, Any]


class ServerGone(Exception):
    """The server cannot be reached, or has closed the connection."""


async def send(url: str, messages: AsyncIterator[Message], *, client: aiohttp.ClientSession) -> None:
    """Send one student's messages over a connection, and wait until the server has processed them all.

    Args:
        url: the server's URL, such as ``http://127.0.0.1:8888``.
        messages: what a browser sends, the ``client`` part of events.
        client: opens the connection.

    Raises:
        aiohttp.ClientError: the server cannot be reached, or the connection broke.
    """
    async with client.ws_connect(f'{url}/wsapi/in/') as socket:
        await socket.send_json({'event': 'lock_fields', 'fields': {'source': SOURCE}})
        try:
            async for message in messages:
                await socket.send_json(message)
        finally:
            if not socket.closed:
                await socket.send_json({'event': 'terminate'})
                await socket.receive()  # the server closes when it has processed the last event


async def writing(number: int, seed: int, speed: float) -> AsyncIterator[Message]:
    """Generate the messages of a student who writes one essay after the other, each in a new document, in real time.

    Args:
        number: the student's number in the class, from 0; also the essay to begin with.
        seed: of the random choices.
        speed: 2 for a student twice as fast as people.

    Yields:
        Messages, without an end.
    """
    student = f'ls-student-{number + 1:02d}'
    for lesson in itertools.count():
        essay = ESSAYS[(number + lesson) % len(ESSAYS)]
        session = write_session(student, hash((seed, number, lesson)), essay, with_notes=(number + lesson) % 6 == 0)
        before = session.events[0]['client']['timestamp']
        for event in session.events:
            client = event['client']
            await asyncio.sleep(min((client['timestamp'] - before) / 1000, LONGEST_PAUSE) / speed)
            before = client['timestamp']
            now = round(time.time() * 1000)
            yield {**client, 'timestamp': now, 'metadata': {'ts': now}}


async def write(url: str, students: int, *, seed: int | None = None, speed: float = 1.0) -> None:
    """Have a class write until the task is cancelled; then every student closes its connection.

    Args:
        url: the server's URL.
        students: how many students write.
        seed: of the random choices; the same seed writes into the same documents again. By default a new one.
        speed: 2 for students twice as fast as people.

    Raises:
        ServerGone: a student's connection failed; the others stop too.
    """
    seed = time.time_ns() if seed is None else seed
    try:
        async with aiohttp.ClientSession() as client, asyncio.TaskGroup() as group:
            for number in range(students):
                group.create_task(send(url, writing(number, seed, speed), client=client))
    except ExceptionGroup as failures:
        if failures.split(aiohttp.ClientError)[1] is not None:
            raise
        raise ServerGone(f'{url} does not accept events: {failures.exceptions[0]}.') from None


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options ``--students`` and ``--speed`` to a command.

    Args:
        parser: the command's parser.
    """

    def count(text: str) -> int:
        if (students := int(text)) < 1:
            raise argparse.ArgumentTypeError(f'{text} is too few; a class has one student or more')
        return students

    def pace(text: str) -> float:
        if not 0 < (speed := float(text)) < math.inf:
            raise argparse.ArgumentTypeError(f'{text} is not a speed; 1 is as fast as people')
        return speed

    parser.add_argument('--students', type=count, default=12, help='how many students write (12)')
    parser.add_argument('--speed', type=pace, default=1.0, help='2 for twice as fast as people (1)')


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description='Simulated students who write.')
    parser.add_argument('url', nargs='?', default='http://127.0.0.1:8888')
    add_options(parser)
    arguments = parser.parse_args()
    try:
        asyncio.run(write(arguments.url, arguments.students, speed=arguments.speed))
    except KeyboardInterrupt:
        pass
    except ServerGone as error:
        sys.exit(str(error))
