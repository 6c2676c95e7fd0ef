import gc

from aiohttp import web

import learning_observer_kvs


async def calm_collector(app):
    """Exclude what is there once the server has started, and collect the rest less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


app = web.Application()
learning_observer_kvs.setup(app, 'creds.yaml')
app.on_startup.append(calm_collector)
