from aiohttp import web
from own_app import count_saves, routes
from pytest_aiohttp import AiohttpClient

from learning_observer_kvs import KVS, KVSRouter
from learning_observer_kvs.testing.fixtures import ReplayClass


async def test_the_dashboard_has_what_the_class_has_saved(
    kvs_app: web.Application, replay_class: ReplayClass, aiohttp_client: AiohttpClient
) -> None:
    kvs_app.add_routes(routes)
    client = await aiohttp_client(kvs_app)
    for each in await replay_class(count_saves, students=4):
        saved = [event for event in each.events if event['client']['event'] == 'google_docs_save']
        response = await client.get(f'/saves/{each.student}')
        assert await response.json() == [{'saves': len(saved)}]


async def test_each_test_has_stores_of_its_own(kvs_router: KVSRouter) -> None:
    assert await kvs_router().keys() == []


async def test_code_that_uses_the_router_of_the_program(kvs_program: KVSRouter) -> None:
    await KVS.memoization().set('answer', 42)
    assert kvs_program is KVS
