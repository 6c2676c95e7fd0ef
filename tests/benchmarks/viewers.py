"""People who browse ``/debug/kvs``, in another process.

    python -m tests.benchmarks.viewers URL STUDENT REDUCER

Each goes from the stores to the keys, to a value and to a student, and looks at each for a while; while it is a value,
the page follows its changes as the script of the page does. A line ``browse`` on the standard input begins it, and is
answered when all have their first page; a line ``rest`` ends it, and is answered with how many pages were read.
"""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
from types import TracebackType
from typing import Self

import aiohttp
from yarl import URL

PEOPLE = 10

LOOK = 2.0
"""Seconds for which a person looks at a page."""


class Person:
    """Someone who browses.

    Args:
        client: sends the requests.
        url: of the server.
        student: whose states are looked at.
        reducer: whose state of the student is watched.
    """

    def __init__(self, client: aiohttp.ClientSession, url: URL, student: str, reducer: str) -> None:
        self.pages = 0
        self.begun = asyncio.Event()
        self._client = client
        stores = url / 'debug/kvs'
        key = {'key': f'External,{reducer},STUDENT:{student}'}
        self._value = (stores / 'default/key').with_query(key)
        self._changes = (stores / 'default/changes').with_query(key)
        self._tour = [
            stores,
            stores / 'default',
            self._value,
            (stores / 'stores/student').with_query(student=student),
        ]

    async def browse(self, first: int) -> None:
        """Browse until cancelled.

        Args:
            first: the number of the page to begin with.
        """
        for page in itertools.islice(itertools.cycle(self._tour), first, None):
            await self._read(page)
            self.begun.set()
            try:
                async with asyncio.timeout(LOOK):
                    if page is self._value:
                        await self._watch()
                    await asyncio.Event().wait()
            except TimeoutError:
                pass

    async def _read(self, page: URL) -> None:
        async with self._client.get(page, headers={'Accept': 'text/html'}) as answer:
            answer.raise_for_status()
            await answer.read()
        self.pages += 1

    async def _watch(self) -> None:
        async with self._client.get(self._changes) as stream:
            stream.raise_for_status()
            async for line in stream.content:
                if line.startswith(b'event: changed'):
                    await self._read(self._value)


async def main(url: str, student: str, reducer: str) -> None:
    """Obey the lines of the standard input until it ends."""
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with aiohttp.ClientSession() as client:
        while await lines.readline():
            people = [Person(client, URL(url), student, reducer) for _ in range(PEOPLE)]
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(person.browse(number)) for number, person in enumerate(people)]
                for person in people:
                    await person.begun.wait()
                print('browsing', flush=True)
                await lines.readline()
                for task in tasks:
                    task.cancel()
            print(sum(person.pages for person in people), flush=True)


class Viewers:
    """Such people, for as long as the block lasts.

    Args:
        url: of the server.
        student: whose states they look at.
        reducer: whose state of the student they watch.
    """

    def __init__(self, url: str, student: str, reducer: str) -> None:
        self._command = [sys.executable, '-m', 'tests.benchmarks.viewers', url, student, reducer]

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._process.communicate(b'')

    @property
    def pid(self) -> int:
        """The id of their process."""
        return self._process.pid

    async def browse(self) -> None:
        """Have them browse from now on."""
        await self._say('browse')

    async def rest(self) -> int:
        """Have them stop, and return how many pages they have read."""
        return int(await self._say('rest'))

    async def _say(self, word: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f'{word}\n'.encode())
        answer = (await self._process.stdout.readline()).decode().strip()
        if not answer:
            raise RuntimeError('A page could not be read; what it was is above.')
        return answer


if __name__ == '__main__':
    asyncio.run(main(*sys.argv[1:]))
