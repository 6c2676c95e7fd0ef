"""SIGTERM while students write and Redis does not answer: closing ends in time, and says what it waits for."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from aiohttp import ClientSession, UnixConnector

from learning_observer_kvs.stores.closing import CLOSING
from tests.support.redis_server import RedisServer, until

SERVER = """
import sys
from aiohttp import web
import learning_observer_kvs
from learning_observer_kvs.stream_analytics.helpers import student_event_reducer

@student_event_reducer(null_state=0)
async def count(event, state):
    return state + 1, state + 1

async def events(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    process = await count()
    async for message in socket:
        await socket.send_json(await process(message.json()))
    return socket

app = web.Application()
timeout, port, interval, path = sys.argv[1:]
learning_observer_kvs.setup(app, {
    'kvs': {'default': {'type': 'redis', 'flush_interval': float(interval) or None}},
    'redis_connection': {'redis_host': '127.0.0.1', 'redis_port': int(port)},
})
app.router.add_get('/', events)
web.run_app(app, path=path, print=None, shutdown_timeout=float(timeout))
"""

SHUTDOWN_TIMEOUT = 0.5
"""Seconds that aiohttp gives to handlers, twice, before it closes the stores; 60 by default."""


def listens(path: Path) -> bool:
    """Whether a server takes connections at a path; the file is there a moment before."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


async def feed(path: str, server: RedisServer, process: subprocess.Popen[str]) -> float:
    """Send events over open sockets; then Redis stops answering, and the server is to end. How long that takes."""
    async with ClientSession(connector=UnixConnector(path)) as session:
        sockets = [await session.ws_connect('http://server/') for _ in range(3)]
        for number, student in enumerate(sockets, start=1):
            await student.send_json({})
            assert await student.receive_json() == number
        server.pause()
        for student in sockets:
            await student.send_json({})
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, 60)
        return time.monotonic() - started


@pytest.mark.parametrize('interval', [0, 3600], ids=['at once', 'write-behind'])
def test_a_server_with_open_sockets_whose_redis_does_not_answer_ends_in_time(interval: int, tmp_path: Path) -> None:
    path, log = tmp_path / 's', tmp_path / 'log'
    with RedisServer() as server, log.open('w') as stderr:
        arguments = [str(SHUTDOWN_TIMEOUT), str(server.port), str(interval), str(path)]
        process = subprocess.Popen(
            [sys.executable, '-c', SERVER, *arguments],
            env=os.environ | {'PYTHONPATH': os.getcwd()},
            stderr=stderr,
            text=True,
        )
        try:
            until(functools.partial(listens, path), 'the server to listen')
            took = asyncio.run(feed(str(path), server, process))
        finally:
            process.kill()
            process.wait()
            server.resume()
    assert took < 2 * SHUTDOWN_TIMEOUT + CLOSING + 6  # a call waits for 15 s
    assert process.returncode == 0
    assert "Closing waits for <PersistentRedisKVS 'default' at Redis at" in log.read_text()
