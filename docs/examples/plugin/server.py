import hmac
import os

from aiohttp import web

import learning_observer_kvs


def is_admin(request, action, store, key):
    wanted = f'Bearer {os.environ["ADMIN_TOKEN"]}'
    return hmac.compare_digest(request.headers.get('Authorization', '').encode(), wanted.encode())


async def greeting(request):
    store = request.config_dict[learning_observer_kvs.KVS_KEY]()
    count = await store.update('greetings', lambda count: (count or 0) + 1)
    return web.json_response({'greetings': count})


app = web.Application()
learning_observer_kvs.setup(app, 'creds.yaml', authorize=is_admin)
app.router.add_get('/greeting', greeting)

if __name__ == '__main__':
    web.run_app(app, host='127.0.0.1', port=8080)
