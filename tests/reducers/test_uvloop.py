"""Everything works in an event loop of another maker, too."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import uvloop

from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.stream_analytics.helpers import KeyField, KeyStateType, make_key, student_event_reducer
from tests.support.redis_server import RedisServer


@student_event_reducer(null_state={'count': 0})
async def count(event: Any, state: Any) -> Any:
    state['count'] += 1
    return state, {'events': state['count']}


async def lesson(settings: dict[str, Any]) -> list[Any]:
    """Twenty students, ten events each: five one after the other, and five at once."""
    async with KVSRouter.from_settings(settings) as router:

        async def student(number: int) -> None:
            process_event = await count({'auth': {'safe_user_id': f's{number}'}}, router=router)
            for _ in range(5):
                await process_event({})
            await asyncio.gather(*(process_event({}) for _ in range(5)))

        await asyncio.gather(*map(student, range(20)))
        keys = [make_key(count, {KeyField.STUDENT: f's{number}'}, KeyStateType.EXTERNAL) for number in range(20)]
        return await router().multiget(keys)


@pytest.mark.parametrize('interval', [None, 0.01], ids=['every event', 'put off'])
@pytest.mark.parametrize('backend', ['stub', 'filesystem', 'sqlite', 'redis'])
def test_no_event_is_lost_in_uvloop(
    backend: str, interval: float | None, tmp_path: Path, redis_server: RedisServer
) -> None:
    options: dict[str, Any] = {'type': backend, 'flush_interval': interval} if interval else {'type': backend}
    if backend in ('filesystem', 'sqlite'):
        options['path'] = str(tmp_path / 'state')
    if backend == 'redis':
        options['prefix'] = f'uvloop {interval}:'
    settings = {
        'kvs': {'default': options},
        'redis_connection': {'redis_host': '127.0.0.1', 'redis_port': redis_server.port},
    }
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(lesson(settings)) == [{'events': 10}] * 20
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # another loop, the same data
        kept = 20 if backend != 'stub' else 10
        assert runner.run(lesson(settings)) == [{'events': kept}] * 20
