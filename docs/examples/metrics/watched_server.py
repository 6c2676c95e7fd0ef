from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

import learning_observer_kvs
from learning_observer_kvs import KVS
from learning_observer_kvs.prometheus import MetricsCollector

registry = CollectorRegistry()
registry.register(MetricsCollector(KVS))


async def health(request):
    found = await KVS.health()
    return web.json_response(found, status=200 if found['ok'] else 503)


async def metrics(request):
    return web.Response(body=generate_latest(registry), headers={'Content-Type': 'text/plain; version=0.0.4'})


app = web.Application()
app.router.add_get('/health', health)
app.router.add_get('/metrics', metrics)
learning_observer_kvs.setup(app, {'kvs': {'default': {'type': 'stub'}}})

if __name__ == '__main__':
    web.run_app(app)
