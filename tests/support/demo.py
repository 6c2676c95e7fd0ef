"""A browser's side of the demo server, for tests."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

Client = dict[str, Any]
"""What a browser sends."""

END: Client = {'event': 'terminate'}


def settings(folder: Path) -> dict[str, Any]:
    return {
        'config': {'run_mode': 'dev'},
        'kvs': {
            'default': {
                'type': 'sqlite',
                'path': str(folder / 'state.sqlite3'),
                'failed_events': str(folder / 'failed'),
            }
        },
    }


def address(server: TestServer) -> str:
    return str(server.make_url('')).rstrip('/')


@pytest.fixture
async def browser() -> AsyncIterator[aiohttp.ClientSession]:
    """What sends events and reads pages."""
    async with aiohttp.ClientSession() as session:
        yield session


async def sent(
    server: TestServer, browser: aiohttp.ClientSession, *messages: Mapping[str, Any] | str | bytes
) -> aiohttp.WSMessage:
    """Send messages over one connection; how the server ended it."""
    async with browser.ws_connect(f'{address(server)}/wsapi/in/') as socket:
        for message in messages:
            if isinstance(message, bytes):
                await socket.send_bytes(message)
            else:
                await socket.send_str(message if isinstance(message, str) else json.dumps(message))
        return await socket.receive()


def event(kind: str = 'keystroke', student: str | None = 'bob', **parts: Any) -> Client:
    auth = {} if student is None else {'auth': {'safe_user_id': student}}
    return {'event': kind, 'timestamp': 1_700_000_000_000, **auth, **parts}


def typed(text: str, doc_id: str = 'D', at: int = 1, title: str = 'Essay', **parts: Any) -> Client:
    """What a browser sends when a text was put in at a place, counted from 1."""
    bundles = [{'commands': [{'ty': 'is', 'ibi': at, 's': text}]}]
    return event('google_docs_save', doc_id=doc_id, object={'title': title}, bundles=bundles, **parts)


async def next_message(stream: aiohttp.StreamReader) -> tuple[str, list[dict[str, Any]]]:
    """The kind and the rows of the next server-sent event."""
    while not (line := await stream.readline()).startswith(b'event: '):
        assert line, 'the stream ended'
    kind = line.decode().strip().removeprefix('event: ')
    rows = json.loads((await stream.readline()).decode().removeprefix('data: '))
    assert await stream.readline() == b'\n'
    return kind, rows
