from aiohttp import web
from counting import count_keys

import learning_observer_kvs

app = web.Application()
learning_observer_kvs.setup(app, 'creds.yaml')


async def event(request):
    """One event of a student: give it to the reducer, and answer with what a dashboard shows."""
    process_event = await count_keys({'auth': {'safe_user_id': request.match_info['student']}})
    return web.json_response(await process_event({'client': await request.json()}))


app.router.add_post('/students/{student}', event)

if __name__ == '__main__':
    web.run_app(app, host='127.0.0.1', port=8080)
