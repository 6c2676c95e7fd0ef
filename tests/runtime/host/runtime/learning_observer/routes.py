"""The routes of the server."""

from __future__ import annotations

import json
import time
import traceback
import uuid
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

import learning_observer.auth
import learning_observer.stream_analytics


async def events(request: web.Request) -> web.WebSocketResponse:
    """Process the events of one student, from a websocket; each is answered when all reducers have processed it."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    metadata = {'source': 'writing', 'auth': {'safe_user_id': request.match_info['student']}}
    entries = learning_observer.stream_analytics.REDUCER_MODULES['writing']
    pipelines = [(await entry['reducer'](metadata), entry['scope']) for entry in entries]
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            event = {'client': message.json(), 'server': {'time': time.time()}, 'metadata': metadata}
            await process(event, pipelines)
            await socket.send_str('done')
    return socket


async def process(event: dict[str, Any], pipelines: Sequence[tuple[Any, Any]]) -> None:
    """Give an event to the reducers, one after the other; when one fails, keep it in a file and leave out the rest."""
    client = event['client']
    try:
        for process_event, scope in pipelines:
            names = [field.event for field in scope if hasattr(field, 'event')]
            if all(name in client for name in names):
                await process_event(event, {name: client[name] for name in names})
    except Exception:
        traceback.print_exc()
        path = Path('logs') / f'critical-error-{datetime.now().isoformat()}-{uuid.uuid4().hex}.tb'
        path.parent.mkdir(exist_ok=True)
        text = json.dumps(event, sort_keys=True, indent=2)
        path.write_text(f'{text}\nTraceback:\n{traceback.format_exc()}')


def register_debug_routes(app: web.Application) -> None:
    """Add the pages for developers."""

    async def headers(request: web.Request) -> web.Response:
        return web.json_response(dict(request.headers))

    app.router.add_get('/admin/headers', learning_observer.auth.admin(headers))


def add_routes(app: web.Application) -> None:
    """Add all routes."""
    app.router.add_get('/wsapi/in/{student}', events)
    register_debug_routes(app)
