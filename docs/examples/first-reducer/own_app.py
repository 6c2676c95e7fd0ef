from aiohttp import web
from counting import count_keys

import learning_observer_kvs
from learning_observer_kvs.stream_analytics.helpers import KeyField, KeyStateType, make_key


async def events(request):
    """Take the events of one student over a websocket."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    process_event = await count_keys({'auth': {'safe_user_id': request.match_info['student']}})
    async for message in socket:
        await process_event({'client': message.json()})
    return socket


async def dashboard(request):
    """Show the teacher the state of that student."""
    store = request.config_dict['kvs']()
    key = make_key(count_keys, {KeyField.STUDENT: request.match_info['student']}, KeyStateType.EXTERNAL)
    return web.json_response(await store[key])


app = web.Application()
learning_observer_kvs.setup(app, 'creds.yaml')
app.router.add_get('/events/{student}', events)
app.router.add_get('/dashboard/{student}', dashboard)

if __name__ == '__main__':
    web.run_app(app, host='127.0.0.1', port=8080)
