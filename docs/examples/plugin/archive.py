from aiohttp import web

import learning_observer_kvs
from learning_observer_kvs import KVSRouter

TODAY = {'kvs': {'default': {'type': 'stub'}}}
ARCHIVE = {'kvs': {'default': {'type': 'stub'}, 'last_year': {'type': 'stub'}}}


async def names(request):
    return web.json_response(request.config_dict['kvs'].names())


app, archive = web.Application(), web.Application()
learning_observer_kvs.setup(app, TODAY)
learning_observer_kvs.setup(archive, ARCHIVE, router=KVSRouter())
for each in (app, archive):
    each.router.add_get('/names', names)
app.add_subapp('/archive/', archive)

if __name__ == '__main__':
    web.run_app(app, host='127.0.0.1', port=8080)
