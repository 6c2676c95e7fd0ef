"""No write is lost or applied twice, while other processes write, processes are killed, and replies are dropped.

Four processes with twenty tasks each contend for a few keys, on files, SQLite and Redis. Others are killed while they
write; a proxy before Redis forwards commands and drops the replies. The attempts of all processes and their outcomes
are combined afterwards (``tests/support/history.py``). With ``--long`` there are ten times as many attempts and
kills, and four times as many events: they are kept in one state, so the work grows with their square.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from learning_observer_kvs.kvs import KVSRouter
from tests.support.contenders import PAIR, SINGLE
from tests.support.history import Outcome, Read, Write, violations
from tests.support.proxy import Fault, Proxy
from tests.support.redis_server import RedisServer

ROOT = Path(__file__).parent.parent.parent
PROCESSES = 4
BACKENDS = ('filesystem', 'sqlite', 'redis', 'redis that drops replies')


@dataclass
class Target:
    """The store that processes contend for.

    Args:
        settings: the settings of the store.
        drops: whether replies are dropped.
        dropped: how many replies were dropped.
    """

    settings: dict[str, Any]
    drops: bool = False
    dropped: int = 0


class Times(NamedTuple):
    """By what factors a run is longer than a normal one."""

    attempts: int = 1
    events: int = 1
    kills: int = 1


@pytest.fixture
def times(request: pytest.FixtureRequest) -> Times:
    return Times(attempts=10, events=4, kills=10) if request.config.getoption('--long') else Times()


@pytest.fixture(params=BACKENDS)
async def target(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Target]:
    if request.param == 'filesystem':
        yield Target({'kvs': {'default': {'type': 'filesystem', 'path': str(tmp_path / 'files')}}})
    elif request.param == 'sqlite':
        yield Target({'kvs': {'default': {'type': 'sqlite', 'path': str(tmp_path / 'a.sqlite3')}}})
    else:
        server: RedisServer = request.getfixturevalue('redis_server')
        async with KVSRouter.from_settings(_redis(server.port)) as router:
            await router().clear()
        if request.param == 'redis':
            yield Target(_redis(server.port))
            return
        async with Proxy(server.port) as proxy:
            target = Target(_redis(proxy.port), drops=True)
            dropping = asyncio.create_task(_drop_replies(proxy, target))
            yield target
            dropping.cancel()


def _redis(port: int) -> dict[str, Any]:
    return {
        'kvs': {'default': {'type': 'redis'}},
        'redis_connection': {'redis_host': '127.0.0.1', 'redis_port': port},
    }


async def _drop_replies(proxy: Proxy, target: Target) -> None:
    chance = random.Random(1)
    while True:
        # Scripts do the writing; of every twenty the reply to one is dropped after it was executed.
        await proxy.inject(Fault.DROP_REPLY, lambda command: b'EVALSHA' in command and chance.random() < 0.05).wait()
        target.dropped += 1


class Contest(NamedTuple):
    """The log of each process, as parsed lines."""

    logs: dict[str, list[dict[str, Any]]]

    def counted(self) -> Counter[str]:
        """The sums of what the processes counted."""
        total: Counter[str] = Counter()
        for lines in self.logs.values():
            for line in lines:
                total.update(line.get('counted', {}))
        return total

    def lines(self) -> list[dict[str, Any]]:
        return [line for lines in self.logs.values() for line in lines]


async def contest(folder: Path, target: Target, kind: str, *, tasks: int, rounds: int, kills: int) -> Contest:
    """Let processes contend until they have finished, and others until they are killed."""

    def specification(name: str, tasks: int, rounds: int) -> dict[str, Any]:
        about = {'name': name, 'kind': kind, 'tasks': tasks, 'rounds': rounds, 'settings': target.settings}
        return about | {'log': str(folder / f'{name}.log'), 'prints': name in victims}

    victims = [f'victim{number}' for number in range(kills)]
    finishing = [f'process{number}' for number in range(PROCESSES)]
    specifications = [specification(name, tasks, rounds) for name in finishing]
    specifications += [specification(name, 8, 1_000_000) for name in victims]
    launcher = await asyncio.create_subprocess_exec(
        *(sys.executable, '-W', 'error', '-m', 'tests.support.contenders', json.dumps(specifications)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert launcher.stdout is not None
    numbers: dict[str, int] = {}
    while len(numbers) < len(specifications):
        name, number = (await launcher.stdout.readline()).decode().split()
        numbers[name] = int(number)
    for name in finishing:
        os.kill(numbers[name], signal.SIGUSR1)
    chance = random.Random(2)
    for victim in victims:
        os.kill(numbers[victim], signal.SIGUSR1)
        for _ in range(chance.randrange(10, 60)):
            assert (await launcher.stdout.readline()).decode().strip() in victims
        os.kill(numbers[victim], signal.SIGKILL)
    await launcher.communicate()
    assert launcher.returncode == 0
    logs = {name: (folder / f'{name}.log').read_text().splitlines() for name in numbers}
    return Contest({name: list(map(json.loads, lines)) for name, lines in logs.items()})


async def final(target: Target, *keys: str) -> list[Any]:
    async with KVSRouter.from_settings(target.settings) as router:
        return await router().multiget(keys)


def history(contest: Contest, key: str) -> tuple[list[Write], list[Read]]:
    """The writes that were attempted on one key, and the reads of it."""
    begun: dict[str, dict[str, Any]] = {}
    since: dict[str, int] = {}
    writes: list[Write] = []
    reads: list[Read] = []
    for line in contest.lines():
        if 'read' in line and line['key'] == key:
            reads.append(Read(line['read'], line['started'], line['at']))
        elif 'write' in line and line['key'] == key:
            begun[line['write']] = line  # an update logs one for each of its runs; the last one counts
            since.setdefault(line['write'], line['at'])
        elif line.get('done') in begun:
            new, outcome = line['done'], Outcome[line['outcome']]
            end = float('inf') if outcome is Outcome.UNCLEAR else line['at']
            writes.append(Write(new, begun.pop(new)['old'], since[new], end, outcome))
    for new, line in begun.items():
        writes.append(Write(new, line['old'], since[new], float('inf'), Outcome.UNCLEAR))
    return writes, reads


async def test_updates_compare_and_sets_and_commits_are_linearizable(
    target: Target, tmp_path: Path, times: Times, note: Callable[[str], None]
) -> None:
    rounds, kills = 10 * times.attempts, 3 * times.kills
    held = await contest(tmp_path, target, 'values', tasks=20, rounds=rounds, kills=kills)
    single, left, right = await final(target, SINGLE, *PAIR)
    assert left == right
    total: Counter[Outcome] = Counter()
    assert not any(line.get('torn') for line in held.lines())
    for key, value in ((SINGLE, single), (PAIR[0], left)):
        writes, reads = history(held, key)
        assert violations(writes, reads, value) == []
        outcomes = Counter(write.outcome for write in writes)
        total += outcomes
        assert outcomes[Outcome.OK] > PROCESSES
        assert outcomes[Outcome.FAILED]  # another writer was faster
    counted = held.counted()
    assert counted['runs'] > counted['updates'], 'no update met a conflict'
    assert counted['batches of several']
    assert any(write.outcome is Outcome.UNCLEAR for key in (SINGLE, PAIR[0]) for write in history(held, key)[0])
    assert bool(target.dropped) is target.drops
    summary = ', '.join(f'{total[outcome]:,} {outcome.name.lower()}' for outcome in Outcome)
    note(f'had {total.total():,} attempts ({summary}), {kills} kills, {target.dropped} dropped replies.')


async def check_events(target: Target, held: Contest, *, provisional: bool) -> None:
    """Each event was processed once, in the order of its socket; each result was true, unless it was provisional."""
    for student in ('ann', 'bob'):
        keys = [f'{state},tests.append,STUDENT:{student}' for state in ('Internal', 'External')]
        events, number = await final(target, *keys)
        assert number == len(events)
        sent = {line['event'] for line in held.lines() if line.get('student') == student}
        results = {line['done']: line['result'] for line in held.lines() if line.get('done') in sent}
        assert len(set(events)) == len(events), 'an event was applied twice'
        assert set(events) <= sent
        if provisional:
            results = {event: result for event, result in results.items() if event.startswith('process')}
        else:
            assert [events[result - 1] for result in results.values()] == list(results)
        assert set(results) - set(events) == set(), 'an event was lost'
        by_socket: dict[str, list[int]] = {}
        for event in events:
            socket, _, position = event.rpartition('.')
            by_socket.setdefault(socket, []).append(int(position))
        for positions in by_socket.values():
            assert positions == list(range(len(positions)))


async def test_events_of_four_processes_are_processed_once_and_in_order(
    target: Target, tmp_path: Path, times: Times, note: Callable[[str], None]
) -> None:
    rounds, kills = 25 * times.events, 3 * times.kills
    held = await contest(tmp_path, target, 'events', tasks=24, rounds=rounds, kills=kills)
    await check_events(target, held, provisional=False)
    of_one_key = [line for line in held.lines() if line.get('student') == 'ann' and 'process' in line['event']]
    assert len(of_one_key) == PROCESSES * 500 * times.events
    counted = held.counted()
    assert counted['runs'] > counted['events'], 'no event met a conflict'
    assert counted['commits'] < counted['runs'], 'no events were committed together'
    assert bool(target.dropped) is target.drops
    note(_figures(counted, kills, target))


async def test_events_with_write_behind_are_processed_once_and_in_order(
    target: Target, tmp_path: Path, times: Times, note: Callable[[str], None]
) -> None:
    target.settings['kvs']['default']['flush_interval'] = 0.02
    rounds, kills = 50 * times.events, 2 * times.kills
    held = await contest(tmp_path, target, 'events', tasks=24, rounds=rounds, kills=kills)
    await check_events(target, held, provisional=True)
    counted = held.counted()
    assert counted['runs'] > counted['events'], 'no event met a conflict'
    note(_figures(counted, kills, target))


def _figures(counted: Counter[str], kills: int, target: Target) -> str:
    """The counts of the processes that finished, as text."""
    return (
        f'had {counted["events"]:,} events in {counted["runs"]:,} runs and {counted["commits"]:,} commits, '
        f'{kills} kills, {target.dropped} dropped replies.'
    )
