from aiohttp import web

import learning_observer_kvs

app = web.Application()
learning_observer_kvs.setup(app, 'creds.yaml')

if __name__ == '__main__':
    web.run_app(app, port=8080)
