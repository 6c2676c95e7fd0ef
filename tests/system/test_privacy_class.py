"""One of thirty students is erased while a server buffers: nothing is left, nobody else is touched, nothing returns."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import time
from pathlib import Path

import pytest

from learning_observer_kvs.identifiers import Ids
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.privacy.erasure import erase
from learning_observer_kvs.privacy.search import find
from tests.support import privacy_class as school
from tests.support.privacy_class import ADDRESS, GONE, GOOGLE_ID, INTERVAL, STUDENTS
from tests.support.redis_nodes import RedisNodes
from tests.support.redis_server import RedisServer

IDS = Ids([GONE, ADDRESS, GOOGLE_ID])
STORES = {
    'sqlite': '{type: sqlite, path: state.sqlite3',
    'filesystem': '{type: filesystem, path: states, subdirs: true',
    'redis': '{type: redis, prefix: "s:"',
    'cluster': '{type: redis, prefix: "s:"',
    'redis_ephemeral': '{type: redis_ephemeral, expiry: 600',
    'stub': '{type: stub',
}


async def run(folder: Path, *words: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, '-W', 'error', '-m', 'learning_observer_kvs.cli', *words),
        cwd=folder,
        env=os.environ | {'PYTHONPATH': str(Path(__file__).parent.parent.parent)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


async def everything_in(servers: list[RedisServer]) -> bytes:
    """Every Redis key with what it holds, hidden ones too."""
    found: list[bytes] = []
    for server in servers:
        with server.client() as client:
            for key in client.scan_iter():
                found += [key, client.get(key) or b'']
    return b'\n'.join(found)


async def assert_gone(folder: Path, router: KVSRouter, servers: list[RedisServer]) -> None:
    assert await asyncio.to_thread(school.traces_in, folder) == []
    everything = await everything_in(servers) + json.dumps(await router().dump(), ensure_ascii=False).encode()
    assert [trace for trace in school.TRACES if trace in everything] == []
    folders = [folder / 'logs', folder / 'failed']
    assert [place.name async for place in find({'default': router()}, IDS, folders=folders)] == []


def servers_of(request: pytest.FixtureRequest, kind: str) -> list[RedisServer]:
    """The Redis servers of a kind of store, empty."""
    if kind == 'cluster':
        nodes: RedisNodes = request.getfixturevalue('redis_nodes')
        nodes.flush()
        return nodes.nodes
    server: RedisServer = request.getfixturevalue('redis_server')
    with server.client() as client:
        client.flushall()
    return [server]


@pytest.mark.parametrize(
    'kind', [pytest.param(kind, marks=pytest.mark.long if kind == 'redis_ephemeral' else ()) for kind in STORES]
)
async def test_of_an_erased_student_nothing_is_left_and_nothing_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, kind: str
) -> None:
    folder, kept = tmp_path / 'school', tmp_path / 'kept'
    folder.mkdir()
    kept.mkdir()
    monkeypatch.chdir(folder)
    servers = servers_of(request, kind)
    (folder / 'creds.yaml').write_text(
        f'kvs: {{default: {STORES[kind]}, flush_interval: {INTERVAL}, failed_events: failed}}}}\n'
        f'redis_connection: {{redis_port: {servers[0].port}, redis_cluster: {str(kind == "cluster").lower()}}}\n'
        'privacy: {study_logs: logs}\n'
    )
    at = time.time() - 3600
    async with KVSRouter.from_settings('creds.yaml') as router:
        await school.fill(folder, router, at)
        await router().flush()
        dump = kept / 'dump.json'
        await router().dump(dump)
        shutil.copytree(folder / 'logs', kept / 'logs')
        assert len(await asyncio.to_thread(school.traces_in, folder)) > 5
        if kind == 'stub':
            await _erased_here(folder, kept, router, servers, at)
        else:
            await _erased_while_a_server_runs(folder, kept, router, servers, at)
        await router().load(dump)
        await assert_gone(folder, router, servers)
        if kind != 'stub':
            await asyncio.to_thread(shutil.copytree, kept / 'logs', tmp_path / 'again')
            code, said = await run(folder, 'replay', str(tmp_path / 'again'), '-r', 'tests.support.privacy_class:essay')
            assert code == 0, said
            assert '5 events of erased students left out' in said
            await assert_gone(folder, router, servers)


async def _comes_back_with_a_later_dump(kept: Path, router: KVSRouter) -> None:
    came = {key: value for key, value in (await router().dump()).items() if GONE in key}
    assert len(came) == 2
    await router().dump(kept / 'later.json')
    for key in came:
        await router().remove(key)
    await router().load(kept / 'later.json')
    assert {key: value for key, value in (await router().dump()).items() if GONE in key} == came


async def _erased_here(folder: Path, kept: Path, router: KVSRouter, servers: list[RedisServer], at: float) -> None:
    """A store in memory is erased by the process that has it, which keeps some events."""
    before = await school.others(router())
    await school.process(router, GONE, range(10, 14), at)
    receipt = await erase(
        {'default': router()}, IDS, who='a test', folders=[folder / 'logs', folder / 'failed'], interval=INTERVAL
    )
    assert receipt.is_complete
    await assert_gone(folder, router, servers)
    assert await school.others(router()) == before
    await school.process(router, GONE, range(20, 21), time.time())
    await router().flush()
    await _comes_back_with_a_later_dump(kept, router)
    for key in [key for key in await router().keys() if GONE in key]:
        await router().remove(key)


async def _erased_while_a_server_runs(
    folder: Path, kept: Path, router: KVSRouter, servers: list[RedisServer], at: float
) -> None:
    server = await school.started(folder, at)
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        before = await school.others(router())
        code, said = await run(folder, 'erase-student', GONE, '--yes', '--receipt', str(kept / 'receipt.json'))
        assert (code, 'calls this student also' in said) == (2, True), said
        names = [word for alias in (ADDRESS, GOOGLE_ID) for word in ('--alias', alias)]
        code, said = await run(folder, 'find-student', GONE, *names)
        assert (code, 'My name is' in said) == (0, False), said
        code, said = await run(folder, 'export-student', GONE, *names, '--to', str(kept / 'data.json'))
        assert code == 0, said
        exported = (kept / 'data.json').read_text()
        assert len(json.loads(exported)['states']) == 2
        assert [other for other in STUDENTS if other != GONE and other in exported] == []
        code, said = await run(folder, 'erase-student', GONE, '--yes', *names, '--receipt', str(kept / 'receipt.json'))
        assert code == 0, said
        receipt_text = (kept / 'receipt.json').read_text()
        assert 'My name is' not in receipt_text
        receipt = json.loads(receipt_text)
        assert (receipt['complete'], receipt['remaining'], receipt['left']) == (True, [], [])
        assert {row['rule'] for row in receipt['erased']} == {
            *('state', 'memoized result', 'mapping', 'sign-in', 'roster entry', 'event', 'error file'),
        }
        await assert_gone(folder, router, servers)
        after = await school.others(router())
        ada = [key for key in before if 'doc-of-0,' in key]  # the server has flushed what it kept of her meanwhile
        assert len(ada) == 2
        assert {key: after[key] for key in after if key not in ada} == {
            key: before[key] for key in before if key not in ada
        }
        text = (await router()[f'Internal,writing.essay,EventField.doc_id:doc-of-0,STUDENT:{STUDENTS[0]}'])['text']
        assert all(f'line {number}.' in text for number in (0, 1, 2, 10, 11, 12, 13))
        assert [one['id'] for one in (await router()['roster:7b'])['students']] == [
            one for one in STUDENTS if one != GONE
        ]
        # The student returns: a new event counts, and is not joined by any old one.
        server.stdin.write(b'go on\n')
        assert await server.stdout.readline() == b'done\n'
        key = f'Internal,writing.essay,EventField.doc_id:doc-of-{STUDENTS.index(GONE)},STUDENT:{GONE}'
        text = (await router()[key])['text']
        assert text.count('line 20.') == 40
        assert len(text) == 40 * len(f'My name is {GONE}, line 20. ')
        await _comes_back_with_a_later_dump(kept, router)
        code, said = await run(folder, 'erase-student', GONE, '--yes', '--receipt', str(kept / 'second.json'))
        assert code == 0, said
        for words, status in (([], 0), (['--lift'], 0), ([], 1)):
            code, said = await run(folder, 'suppressed', ADDRESS, *words)
            assert (code, GONE in said) == (status, False), said
        code, said = await run(folder, 'expire', '--older-than', '5y')
        assert (code, '0 removed' in said) == (
            int('redis' in (folder / 'creds.yaml').read_text().splitlines()[0]),
            True,
        ), said
    finally:
        server.stdin.close()
        assert await server.wait() == 0
