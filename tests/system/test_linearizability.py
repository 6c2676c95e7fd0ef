"""Nothing is lost and nothing applied twice, whoever else writes, whoever is killed, and whatever reply is dropped.

Four processes with twenty tasks each contend for a few keys, on files, SQLite and Redis. Others are killed while they
write; a proxy before Redis carries commands out and drops the replies. What everybody tried and was told is put
together afterwards (``tests/support/history.py``). With ``--long`` there are ten times as many attempts and
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
from tests.support.history import Outcome, Read, Write, faults
from tests.support.proxy import Fault, Proxy
from tests.support.redis_server import RedisServer

ROOT = Path(__file__).parent.parent.parent
PROCESSES = 4
BACKENDS = ('filesystem', 'sqlite', 'redis', 'redis that drops replies')


@dataclass
class Place:
    """Where a contest is held.

    Args:
        settings: for the contenders.
        drops: whether replies are dropped.
        dropped: how many were.
    """

    settings: dict[str, Any]
    drops: bool = False
    dropped: int = 0


class Times(NamedTuple):
    """How much more there is to do than in a normal run."""

    attempts: int = 1
    events: int = 1
    kills: int = 1


@pytest.fixture
def times(request: pytest.FixtureRequest) -> Times:
    return Times(attempts=10, events=4, kills=10) if request.config.getoption('--long') else Times()


@pytest.fixture(params=BACKENDS)
async def location(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    if request.param == 'filesystem':
        yield Place({'kvs': {'default': {'type': 'filesystem', 'path': str(tmp_path / 'files')}}})
    elif request.param == 'sqlite':
        yield Place({'kvs': {'default': {'type': 'sqlite', 'path': str(tmp_path / 'a.sqlite3')}}})
    else:
        server: RedisServer = request.getfixturevalue('redis_server')
        async with KVSRouter.from_settings(_redis(server.port)) as router:
            await router().clear()
        if request.param == 'redis':
            yield Place(_redis(server.port))
            return
        async with Proxy(server.port) as proxy:
            place = Place(_redis(proxy.port), drops=True)
            dropping = asyncio.create_task(_drop_replies(proxy, place))
            yield place
            dropping.cancel()


def _redis(port: int) -> dict[str, Any]:
    return {
        'kvs': {'default': {'type': 'redis'}},
        'redis_connection': {'redis_host': '127.0.0.1', 'redis_port': port},
    }


async def _drop_replies(proxy: Proxy, place: Place) -> None:
    chance = random.Random(1)
    while True:
        # Scripts are what writes; of every twenty the reply to one is dropped after it was carried out.
        await proxy.inject(Fault.DROP_REPLY, lambda command: b'EVALSHA' in command and chance.random() < 0.05).wait()
        place.dropped += 1


class Contest(NamedTuple):
    """What was written down: the lines of each process."""

    logs: dict[str, list[dict[str, Any]]]

    def counted(self) -> Counter[str]:
        """What the processes counted, together."""
        total: Counter[str] = Counter()
        for lines in self.logs.values():
            for line in lines:
                total.update(line.get('counted', {}))
        return total

    def lines(self) -> list[dict[str, Any]]:
        return [line for lines in self.logs.values() for line in lines]


async def contest(folder: Path, place: Place, kind: str, *, tasks: int, rounds: int, kills: int) -> Contest:
    """Let processes contend until they are through, and others until they are killed."""

    def specification(name: str, tasks: int, rounds: int) -> dict[str, Any]:
        about = {'name': name, 'kind': kind, 'tasks': tasks, 'rounds': rounds, 'settings': place.settings}
        return about | {'log': str(folder / f'{name}.log'), 'tells': name in victims}

    victims = [f'victim{number}' for number in range(kills)]
    through = [f'process{number}' for number in range(PROCESSES)]
    specifications = [specification(name, tasks, rounds) for name in through]
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
    for name in through:
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


async def final(place: Place, *keys: str) -> list[Any]:
    async with KVSRouter.from_settings(place.settings) as router:
        return await router().multiget(keys)


def history(contest: Contest, key: str) -> tuple[list[Write], list[Read]]:
    """The attempts at one key and what was read there."""
    begun: dict[str, dict[str, Any]] = {}
    since: dict[str, int] = {}
    writes: list[Write] = []
    reads: list[Read] = []
    for line in contest.lines():
        if 'read' in line and line['key'] == key:
            reads.append(Read(line['read'], line['started'], line['at']))
        elif 'write' in line and line['key'] == key:
            begun[line['write']] = line  # an update writes one for each of its runs; the last one counts
            since.setdefault(line['write'], line['at'])
        elif line.get('done') in begun:
            new, outcome = line['done'], Outcome[line['outcome']]
            end = float('inf') if outcome is Outcome.UNCLEAR else line['at']
            writes.append(Write(new, begun.pop(new)['old'], since[new], end, outcome))
    for new, line in begun.items():
        writes.append(Write(new, line['old'], since[new], float('inf'), Outcome.UNCLEAR))
    return writes, reads


async def test_updates_compare_and_sets_and_commits_are_linearizable(
    place: Place, tmp_path: Path, times: Times, tell: Callable[[str], None]
) -> None:
    rounds, kills = 10 * times.attempts, 3 * times.kills
    held = await contest(tmp_path, place, 'values', tasks=20, rounds=rounds, kills=kills)
    single, left, right = await final(place, SINGLE, *PAIR)
    assert left == right
    total: Counter[Outcome] = Counter()
    assert not any(line.get('torn') for line in held.lines())
    for key, value in ((SINGLE, single), (PAIR[0], left)):
        writes, reads = history(held, key)
        assert faults(writes, reads, value) == []
        outcomes = Counter(write.outcome for write in writes)
        total += outcomes
        assert outcomes[Outcome.OK] > PROCESSES
        assert outcomes[Outcome.FAILED]  # somebody else was faster
    counted = held.counted()
    assert counted['runs'] > counted['updates'], 'no update met a conflict'
    assert counted['loads of several']
    assert any(write.outcome is Outcome.UNCLEAR for key in (SINGLE, PAIR[0]) for write in history(held, key)[0])
    assert bool(place.dropped) is place.drops
    told = ', '.join(f'{total[outcome]:,} {outcome.name.lower()}' for outcome in Outcome)
    tell(f'had {total.total():,} attempts ({told}), {kills} kills, {place.dropped} dropped replies.')


async def check_events(place: Place, held: Contest, *, provisional: bool) -> None:
    """Each event is there once, in the order of its socket; what was told was true, unless it was told beforehand."""
    for student in ('ann', 'bob'):
        keys = [f'{state},tests.append,STUDENT:{student}' for state in ('Internal', 'External')]
        events, number = await final(place, *keys)
        assert number == len(events)
        sent = {line['event'] for line in held.lines() if line.get('student') == student}
        told = {line['done']: line['result'] for line in held.lines() if line.get('done') in sent}
        assert len(set(events)) == len(events), 'an event was applied twice'
        assert set(events) <= sent
        if provisional:
            told = {event: result for event, result in told.items() if event.startswith('process')}
        else:
            assert [events[result - 1] for result in told.values()] == list(told)
        assert set(told) - set(events) == set(), 'an event was lost'
        by_socket: dict[str, list[int]] = {}
        for event in events:
            socket, _, position = event.rpartition('.')
            by_socket.setdefault(socket, []).append(int(position))
        for positions in by_socket.values():
            assert positions == list(range(len(positions)))


async def test_events_of_four_processes_are_all_there_once_and_in_order(
    place: Place, tmp_path: Path, times: Times, tell: Callable[[str], None]
) -> None:
    rounds, kills = 25 * times.events, 3 * times.kills
    held = await contest(tmp_path, place, 'events', tasks=24, rounds=rounds, kills=kills)
    await check_events(place, held, provisional=False)
    of_one_key = [line for line in held.lines() if line.get('student') == 'ann' and 'process' in line['event']]
    assert len(of_one_key) == PROCESSES * 500 * times.events
    counted = held.counted()
    assert counted['runs'] > counted['events'], 'no event met a conflict'
    assert counted['commits'] < counted['runs'], 'no events were committed together'
    assert bool(place.dropped) is place.drops
    tell(_figures(counted, kills, place))


async def test_events_that_are_put_off_are_all_there_once_and_in_order(
    place: Place, tmp_path: Path, times: Times, tell: Callable[[str], None]
) -> None:
    place.settings['kvs']['default']['flush_interval'] = 0.02
    rounds, kills = 50 * times.events, 2 * times.kills
    held = await contest(tmp_path, place, 'events', tasks=24, rounds=rounds, kills=kills)
    await check_events(place, held, provisional=True)
    counted = held.counted()
    assert counted['runs'] > counted['events'], 'no event met a conflict'
    tell(_figures(counted, kills, place))


def _figures(counted: Counter[str], kills: int, place: Place) -> str:
    """What the processes that went through to the end counted."""
    return (
        f'had {counted["events"]:,} events in {counted["runs"]:,} runs and {counted["commits"]:,} commits, '
        f'{kills} kills, {place.dropped} dropped replies.'
    )
