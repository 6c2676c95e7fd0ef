"""A replay of failed events that is killed with ``kill -9`` again and again, and then run to its end.

Run as a program with settings as JSON and a folder of failed events: it prints how often it was killed, and the report.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.replay import failures, files
from learning_observer_kvs.replay.retry import RetryReport, retry
from learning_observer_kvs.stream_analytics.helpers import Pipeline, student_event_reducer
from tests.support.programs import run_and_kill


@student_event_reducer(null_state=[])
async def numbers(event: Any, state: Any) -> Any:
    """List the numbers of the events: one that is lost or counted twice shows."""
    return [*state, event['client']['number']], len(state) + 1


@student_event_reducer(null_state=[])
async def odd(event: Any, state: Any) -> Any:
    """List the odd numbers; an event with an even one changes nothing."""
    number = event['client']['number']
    return ([*state, number], False) if number % 2 else (False, False)


REDUCERS: list[Pipeline] = [numbers, odd]


async def replay(settings: dict[str, Any], folder: Path, report: int | None = None) -> RetryReport:
    """Replay the folder; write a byte for each event to a file descriptor."""
    async with KVSRouter.from_settings(settings) as router:
        rows = failures.read(files.find([folder]).failures)

        def progress(events: int) -> None:
            if report is not None:
                os.write(report, b'.')

        return await retry(rows, REDUCERS, router=router, progress=progress)


def kill_one(settings: dict[str, Any], folder: Path) -> bool:
    """Fork a replay and kill it in the middle; return whether it had not ended before."""
    _, status = run_and_kill(lambda report: replay(settings, folder, report), 1 / 30)
    return os.WIFSIGNALED(status)


def main() -> None:
    settings, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
    kills = sum(kill_one(settings, folder) for _ in range(12))
    report = asyncio.run(replay(settings, folder))
    print(json.dumps({'kills': kills, 'failures': report.failures, 'already': report.already}))


if __name__ == '__main__':
    main()
