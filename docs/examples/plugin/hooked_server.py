from aiohttp import web

import learning_observer_kvs
from learning_observer_kvs import settings

settings.load_settings('creds.yaml')
app = web.Application()
app.on_startup.append(learning_observer_kvs.startup_hook)

if __name__ == '__main__':
    web.run_app(app, host='127.0.0.1', port=8080)
