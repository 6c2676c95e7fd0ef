"""Processes that contend for the same keys, and log what they tried and how it ended.

    python -m tests.support.contenders SPECIFICATIONS

The specifications are a JSON array, one for each process: ``settings`` of a router, ``kind`` (``values`` or
``events``), ``name`` of the process, ``tasks`` in it, ``rounds`` of each, ``prints`` (whether it prints its name at
each attempt), ``log`` (a file that gets a line before and after each attempt, so that nothing is forgotten when the
process is killed).
A process prints its name and number when it is ready, and begins at SIGUSR1.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from learning_observer_kvs.errors import StoreUnavailable, WriteUnclear
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.types import MISSING
from learning_observer_kvs.stream_analytics.helpers import kvs_pipeline
from tests.support.history import Outcome

SINGLE, PAIR = 'single', ('left', 'right')
"""The keys that the values are in."""

MAIN_SOCKETS = 20
"""How many sockets of a process are those of one student; the others are those of another one."""


class Contender:
    """One of the processes.

    Args:
        specification: as the module describes it.
    """

    def __init__(self, specification: dict[str, Any]) -> None:
        self.specification = specification
        self.name = specification['name']
        self.counted: Counter[str] = Counter()
        self._log = os.open(specification['log'], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._random = random.Random(self.name)

    def note(self, **line: Any) -> None:
        """Append a line to the log, in one write."""
        os.write(self._log, json.dumps(line | {'at': time.monotonic_ns()}).encode() + b'\n')
        if self.specification['prints'] and ('write' in line or 'event' in line):
            os.write(1, f'{self.name}\n'.encode())

    async def run(self) -> None:
        """Contend from SIGUSR1 on."""
        begin = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, begin.set)
        work = {'values': self._values, 'events': self._events}[self.specification['kind']]
        async with KVSRouter.from_settings(self.specification['settings']) as router:
            store = router()
            self._count_commits(store)
            await _answered(lambda: store['warm'])
            os.write(1, f'{self.name} {os.getpid()}\n'.encode())
            await begin.wait()
            await asyncio.gather(*(work(store, router, task) for task in range(self.specification['tasks'])))
        self.note(counted=self.counted)

    # Values

    async def _values(self, store: Store, router: KVSRouter, task: int) -> None:
        for number in range(self.specification['rounds']):
            attempt = self._random.choice((self._update, self._compare_and_set, self._commit_pair, self._look))
            await attempt(store, f'{self.name}.{task}.{number}')

    async def _update(self, store: Store, new: str) -> None:
        def replace(value: Any) -> Any:
            self.counted['runs'] += 1
            self.note(write=new, key=SINGLE, old=value)
            return new

        self.counted['updates'] += 1
        self.note(write=new, key=SINGLE, old=None)
        await self._log_outcome(new, store.update(SINGLE, replace))

    async def _compare_and_set(self, store: Store, new: str) -> None:
        old = await self._read(store, SINGLE)
        self.note(write=new, key=SINGLE, old=old)
        await self._log_outcome(new, store.compare_and_set(SINGLE, MISSING if old is None else old, new))

    async def _commit_pair(self, store: Store, new: str) -> None:
        started = time.monotonic_ns()
        old, other = await _answered(lambda: store.multiget(PAIR))
        self.note(read=old, key=PAIR[0], started=started, torn=old != other)
        self.note(write=new, key=PAIR[0], old=old)
        expected = dict.fromkeys(PAIR, MISSING if old is None else old)
        await self._log_outcome(new, store.commit(dict.fromkeys(PAIR, new), expected))

    async def _log_outcome(self, new: str, attempt: Awaitable[Any]) -> None:
        try:
            outcome = Outcome.FAILED if await attempt is False else Outcome.OK
        except StoreUnavailable:
            outcome = Outcome.UNAVAILABLE
        except WriteUnclear:
            outcome = Outcome.UNCLEAR
        self.note(done=new, outcome=outcome.name)

    async def _look(self, store: Store, _: str) -> None:
        await self._read(store, self._random.choice((SINGLE, PAIR[0])))

    async def _read(self, store: Store, key: str) -> Any:
        started = time.monotonic_ns()
        value = await _answered(lambda: store[key])
        self.note(read=value, key=key, started=started)
        return value

    # Events

    async def _events(self, store: Store, router: KVSRouter, task: int) -> None:
        """One socket of a student: a reducer that appends each event's id; every other one waits for something."""

        @kvs_pipeline(null_state=[], module_override='tests', qualname_override='append')
        async def append(event: str, state: Any) -> Any:
            return self._appended(event, state)

        @kvs_pipeline(null_state=[], module_override='tests', qualname_override='append')
        async def append_slowly(event: str, state: Any) -> Any:
            await asyncio.sleep(0)
            return self._appended(event, state)

        student = 'ann' if task < MAIN_SOCKETS else 'bob'
        pipeline = append_slowly if task % 2 else append
        process_event = await pipeline({'auth': {'safe_user_id': student}}, router=router)
        for number in range(self.specification['rounds']):
            event = f'{self.name}.{task}.{number}'
            self.counted['events'] += 1
            self.note(event=event, student=student)
            self.note(done=event, result=await _answered(functools.partial(process_event, event)))

    def _appended(self, event: str, state: Any) -> Any:
        self.counted['runs'] += 1
        state.append(event)
        return state, len(state)

    def _count_commits(self, store: Any) -> None:
        """Count the commits, and the batches of more than one of them."""
        write_batch = store._write_batch

        def counted_write_batch(batch: Any, on_batch_done: Any) -> Any:
            self.counted['commits'] += len(batch)
            self.counted['batches of several'] += len(batch) > 1
            return write_batch(batch, on_batch_done)

        store._write_batch = counted_write_batch


async def _answered(call: Callable[[], Awaitable[Any]]) -> Any:
    """Call until the store can be reached; a call that could not reach it has changed nothing."""
    while True:
        with suppress(StoreUnavailable):
            return await call()


def main(specifications: list[dict[str, Any]]) -> int:
    """Run the processes; return 1 if one failed that was not killed."""
    numbers: set[int] = set()
    for specification in specifications:
        number = os.fork()
        if number:
            numbers.add(number)
            continue
        try:
            asyncio.run(Contender(specification).run())
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    while numbers:
        number, status = os.wait()
        numbers.remove(number)
        if os.waitstatus_to_exitcode(status) not in (0, -signal.SIGKILL):
            for other in numbers:
                os.kill(other, signal.SIGKILL)
            return 1
    return 0


if __name__ == '__main__':
    sys.exit(main(json.loads(sys.argv[1])))
