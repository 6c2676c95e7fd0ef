from aiohttp import web

import learning_observer_kvs

app = web.Application()
learning_observer_kvs.setup(app, 'creds.yaml')
app.cleanup_ctx.append(learning_observer_kvs.calm_collector)
