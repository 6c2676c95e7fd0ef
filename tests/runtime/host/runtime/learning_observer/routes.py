"""The routes of the server."""

from __future__ import annotations

import time

from aiohttp import WSMsgType, web

import learning_observer.auth
import learning_observer.incoming_student_event


async def events(request: web.Request) -> web.WebSocketResponse:
    """Process the events of one student, from a websocket; each is answered when all reducers have processed it."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    metadata = {'source': 'writing', 'auth': {'safe_user_id': request.match_info['student']}}
    pipeline = await learning_observer.incoming_student_event.student_event_pipeline(metadata)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await pipeline({'client': message.json(), 'server': {'time': time.time()}, 'metadata': metadata})
            await socket.send_str('done')
    return socket


def register_debug_routes(app: web.Application) -> None:
    """Add the pages for developers."""

    async def headers(request: web.Request) -> web.Response:
        return web.json_response(dict(request.headers))

    app.router.add_get('/admin/headers', learning_observer.auth.admin(headers))


def add_routes(app: web.Application) -> None:
    """Add all routes."""
    app.router.add_get('/wsapi/in/{student}', events)
    register_debug_routes(app)
