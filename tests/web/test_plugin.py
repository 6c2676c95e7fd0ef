"""The aiohttp plugin: attach, start and stop, also when a step fails."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pytest_aiohttp.plugin import AiohttpClient

import learning_observer_kvs
from learning_observer_kvs import prestartup, settings
from learning_observer_kvs.errors import StartupCheck, StartupFailed
from learning_observer_kvs.kvs import KVS
from learning_observer_kvs.stores.memory import InMemoryKVS

STUB = {'kvs': {'default': {'type': 'stub'}}}


class Watched(InMemoryKVS):
    """Counts how often it is closed."""

    closed = 0

    async def _close(self) -> None:
        self.closed += 1


@pytest.fixture
def watched() -> Watched:
    store = Watched()

    @prestartup.register_init_function
    def put_in() -> None:
        KVS.add_item('watched', store)

    return store


async def count(request: web.Request) -> web.Response:
    store = request.config_dict['kvs']()
    assert request.config_dict[learning_observer_kvs.KVS_KEY]() is store
    return web.json_response(await store.update('visits', lambda visits: (visits or 0) + 1))


async def test_handlers_find_the_router_also_in_a_sub_application(aiohttp_client: AiohttpClient) -> None:
    app, below = web.Application(), web.Application()
    learning_observer_kvs.setup(app, STUB)
    app.router.add_get('/', count)
    below.router.add_get('/', count)
    app.add_subapp('/below/', below)
    client = await aiohttp_client(app)
    assert await (await client.get('/')).json() == 1
    assert await (await client.get('/below/')).json() == 2


async def test_contexts_and_handlers_added_after_setup_find_the_stores_ready(aiohttp_client: AiohttpClient) -> None:
    app = web.Application()
    learning_observer_kvs.setup(app, STUB)

    async def context(app: web.Application) -> AsyncIterator[None]:
        await app['kvs']().set('from', 'context')
        yield
        assert await app['kvs']()['from'] == 'handler'

    async def handler(app: web.Application) -> None:
        assert await app['kvs']()['from'] == 'context'
        await app['kvs']().set('from', 'handler')

    app.cleanup_ctx.append(context)
    app.on_startup.append(handler)
    await (await aiohttp_client(app)).close()


async def test_the_hook_opens_and_closes_the_stores_of_settings_loaded_before(
    aiohttp_client: AiohttpClient, watched: Watched
) -> None:
    settings.load_settings(STUB)
    app = web.Application()
    app.on_startup.append(learning_observer_kvs.startup_hook)
    app.router.add_get('/', count)
    client = await aiohttp_client(app)
    assert await (await client.get('/')).json() == 1
    assert watched.closed == 0
    await client.close()
    assert watched.closed == 1


async def test_stopping_closes_the_stores(aiohttp_client: AiohttpClient, watched: Watched) -> None:
    app = web.Application()
    learning_observer_kvs.setup(app, STUB)
    client = await aiohttp_client(app)
    assert watched.closed == 0
    await client.close()
    assert watched.closed == 1


async def test_a_start_that_fails_in_another_handler_leaves_nothing_open(watched: Watched) -> None:
    app = web.Application()
    learning_observer_kvs.setup(app, STUB)

    async def fails(app: web.Application) -> None:
        raise OSError('the other one failed')

    app.on_startup.append(fails)
    with pytest.raises(OSError, match='the other one failed'):
        await web.AppRunner(app).setup()
    await app.cleanup()
    assert watched.closed == 1


@pytest.mark.parametrize('way', ['setup', 'hook'])
async def test_a_start_that_fails_in_an_init_function_closes_what_was_opened(way: str, watched: Watched) -> None:
    @prestartup.register_init_function
    def fails() -> None:
        raise OSError('init failed')

    app = web.Application()
    if way == 'setup':
        learning_observer_kvs.setup(app, STUB)
    else:
        settings.load_settings(STUB)
        app.on_startup.append(learning_observer_kvs.startup_hook)
    with pytest.raises(OSError, match='init failed'):
        await web.AppRunner(app).setup()
    assert watched.closed == 1


async def test_a_second_setup_is_an_error() -> None:
    app = web.Application()
    learning_observer_kvs.setup(app, STUB)
    with pytest.raises(RuntimeError, match='once'):
        learning_observer_kvs.setup(app, STUB)
    with pytest.raises(RuntimeError, match='once'):
        await learning_observer_kvs.startup_hook(app)


async def test_the_hook_in_a_mounted_application_is_an_error_that_names_setup() -> None:
    settings.load_settings(STUB)
    app, below = web.Application(), web.Application()
    below.on_startup.append(learning_observer_kvs.startup_hook)
    app.add_subapp('/below/', below)
    with pytest.raises(RuntimeError, match=r'setup\(app, \.\.\.\) before it is mounted'):
        await web.AppRunner(app).setup()


async def test_a_mounted_application_may_have_the_stores(aiohttp_client: AiohttpClient) -> None:
    app, below = web.Application(), web.Application()
    learning_observer_kvs.setup(below, STUB)
    below.router.add_get('/', count)
    app.add_subapp('/below/', below)
    assert await (await (await aiohttp_client(app)).get('/below/')).json() == 1


async def test_a_wrong_configuration_is_a_startup_check_and_ends_the_process(
    capsys: pytest.CaptureFixture[str],
) -> None:
    app = web.Application()
    learning_observer_kvs.setup(app, {'kvs': {'default': {'type': 'redsi'}}})
    with pytest.raises(SystemExit) as failure:
        await web.AppRunner(app).setup()
    assert isinstance(failure.value, StartupCheck)
    assert isinstance(failure.value, StartupFailed)
    assert failure.value.code == 1
    assert failure.value.problems
    assert "Did you mean 'redis'" in capsys.readouterr().err


SERVER = """
import sys
from aiohttp import web
import learning_observer_kvs
app = web.Application()
learning_observer_kvs.setup(app, sys.argv[1])
web.run_app(app, host='127.0.0.1', port=0, print=None)
"""


@pytest.mark.parametrize(
    ('text', 'location'),
    [
        ('kvs:\n  default:\n    type: redsi\n  other:\n    type: filesystem\n', 'creds.yaml:3'),
        ('kvs: [\n', 'creds.yaml:2'),
        (None, 'creds.yaml'),
    ],
    ids=['wrong', 'not yaml', 'missing'],
)
def test_a_wrong_configuration_stops_run_app_with_one_screen_and_status_1(
    tmp_path: Path, text: str | None, location: str
) -> None:
    if text is not None:
        (tmp_path / 'creds.yaml').write_text(text)
    ended = subprocess.run(
        [sys.executable, '-W', 'error', '-c', SERVER, 'creds.yaml'],
        cwd=tmp_path,
        env=os.environ | {'PYTHONPATH': os.getcwd()},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 1
    assert location in ended.stderr
    assert 'Traceback' not in ended.stderr + ended.stdout
    assert len(ended.stderr.splitlines()) < 25


async def test_the_settings_may_name_the_authorize_function(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def authorize(request: web.Request, action: str, store: str, key: str | None) -> bool:
        asked.append((action, store, key))
        return store == 'default'

    monkeypatch.setattr(sys.modules[__name__], 'authorize', authorize, raising=False)
    app = web.Application()
    named = {'kvs_debug': {'authorize': f'{__name__}:authorize'}}
    learning_observer_kvs.setup(app, STUB | named | {'config': {'run_mode': 'deploy'}})
    client = await aiohttp_client(app)
    assert (await client.get('/debug/kvs/default')).status == 200
    assert asked[0][1] == 'default'


async def test_an_authorize_that_cannot_be_imported_is_a_startup_check() -> None:
    app = web.Application()
    learning_observer_kvs.setup(app, STUB | {'kvs_debug': {'authorize': 'no.such:function'}})
    with pytest.raises(StartupFailed, match=r'kvs_debug\.authorize.*no\.such:function'):
        await web.AppRunner(app).setup()
