"""Someone who looks at ``/debug/kvs`` from another process, so that it does not hold up the one that serves."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlencode

CLIENT = """
import http.client, json, sys

connection = http.client.HTTPConnection('127.0.0.1', int(sys.argv[1]), timeout=60)
for line in sys.stdin:
    path, accept, form = json.loads(line)
    connection.request('GET' if form is None else 'POST', path, form, headers={'Accept': accept})
    response = connection.getresponse()
    body = response.readline() if response.getheader('Content-Type').startswith('text/event') else response.read()
    print(json.dumps([response.status, len(body), b's3cret' in body]), flush=True)
    if not response.isclosed():
        response.close()
        connection.close()
"""
"""Asks for one page after the other."""


class Viewer:
    """A client in a process of its own.

    Args:
        process: the process.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def get(self, path: str, accept: str, form: Mapping[str, str] | None = None) -> tuple[int, int]:
        """Ask for a page, in which nothing secret is; its status, and its bytes.

        Args:
            path: its path and query.
            accept: the content type that is wanted.
            form: parameters that are sent in a body.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([path, accept, urlencode(form) if form else None]).encode() + b'\n')
        async with asyncio.timeout(60):
            status, size, is_secret = json.loads(await self._process.stdout.readline())
        assert not is_secret
        return status, size


@asynccontextmanager
async def other_viewer(port: int | None) -> AsyncIterator[Viewer]:
    """Start the process; it has ended when the block is left.

    Args:
        port: of the server.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, '-c', CLIENT, str(port)), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    yield Viewer(process)
    await process.communicate(b'')
