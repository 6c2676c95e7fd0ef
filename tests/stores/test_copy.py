"""Copying a store into another: complete, verified, without overwriting newer values, and safe to repeat."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.stores.copy import KEYS_AT_ONCE, copy, count
from learning_observer_kvs.stores.memory import InMemoryKVS
from learning_observer_kvs.stores.redis.connection import RedisConnection
from tests.support.redis_server import RedisServer

DATA: dict[str, Any] = {f'Internal,a.b,EventField.doc_id:d/{n},STUDENT:s{n % 9}': {'n': n} for n in range(500)}
DATA |= {'null': None, 'false': False, 'łatwy/\U0001f600': '\ud83d', 'big': 2**100, 'float': 1.0, '*': [[], {}]}

STORES = {
    'files': {'type': 'filesystem', 'path': 'files'},
    'folders': {'type': 'filesystem', 'path': 'folders', 'subdirs': True},
    'rows': {'type': 'sqlite', 'path': 'rows.sqlite3'},
    'bare': {'type': 'redis'},
    'named': {'type': 'redis', 'prefix': 'lo*:'},
}


@pytest.fixture
def config(tmp_path: Path, redis_server: RedisServer, redis: RedisConnection) -> Path:
    """A configuration of all these stores; its folder is the working directory of programs."""
    connection = {'redis_host': '127.0.0.1', 'redis_port': redis_server.port}
    kvs = STORES | {'default': {'type': 'stub'}}
    (tmp_path / 'creds.yaml').write_text(json.dumps({'kvs': kvs, 'redis_connection': connection}))
    return tmp_path


@asynccontextmanager
async def router_of(config: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[KVSRouter]:
    monkeypatch.chdir(config)
    async with KVSRouter.from_settings('creds.yaml') as router:
        yield router


def lo_kvs(config: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, '-W', 'error', '-m', 'learning_observer_kvs.cli', *words],
        cwd=config,
        env=os.environ | {'PYTHONPATH': os.getcwd()},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ('source', 'target'),
    [
        ('files', 'rows'),
        ('folders', 'bare'),
        ('rows', 'named'),
        ('bare', 'folders'),
        ('named', 'files'),
        ('bare', 'named'),
        ('named', 'bare'),
    ],
)
async def test_everything_is_copied_and_compared_and_a_second_run_copies_nothing(
    config: Path, monkeypatch: pytest.MonkeyPatch, source: str, target: str
) -> None:
    async with router_of(config, monkeypatch) as router:
        one, other = getattr(router, source)(), getattr(router, target)()
        await one.multiset(DATA)
        steps: list[int] = []
        report = await copy(one, other, progress=steps.append)
        assert (report.copied, report.present, report.differing, report.failed) == (len(DATA), 0, 0, 0)
        assert report.verified
        assert report.source_count == report.target_count == len(DATA)
        assert sum(steps) == 2 * len(DATA)
        stored = await other.dump()
        assert {key: stored.get(key) for key in DATA} == DATA
        again = await copy(one, other)
        assert (again.copied, again.present, again.verified) == (0, len(DATA), True)
        assert again.source_digest == report.source_digest
        assert await count(one, other) == len(DATA)


async def test_values_of_the_target_that_differ_are_left_and_reported_unless_overwriting() -> None:
    async with InMemoryKVS(name='old') as source, InMemoryKVS(name='new') as target:
        await source.multiset({'a': 1, 'b': 2})
        await target.multiset({'b': 'newer', 'c': 3})
        report = await copy(source, target)
        assert (report.copied, report.differing, report.verified) == (1, 1, False)
        assert report.messages == ["'b' has another value in 'new'; it was left as it is."]
        assert await target.dump() == {'a': 1, 'b': 'newer', 'c': 3}
        report = await copy(source, target, overwrite=True)
        assert (report.copied, report.present, report.verified) == (1, 1, True)
        assert await target.dump() == {'a': 1, 'b': 2, 'c': 3}


async def test_a_value_that_another_writer_stores_meanwhile_is_left() -> None:
    class Used(InMemoryKVS):
        """Another writer sets ``a`` between a read and a write of the copy."""

        async def compare_and_set(self, key: str, expected: Any, value: Any) -> bool:
            if key == 'a':
                await self.set(key, 'theirs')
            return await super().compare_and_set(key, expected, value)

    async with InMemoryKVS() as source, Used() as target:
        await source.multiset({'a': 1, 'b': 2})
        report = await copy(source, target)
        assert (report.copied, report.differing, report.verified) == (1, 1, False)
        assert await target.dump() == {'a': 'theirs', 'b': 2}


async def test_equal_counts_with_a_differing_value_are_not_verified() -> None:
    class Forgetful(InMemoryKVS):
        async def read_bytes(self, keys: Sequence[str]) -> list[bytes | None]:
            texts = await super().read_bytes(keys)
            return [b'7' if key == 'b' and text else text for key, text in zip(keys, texts, strict=True)]

    async with InMemoryKVS() as source, Forgetful() as target:
        await source.multiset({'a': 1, 'b': 2})
        report = await copy(source, target)
        assert report.source_count == report.target_count
        assert report.source_digest != report.target_digest
        assert not report.verified


async def test_values_that_cannot_be_read_are_reported_and_the_rest_is_copied(
    config: Path, monkeypatch: pytest.MonkeyPatch, redis: RedisConnection
) -> None:
    await redis.client().mset({'good': b'1', 'corrupt': b'{', 'nan': b'[NaN]'})
    await redis.client().lpush('list', b'x')
    async with router_of(config, monkeypatch) as router:
        report = await copy(router.bare(), router.rows())
        assert (report.copied, report.failed, report.verified) == (1, 3, False)
        assert [line for key in ("'corrupt'", "'nan'", "'list'") for line in report.messages if key in line][2:]
        assert await router.rows().dump() == {'good': 1}


async def test_a_bounded_number_of_keys_is_in_memory_at_a_time() -> None:
    class Watched(InMemoryKVS):
        most = 0

        async def read_bytes(self, keys: Sequence[str]) -> list[bytes | None]:
            self.most = max(self.most, len(keys))
            return await super().read_bytes(keys)

    async with Watched() as source, Watched() as target:
        await source.multiset({f'k{n}': n for n in range(5 * KEYS_AT_ONCE + 1)})
        assert (await copy(source, target)).copied == 5 * KEYS_AT_ONCE + 1
        assert (source.most, target.most) == (KEYS_AT_ONCE, KEYS_AT_ONCE)


async def test_adding_a_prefix_does_not_copy_the_copies(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with router_of(config, monkeypatch) as router:
        await router.bare().multiset(DATA)
        for _ in range(3):
            assert (await copy(router.bare(), router.named())).verified
        assert len(await router.bare().keys()) == 2 * len(DATA)


@pytest.mark.parametrize('target', ['folders', 'rows', 'named'])
async def test_a_copy_that_is_cancelled_halfway_is_completed_by_the_next(
    config: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    async with router_of(config, monkeypatch) as router:
        await router.files().multiset(DATA)
        other = getattr(router, target)()

        def stop(keys: int) -> None:
            task.cancel()

        task = asyncio.create_task(copy(router.files(), other, progress=stop))
        with pytest.raises(asyncio.CancelledError):
            await task
        assert 0 < len(await other.keys()) < len(DATA)
        report = await copy(router.files(), other)
        assert report.present > 0
        assert report.copied == len(DATA) - report.present
        assert report.verified
        assert await other.dump() == DATA


STOPPED = """
import asyncio, sys
from learning_observer_kvs.stores.copy import copy
from learning_observer_kvs.kvs import KVSRouter

