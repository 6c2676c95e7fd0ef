from typing import Any

from aiohttp import web

from learning_observer_kvs import KVS_KEY, queries
from learning_observer_kvs.stream_analytics.helpers import student_event_reducer


@student_event_reducer(null_state={'saves': 0})
async def count_saves(event: Any, internal_state: Any) -> Any:
    if event['client']['event'] != 'google_docs_save':
        return False, False
    internal_state['saves'] += 1
    return internal_state, {'saves': internal_state['saves']}


async def saves(request: web.Request) -> web.Response:
    store = request.config_dict[KVS_KEY]()
    [row] = await queries.table(store, [count_saves], [request.match_info['student']])
    return web.json_response([cell.value for cell in row.cells.values()])


routes = [web.get('/saves/{student}', saves)]
