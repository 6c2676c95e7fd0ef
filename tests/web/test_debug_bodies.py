"""``/debug/kvs``: a body that cannot be read is a mistake of its client; the log of the server says nothing of it."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from learning_observer_kvs.debug import answers
from learning_observer_kvs.kvs import KVS
from tests.support.debug_pages import make_app
from tests.support.watched import until

PATH = '/debug/kvs/default/key'


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Of a server like that of a program: what asks it is not cancelled when its client goes."""
    runner = web.AppRunner(make_app({'kvs': {'default': {'type': 'stub'}}, 'config': {'run_mode': 'dev'}}))
    await runner.setup()
    await web.TCPSite(runner, '127.0.0.1', 0).start()
    await KVS().set('k', 1)
    yield runner.addresses[0][1]
    await runner.cleanup()


def request(body: bytes, *headers: str, host: str = 'localhost', length: int | None = None) -> bytes:
    lines = [f'POST {PATH} HTTP/1.1', f'Host: {host}', *headers, f'Content-Length: {length or len(body)}', '', '']
    return '\r\n'.join(lines).encode() + body


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, Any]:
    async with asyncio.timeout(20):
        head = (await reader.readuntil(b'\r\n\r\n')).decode().splitlines()
        [length] = [int(line.partition(':')[2]) for line in head if line.lower().startswith('content-length:')]
        return int(head[0].split()[1]), json.loads(await reader.readexactly(length))


@pytest.mark.parametrize('body', [b'key=k', gzip.compress(b'key=k')[:-5] + b'xxxxx'], ids=['plain', 'wrong'])
async def test_a_body_that_is_not_in_its_encoding_is_status_400(
    port: int, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = await asyncio.open_connection('127.0.0.1', port)
    writer.write(request(body, 'Content-Encoding: gzip'))
    status, answer = await read_answer(reader)
    assert status == 400
    assert answer['error'] == 'The body cannot be read. Send it whole, in the encoding that its headers name.'
    assert await asyncio.wait_for(reader.read(), 20) == b''
    writer.close()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_compressed_body_is_read(port: int) -> None:
    reader, writer = await asyncio.open_connection('127.0.0.1', port)
    for _ in range(2):
        writer.write(request(gzip.compress(b'key=k'), 'Content-Encoding: gzip'))
        status, answer = await read_answer(reader)
        assert (status, answer['value']) == (200, 1)
    writer.close()


async def test_a_compressed_body_is_bounded_by_what_is_in_it(port: int) -> None:
    reader, writer = await asyncio.open_connection('127.0.0.1', port)
    writer.write(request(gzip.compress(b'key=' + b'k' * 100_000_000), 'Content-Encoding: gzip'))
    status, _ = await read_answer(reader)
    assert status == 413
    writer.close()


@pytest.mark.parametrize('host', ['localhost', 'evil.example'])
@pytest.mark.parametrize('sent', [1, 100_000])
async def test_a_client_that_goes_while_it_sends_is_not_logged(
    port: int, host: str, sent: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, 'aiohttp.access')
    monkeypatch.setattr(answers, 'PAGE_SECONDS', 600.0)
    reader, writer = await asyncio.open_connection('127.0.0.1', port)
    writer.write(request(b'k' * sent, 'Expect: 100-continue', host=host, length=2 * sent + 1))
    await asyncio.wait_for(reader.readline(), 20)  # it is being handled
    writer.transport.abort()
    await until(lambda: any(PATH in record.getMessage() for record in caplog.records))
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