def page(keys):
    print('page', flush=True)
    sys.stdin.readline()

async def main():
    async with KVSRouter.from_settings('creds.yaml') as router:
        await copy(router.files(), getattr(router, sys.argv[1])(), progress=page)

asyncio.run(main())
"""


@pytest.mark.parametrize('target', ['folders', 'rows', 'named'])
def test_a_copy_that_is_killed_halfway_is_completed_by_the_next(config: Path, target: str) -> None:
    (config / 'files.json').write_text(json.dumps(DATA))
    assert lo_kvs(config, 'load', 'files.json', '--store', 'files').returncode == 0
    with subprocess.Popen(
        [sys.executable, '-c', STOPPED, target],
        cwd=config,
        env=os.environ | {'PYTHONPATH': os.getcwd()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == 'page\n'
        process.kill()
    ended = lo_kvs(config, 'copy', 'files', target, '--json')
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)
    assert report['present'] >= KEYS_AT_ONCE
    assert report['copied'] == len(DATA) - report['present']
    assert report['verified']
    dumped = lo_kvs(config, 'dump', 'copy.json', '--store', target)
    assert dumped.returncode == 0, dumped.stderr
    assert json.loads((config / 'copy.json').read_text()) == DATA


def test_the_command_reports_the_copy_and_exits_with_1_where_the_stores_differ(config: Path) -> None:
    for store, value in (('files', {'a': 1, 'b': 2}), ('rows', {'b': 3})):
        (config / 'some.json').write_text(json.dumps(value))
        assert lo_kvs(config, 'load', 'some.json', '--store', store).returncode == 0
    ended = lo_kvs(config, 'copy', 'files', 'rows')
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == "'b' has another value in 'rows'; it was left as it is."
    assert ended.stdout.splitlines()[0] == 'Keys copied: 1. Already present: 0. Differing: 1. Unreadable: 0.'
    ended = lo_kvs(config, 'copy', 'files', 'rows', '--replace')
    assert ended.returncode == 0
    digests = [line.rpartition(' ')[2] for line in ended.stdout.splitlines() if 'digest' in line]
    assert len(digests) == 2
    assert digests[0] == digests[1]
    assert ended.stdout.splitlines()[-1] == 'Verified: the stores agree.'


@pytest.mark.parametrize(
    ('words', 'status', 'said'),
    [
        (['files', 'files'], 2, 'name two stores'),
        (['files', 'nowhere'], 1, "There is no store 'nowhere'; configured are: files, folders"),
    ],
)
def test_unknown_or_equal_stores_are_an_error(config: Path, words: list[str], status: int, said: str) -> None:
    ended = lo_kvs(config, 'copy', *words)
    assert ended.returncode == status
    assert said in ' '.join(ended.stderr.split())
    assert 'Traceback' not in ended.stderr


def test_a_prefix_restricts_the_copy(config: Path) -> None:
    (config / 'some.json').write_text(json.dumps({'Internal,a': 1, 'External,a': 2}))
    assert lo_kvs(config, 'load', 'some.json', '--store', 'files').returncode == 0
    assert lo_kvs(config, 'copy', 'files', 'rows', '--prefix', 'Internal').returncode == 0
    assert lo_kvs(config, 'keys', '--store', 'rows').stdout == 'Internal,a\n'
