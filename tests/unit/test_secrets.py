"""A setting whose value looks like a URL with a password is printed whole nowhere, whatever option it is written at."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from learning_observer_kvs.checks import static
from learning_observer_kvs.cli.main import main
from learning_observer_kvs.config.redaction import without_addresses, without_credentials
from learning_observer_kvs.config.rows import DEBUG_OPTIONS
from learning_observer_kvs.errors import KVSError, StartupCheck
from learning_observer_kvs.kvs import KVS_MAP, KVSRouter, reserved_names
from learning_observer_kvs.settings import read_settings
from learning_observer_kvs.stores.redis import errors
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.options import OPTIONS
from learning_observer_kvs.stores.redis.store import PersistentRedisKVS
from tests.support.checks import parse

LOOKS_LIKE_A_URL = [
    'redis://u:hunter2@h',
    'redis://:hunter2@h:1/0',
    'rediss://u:hunter2@h',
    'unix://u:hunter2@/run/redis',
    'redis:/u:hunter2@h',
    'u:hunter2@h',
    'u:hunter2@h:1',
    'u:hunter2@h:1,v:hunter2@i:2',
    'redis://u:in two hunter2 parts@h',
    'redis://u:a/hunter2@h',
    'redis://u:a?hunter2=1@h',
    'redis://u:a#hunter2@h',
    'redis://u:a@hunter2@h',
    'redis://u:line\nhunter2@h',
    'redis://h?password=hunter2',
]

NEEDED: dict[str, dict[str, object]] = {
    'sqlite': {'path': 's'},
    'filesystem': {'path': 'f'},
    'redis': {'redis_port': 1},
    'redis_ephemeral': {'redis_port': 1, 'expiry': 5},
    'stub': {},
}


def stores_with(url: str) -> list[dict[str, object]]:
    """Options of stores, for each type and option: the value as it is, in a list and in a mapping."""
    return [
        {'type': name, 'retry_timeout': 0.01, **needed, option: value}
        for value in (url, [url], {'a': url})
        for name, needed in NEEDED.items()
        for option in (*(option.name for option in KVS_MAP[name].OPTIONS), 'unknown')
    ]


def blocks_with(url: str) -> list[dict[str, object]]:
    """Settings for each other place at which a value may be written."""
    plain = {'kvs': {'default': {'type': 'stub'}}}
    found: list[dict[str, object]] = [
        {'kvs': url},
        {'kvs': [url]},
        {'kvs': [[url, {'type': 'stub'}], ['default', {'type': 'stub'}]]},
        {'kvs': {'default': url}},
        {'kvs': {'default': {'type': url}}},
        {**plain, 'config': {'run_mode': url}},
        {**plain, 'redis_connection': url},
        {**plain, 'kvs_debug': url},
    ]
    for value in (url, [url], {'a': url}):
        for option in (*(option.name for option in OPTIONS), 'unknown'):
            block = {'redis_port': 1, option: value}
            more = {'redis_service_name': 'm'} if option == 'redis_sentinels' else {}
            found.append({'kvs': {'default': {'type': 'redis'}}, 'redis_connection': {**block, **more}})
        found += [{**plain, 'kvs_debug': {option.name: value}} for option in DEBUG_OPTIONS]
    return found


@pytest.mark.parametrize('url', LOOKS_LIKE_A_URL)
def test_no_check_prints_it(url: str) -> None:
    stores = {f's{number}': store for number, store in enumerate(stores_with(url))}
    together: dict[str, object] = {'kvs': {'default': {'type': 'stub'}, **stores}}
    for settings in [together, *blocks_with(url)]:
        found = read_settings(settings)
        rows = parse(found)
        problems = static.check(rows, KVS_MAP, reserved_names())
        assert 'hunter2' not in f'{found!r} {rows!r} {problems!r}', settings


async def test_no_store_prints_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.DEBUG)
    url = 'redis://u:hunter2@localhost:1'
    alone: list[dict[str, object]] = [{'kvs': {'default': store}} for store in stores_with(url)]
    for settings in [*alone, *blocks_with(url)]:
        printed = []
        try:
            async with KVSRouter.from_settings(settings) as router:
                printed += [repr(router()), router().location()]
                printed += map(str, await router.health_check())
        except (StartupCheck, KVSError) as error:
            printed.append(f'{error} {error!r}')
        assert 'hunter2' not in f'{printed} {caplog.text}', settings
        caplog.clear()


@pytest.mark.parametrize(
    'settings',
    [
        {'redis_host': 'redis://u:hunter2@localhost', 'redis_connect_timeout': 0.1},
        {'redis_host': 'u:hunter2@localhost', 'redis_connect_timeout': 0.1},
        {'redis_sentinels': ['u:hunter2@localhost:1'], 'redis_service_name': 'm', 'redis_connect_timeout': 0.1},
        {'redis_sentinels': 'u:hunter2@localhost:1,u:hunter2@localhost:2', 'redis_service_name': 'redis://u:hunter2@h'},
        {'redis_socket': 'unix://u:hunter2@/run/none'},
    ],
)
async def test_no_connection_that_a_program_makes_without_a_check_prints_it(settings: dict[str, object]) -> None:
    store = PersistentRedisKVS(connection=RedisConnection(settings), prefix='redis://u:hunter2@h', retry_timeout=0.01)
    printed = f'{store!r} {store.location()}'
    with pytest.raises(KVSError) as caught:
        await store['k']
    await store.close()
    await store.connection.close()
    assert 'hunter2' not in f'{printed} {caught.value}'


def test_what_a_server_quotes_of_a_command_with_a_password_is_not_printed() -> None:
    quoted = "unknown command 'AUTH', with args beginning with: 'u' 'hunter2'"
    assert 'hunter2' not in str(errors.unavailable(ConnectionError(quoted), 'h:1', {}))
    assert 'hunter2' not in errors.one_line(ConnectionError('connecting to redis://u:hunter2@h:1. Name not known'))


@pytest.mark.parametrize(
    'text', ['redis://h:6379/0', 'h:6379', '/srv/a:b@c', './a:b@c', 'me@example.org', 'unix:///run/redis.sock', '::1']
)
def test_what_does_not_look_like_a_url_with_a_password_is_printed_as_it_is(text: str) -> None:
    assert without_credentials(text) == text
    assert without_addresses(f'connecting to {text} failed') == f'connecting to {text} failed'


@pytest.mark.parametrize(
    ('options', 'hint'),
    [
        ({'type': 'redis', 'redis_host': 'redis://u:hunter2@h'}, 'for a URL there is redis_url'),
        ({'type': 'redis', 'redis_host': 'u:hunter2@h'}, 'for a URL there is redis_url'),
        ({'type': 'redis', 'redis_sentinels': ['u:hunter2@h:1'], 'redis_service_name': 'm'}, 'each as host:port'),
        ({'type': 'redis', 'redis_url': 'redis://u:a/hunter2@h'}, 'write / as %2F'),
        ({'type': 'sqlite', 'path': 'redis://u:hunter2@h'}, 'It is a URL'),
    ],
)
def test_a_url_where_none_belongs_is_an_error_with_its_fix(
    options: dict[str, object], hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'creds.yaml').write_text(yaml.safe_dump({'kvs': {'default': options}}))
    [problem] = json.loads(CliRunner().invoke(main, ['check', '--json']).output)['problems']
    assert problem['level'] == 'error'
    assert hint in problem['hint']
