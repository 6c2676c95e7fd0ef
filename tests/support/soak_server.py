"""A server for the soak: a line of JSON in is an event, a line out is its answer. It imports nothing but the package.

Run as a program, by its path, so that another version of the package can be on ``PYTHONPATH``; its arguments are the
settings as JSON. It prints its port, and ends at SIGTERM as a server does in a rolling restart: events that it has read
are answered, those that it has not are left to another process.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from typing import Any

from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.stream_analytics.helpers import (
    EventField,
    KeyField,
    Scope,
    kvs_pipeline,
    student_event_reducer,
)

MODULE = 'soak'
"""The reducers' module in keys, the same in every version."""

Event = dict[str, Any]


@student_event_reducer(null_state={'last': 0, 'wrong': []}, module_override=MODULE)
async def order(event: Event, state: Any) -> Any:
    """Note each number that does not follow the one before it: an event was lost, doubled, or came too early."""
    if event['number'] != state['last'] + 1:
        state['wrong'] = [*state['wrong'], [state['last'], event['number']]][:20]
    state['last'] = event['number']
    return state, event['number']


@student_event_reducer(null_state={'text': ''}, module_override=MODULE)
async def text(event: Event, state: Any) -> Any:
    """Write a character for each event, as an essay grows."""
    state['text'] += chr(ord('a') + event['number'] % 26)
    return state, {'length': len(state['text'])}


@kvs_pipeline(null_state=0, scope=Scope([KeyField.STUDENT, EventField('doc_id')]), module_override=MODULE)
async def documents(event: Event, state: Any) -> Any:
    """Count the events of each document."""
    return state + 1, state + 1


@student_event_reducer(null_state=None, module_override=MODULE)
async def rest(event: Event, state: Any) -> Any:
    """Decline to write with two events of three."""
    return (event['number'], False) if event['number'] % 3 == 0 else (False, False)


REDUCERS = [order, text, documents, rest]


class Server:
    """Answers the events of its connections until it is told to stop.

    Args:
        router: where the states are.
    """

    def __init__(self, router: KVSRouter) -> None:
        self._router = router
        self._stopping = asyncio.get_running_loop().create_future()
        self._connections: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        """Read no more events."""
        if not self._stopping.done():
            self._stopping.set_result(None)

    async def run(self) -> None:
        """Serve until :meth:`stop`, and until what was read is answered."""
        server = await asyncio.start_server(self._connected, '127.0.0.1', 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await self._stopping
        server.close()
        while self._connections:
            await asyncio.wait(self._connections)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        processes: list[Any] = []
        try:
            while not self._stopping.done():
                reading = asyncio.ensure_future(reader.readline())
                await asyncio.wait([reading, self._stopping], return_when=asyncio.FIRST_COMPLETED)
                if not reading.done():
                    reading.cancel()
                    break
                line = reading.result()
                if not line:
                    break
                event = json.loads(line)
                if not processes:
                    metadata = {'auth': {'safe_user_id': event['student']}}
                    processes = [await reducer(metadata, router=self._router) for reducer in REDUCERS]
                writer.write(await self._answer(event, processes))
        finally:
            writer.close()
            self._connections.discard(task)

    async def _answer(self, event: Event, processes: list[Any]) -> bytes:
        fields = {'doc_id': event['doc_id']}
        outcomes = await asyncio.gather(*(process(event, fields) for process in processes), return_exceptions=True)
        errors = [f'{type(outcome).__name__}: {outcome}' for outcome in outcomes if isinstance(outcome, BaseException)]
        return json.dumps(errors).encode() + b'\n'


async def main() -> None:
    """Serve with the settings that are the first argument."""
    async with KVSRouter.from_settings(json.loads(sys.argv[1])) as router:
        server = Server(router)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.stop)
        await server.run()


if __name__ == '__main__':
    asyncio.run(main())
