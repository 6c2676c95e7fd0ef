"""Several applications in one process: one after the other, and at the same time with one router or with their own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

import learning_observer_kvs
from learning_observer_kvs import prestartup, redis_connection, settings
from learning_observer_kvs.errors import KVSNotConfigured, StartupFailed
from learning_observer_kvs.kvs import KVS, KVSRouter, kvs_startup_check
from learning_observer_kvs.stores.memory import InMemoryKVS
from learning_observer_kvs.stream_analytics.helpers import student_event_reducer
from tests.support.loops import loop_in_thread

STUB: dict[str, Any] = {'kvs': {'default': {'type': 'stub'}}}
OTHER: dict[str, Any] = {'kvs': {'default': {'type': 'stub'}, 'cache': {'type': 'stub'}}}


@asynccontextmanager
async def running(*arguments: Any, **options: Any) -> AsyncIterator[web.Application]:
    """Run an application with the stores; the arguments are those of ``setup``, without the application."""
    app = web.Application()
    learning_observer_kvs.setup(app, *arguments, **options)
    runner = web.AppRunner(app)
    try:
        await runner.setup()
        yield app
    finally:
        await runner.cleanup()


class Watched(InMemoryKVS):
    """Counts how often it is closed."""

    closed = 0

    async def _close(self) -> None:
        self.closed += 1


def database(folder: Path, name: str) -> dict[str, Any]:
    return {'kvs': {'default': {'type': 'sqlite', 'path': str(folder / f'{name}.sqlite3')}}}


@student_event_reducer(null_state=0)
async def count(event: Any, state: Any) -> Any:
    return state + 1, state + 1


# One after the other


@pytest.mark.parametrize('second', [STUB, OTHER], ids=['the same settings', 'other settings'])
async def test_an_application_does_not_see_what_a_stub_held_for_the_one_before(second: dict[str, Any]) -> None:
    async with running(STUB) as app:
        await app['kvs']().set('k', 'of the first')
    async with running(second) as app:
        assert app['kvs'] is KVS
        assert await app['kvs']().keys() == []


async def test_an_application_sees_what_the_program_put_into_a_stub_before_it_and_the_program_what_it_left() -> None:
    settings.load_settings(STUB)
    kvs_startup_check()
    await KVS().set('k', 1)
    async with running() as app:
        assert await app['kvs']()['k'] == 1
        await app['kvs']().set('k', 2)
    assert await KVS()['k'] == 2


async def test_what_is_stored_on_disk_is_there_for_the_next_application_with_the_same_settings(tmp_path: Path) -> None:
    for number in range(3):
        async with running(database(tmp_path, 'a')) as app:
            assert await app['kvs']()['k'] == (number - 1 if number else None)
            await app['kvs']().set('k', number)


async def test_the_startup_check_may_run_twice_before_and_while_an_application_runs() -> None:
    settings.load_settings(STUB)
    kvs_startup_check()
    kvs_startup_check()
    async with running() as app:
        await app['kvs']().set('k', 1)
        kvs_startup_check()
        await prestartup.run_startup_checks_and_init()
        assert await app['kvs']()['k'] == 1


async def test_after_a_start_that_failed_another_one_works() -> None:
    with pytest.raises(StartupFailed, match='redsi'):
        async with running({'kvs': {'default': {'type': 'redsi'}}}):
            pass
    async with running(STUB) as app:
        assert await app['kvs']().keys() == []


def test_an_application_whose_event_loop_was_closed_without_it_runs_no_more() -> None:
    async def start() -> None:
        app = web.Application()
        learning_observer_kvs.setup(app, STUB)
        await web.AppRunner(app).setup()

    async def use() -> None:
        async with running(OTHER) as app:
            assert app['kvs'].names() == ['default', 'cache']

    asyncio.run(start())
    asyncio.run(use())


# At the same time, with one router


async def test_applications_with_equal_settings_share_the_stores_and_the_last_one_closes_them() -> None:
    async with running(STUB) as first:
        store = Watched()
        KVS.add_item('watched', store)
        await first['kvs']().set('k', 1)
        async with running({'kvs': {'default': {'type': 'stub'}}}) as second:
            assert second['kvs'] is first['kvs'] is KVS
            assert await second['kvs']()['k'] == 1
        assert first['kvs'].watched() is store
        assert store.closed == 0
        assert await first['kvs']()['k'] == 1
    assert store.closed == 1


async def test_a_second_application_with_other_settings_does_not_start_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running(database(tmp_path, 'a')) as first:
        await first['kvs']().set('k', 'of a')
        store, loaded = first['kvs'](), dict(settings.settings)
        wrong = {**database(tmp_path, 'b'), 'redis_connection': {'redis_password': 'hunter2'}}
        with pytest.raises(StartupFailed) as failure:
            async with running(wrong):
                pass
        assert 'another application of this process is running with other settings' in str(failure.value)
        assert 'They differ in kvs.default.path, redis_connection.' in str(failure.value)
        assert 'router=KVSRouter()' in str(failure.value)
        assert str(failure.value) in capsys.readouterr().err
        assert 'hunter2' not in str(failure.value)
        assert first['kvs']() is store
        assert await store['k'] == 'of a'
        assert settings.settings == loaded
    assert not (tmp_path / 'b.sqlite3').exists()


async def test_so_does_not_one_whose_settings_the_program_loaded_meanwhile(tmp_path: Path) -> None:
    async with running(database(tmp_path, 'a')):
        settings.load_settings(database(tmp_path, 'b'))
        app = web.Application()
        app.on_startup.append(learning_observer_kvs.startup_hook)
        with pytest.raises(StartupFailed, match=r'kvs\.default\.path'):
            await web.AppRunner(app).setup()


@pytest.mark.parametrize(
    ('change', 'named'),
    [
        ({'config': {'run_mode': 'dev'}}, 'config'),
        ({'kvs': {'default': {'type': 'stub', 'cache_bytes': 5}}}, r'kvs\.default\.cache_bytes'),
        ({'kvs': [['default', {'type': 'stub'}]]}, 'kvs'),
        ({'a': 1, 'b': 2, 'c': 3, 'd': 4}, 'a, b, c, …'),
    ],
)
async def test_the_error_names_the_settings_that_differ(change: dict[str, Any], named: str) -> None:
    async with running(STUB):
        with pytest.raises(StartupFailed, match=rf'They differ in {named}\. Give'):
            async with running({**STUB, **change}):
                pass


async def test_a_mounted_application_shares_the_stores_of_the_outer_one() -> None:
    app, below = web.Application(), web.Application()
    learning_observer_kvs.setup(app, STUB)
    learning_observer_kvs.setup(below, STUB)
    app.add_subapp('/below/', below)
    runner = web.AppRunner(app)
    await runner.setup()
    assert app['kvs'] is below['kvs'] is KVS
    await runner.cleanup()


def test_applications_of_two_event_loops_each_close_what_is_of_their_loop(tmp_path: Path) -> None:
    source = database(tmp_path, 'a')
    source['kvs']['default']['flush_interval'] = 3600
    apps: list[web.AppRunner] = []

    async def start(app: web.Application) -> None:
        runner = web.AppRunner(app)
        apps.append(runner)
        await runner.setup()

    async def send(student: str) -> None:
        await (await count({'auth': {'safe_user_id': student}}))({})

    async def stop(number: int) -> None:
        await apps[number].cleanup()

    def begin(run: Callable[[Coroutine[Any, Any, Any]], Any], student: str) -> None:
        app = web.Application()
        learning_observer_kvs.setup(app, source)
        run(start(app))
        run(send(student))

    async def keys() -> list[str]:
        async with KVSRouter.from_settings(source) as router:
            return await router().keys('Internal,')

    with loop_in_thread() as one, loop_in_thread() as two:
        begin(one, 'bob')
        begin(two, 'eve')
        one(stop(0))
        assert [key[-3:] for key in asyncio.run(keys())] == ['bob']
        two(send('eve'))
        two(stop(1))
        assert sorted(key[-3:] for key in asyncio.run(keys())) == ['bob', 'eve']


# At the same time, each with its own


async def test_an_application_with_its_own_router_has_its_own_data_and_reducers_take_it(tmp_path: Path) -> None:
    mine = KVSRouter()
    async with running(database(tmp_path, 'a')) as first, running(database(tmp_path, 'b'), router=mine) as second:
        assert second['kvs'] is second[learning_observer_kvs.KVS_KEY] is mine is not first['kvs']
        for app, times in ((first, 1), (second, 2)):
            for _ in range(times):
                await (await count({}, router=app['kvs']))({})
            await app['kvs']().set('k', times)
        assert [await app['kvs']()['k'] for app in (first, second)] == [1, 2]
        assert settings.settings == database(tmp_path, 'a')
    for name, times in (('a', 1), ('b', 2)):
        async with KVSRouter.from_settings(database(tmp_path, name)) as router:
            [external] = await router().keys('External,')
            assert await router()[external] == times


async def test_its_own_router_has_its_own_redis_connection() -> None:
    elsewhere = {**STUB, 'redis_connection': {'redis_host': 'elsewhere'}}
    async with running({**STUB, 'redis_connection': {'redis_host': 'here'}}), running(elsewhere, router=KVSRouter()):
        assert redis_connection.shared.settings == {'redis_host': 'here'}


async def test_its_own_router_may_be_filled_by_the_program() -> None:
    mine = KVSRouter.from_settings(OTHER)
    await mine().set('k', 1)
    async with running(STUB), running(router=mine) as app:
        assert await app['kvs']()['k'] == 1
        with pytest.raises(KVSNotConfigured):
            KVS.cache()
    assert await mine()['k'] == 1


async def test_the_last_application_with_a_router_of_its_own_closes_it_and_two_need_equal_settings() -> None:
    mine = KVSRouter()
    async with running(STUB, router=mine) as first:
        mine.add_item('watched', store := Watched())
        async with running(router=KVSRouter.from_settings(STUB)):
            pass
        assert store.closed == 0
        with pytest.raises(StartupFailed, match=r'They differ in kvs\.cache'):
            async with running(OTHER, router=mine):
                pass
        assert store.closed == 0
        assert first['kvs'].names() == ['default', 'watched']
    assert store.closed == 1


async def test_a_wrong_configuration_of_its_own_router_stops_the_start_and_other_checks_run() -> None:
    ran: list[str] = []
    prestartup.register_startup_check(lambda: ran.append('check'))
    prestartup.register_init_function(lambda: ran.append('init'))
    with pytest.raises(StartupFailed, match=r"kvs\.default\.type is 'redsi'"):
        async with running({'kvs': {'default': {'type': 'redsi'}}}, router=KVSRouter()):
            pass
    assert ran == ['check']
    unreachable = {'kvs': {'default': {'type': 'redis'}}, 'redis_connection': {'redis_port': 1}}
    with pytest.raises(StartupFailed, match=r'kvs\.default'):
        async with running(unreachable, router=KVSRouter()):
            pass
    async with running(STUB, router=KVSRouter()):
        assert ran == ['check', 'check', 'check', 'init']


async def test_the_debug_pages_of_each_application_show_its_own_stores() -> None:
    named = {'kvs': {'default': {'type': 'stub'}, 'mine': {'type': 'stub'}}}

    async def stores(app: web.Application) -> list[str]:
        async with TestClient(TestServer(app)) as client:
            found = await (await client.get('/debug/kvs')).json()
            return [store['name'] for store in found['stores']]

    def application(*arguments: Any, **options: Any) -> web.Application:
        app = web.Application()
        learning_observer_kvs.setup(app, *arguments, authorize=lambda *_: True, **options)
        return app

    assert await stores(application(STUB)) == ['default']
    assert await stores(application(named, router=KVSRouter())) == ['default', 'mine']


async def test_the_pages_of_an_own_router_open_by_its_own_run_mode(caplog: pytest.LogCaptureFixture) -> None:
    async with running({**STUB, 'config': {'run_mode': 'dev'}}):
        with caplog.at_level(logging.WARNING):
            async with running({**STUB, 'config': {'run_mode': 'deploy'}}, router=KVSRouter()):
                pass
    assert '/debug/kvs is not served' in caplog.text
