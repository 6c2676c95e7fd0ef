"""The how-to pages lead where they say."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from aiohttp import web
from pytest_aiohttp.plugin import AiohttpClient

import learning_observer_kvs
from devdata.demo import WELCOME
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.settings import read_settings
from learning_observer_kvs.stores.redis.connection import RedisConnection
from tests.project.documentation import EXAMPLES, ROOT, blocks, run
from tests.support.redis_server import RedisServer

PAGE = ROOT / 'docs/how-to/replay-failed-events.md'


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory for the examples of a page."""
    return tmp_path


def copy(page: str, directory: Path) -> None:
    shutil.copytree(EXAMPLES / page, directory, dirs_exist_ok=True, ignore=shutil.ignore_patterns('__pycache__'))


def test_the_demo_prints_what_its_page_shows() -> None:
    page = (ROOT / 'docs/how-to/run-the-demo.md').read_text()
    shown = WELCOME.format(count=12, url='http://127.0.0.1:8888', state='/home/me/learning_observer_kvs/.lo_kvs')
    assert f'$ sh devdata/demo.sh\n{shown}\n```' in page


def test_the_reducer_can_be_fed_a_directory_of_study_logs(directory: Path) -> None:
    copy('write-a-reducer', directory)
    replayed = run(directory, 'replay', str(ROOT / 'devdata/sample'), '--reducer', 'pastes:pastes')
    assert '0 failures' in replayed[-1]
    assert run(directory, 'keys', 'External,pastes.pastes,', '--limit', '1')[0].startswith('External,pastes.pastes,')


def test_failed_events_are_replayed_as_the_page_shows(directory: Path) -> None:
    copy('replay-failed-events', directory)
    first, second, own = (block.text for block in blocks(PAGE) if block.language == 'console')
    for command, said in re.findall(r'^\$ lo-kvs (.+)\n((?:(?!\$ ).*\n)*)', first, re.M):
        printed = '\n'.join([*run(directory, *command.split()), ''])
        assert re.fullmatch(re.escape(said).replace('…', '.*'), printed)
    for name in ('logs', 'failed-events'):
        (directory / name).mkdir()
    (directory / 'logs/a.study.log').write_bytes(b'not to be read')
    [kept] = directory.glob('failed-events-*.jsonl')
    kept.rename(directory / 'failed-events' / kept.name)
    command = second.removeprefix('$ lo-kvs ').replace('writing_observer.writing_analysis', 'counting')
    assert '0 replayed, 1 before' in run(directory, *command.split())[-1]
    program = own.replace('>>> ', '')
    assert program.count('failed_events.record(') == 1
    (directory / 'own.py').write_text(OWN.replace('RECORD', program.splitlines()[1]))
    [path] = run(directory, 'own.py')
    assert '1 replayed' in run(directory, 'replay', path, '--reducer', 'counting:keys')[-1]


def test_a_class_is_analysed_as_the_page_shows(directory: Path) -> None:
    copy('analyse-a-class', directory)
    dumped, analysed = (
        block.text for block in blocks(ROOT / 'docs/how-to/analyse-a-class.md') if block.language == 'console'
    )
    for command, said in COMMAND.findall(dumped):
        words = [str(ROOT / word) if word.startswith('devdata/') else word for word in command.split()[1:]]
        printed = '\n'.join([*run(directory, *words), ''])
        assert as_shown(said, printed), printed
    printed_lines = [line.rstrip() for line in run(directory, 'analysis.py')]
    assert analysed.partition('$ python analysis.py\n')[2].splitlines() == printed_lines


async def test_keys_are_inspected_as_the_page_shows(
    directory: Path, aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy('inspect-keys', directory)
    page = ROOT / 'docs/how-to/inspect-keys.md'
    filled, audited, asked = (block.text for block in blocks(page) if block.language == 'console')
    for command, said in COMMAND.findall(filled):
        words = [str(ROOT / word) if word.startswith('devdata/') else word for word in shlex.split(command)[1:]]
        assert as_shown(said, '\n'.join([*run(directory, *words), '']))
    monkeypatch.chdir(directory)
    app = web.Application()
    learning_observer_kvs.setup(app, 'creds.yaml')
    client = await aiohttp_client(app)
    for command, said in COMMAND.findall(asked):
        answer = await client.get(shlex.split(command)[1].partition(':8890')[2])
        assert as_shown(said, await answer.text() + '\n')
    [(_, said)] = COMMAND.findall(audited)
    assert as_shown(said, (directory / 'audit.jsonl').read_text().splitlines(keepends=True)[-1])


COMMAND = re.compile(r'^\$ (.+)\n((?:(?!\$ ).*\n)*)', re.M)
"""A command of a page, and what it prints."""


def as_shown(shown: str, printed: str) -> bool:
    """Whether a program prints what a page shows; nothing is shown of what does not matter."""
    return not shown or re.fullmatch(re.escape(shown).replace('…', '.*'), printed) is not None


OWN = """
import asyncio, counting
from learning_observer_kvs import KVSRouter, StoreUnavailable, failed_events

async def main():
    async with KVSRouter.from_settings('creds.yaml') as router:
        store, fields, name = router(), {}, 'counting.keys'
        process_event = await counting.keys({'auth': {'safe_user_id': 'bob'}}, router=router)
        event, error = {'client': {'event': 'keystroke'}}, StoreUnavailable('away')
        print(RECORD)

asyncio.run(main())
"""


def test_moving_from_files_to_redis_leaves_a_server_with_the_same_states(
    directory: Path, redis_server: RedisServer, redis: RedisConnection
) -> None:
    copy('move-from-files-to-redis', directory)
    for name in ('moving.yaml', 'moved.yaml'):
        text = (directory / name).read_text()
        (directory / name).write_text(text.replace('6379', str(redis_server.port)).replace('localhost', '127.0.0.1'))
    before, after = ('--config', 'moving.yaml'), ('--config', 'moved.yaml')
    for key, value in (('Internal,a.b,STUDENT:bob', '{"n": 1}'), ('External,a.b,STUDENT:bob', 'null')):
        run(directory, 'set', key, value, *before)

    assert run(directory, 'copy', 'default', 'states', *before)[-1] == 'Verified: the stores agree.'
    run(directory, 'set', 'Internal,a.b,STUDENT:bob', '{"n": 2}', *before)
    run(directory, 'copy', 'default', 'states', *before, status=1)
    assert run(directory, 'copy', 'default', 'states', '--replace', *before)[-1] == 'Verified: the stores agree.'

    for key in ('Internal,a.b,STUDENT:bob', 'External,a.b,STUDENT:bob'):
        assert run(directory, 'get', key, *after) == run(directory, 'get', key, '--store', 'files', *after)


async def test_a_redis_with_the_settings_of_its_page_has_no_problem() -> None:
    lines = (EXAMPLES / 'redis-for-production/redis.conf').read_text().splitlines()
    with RedisServer(*(word for line in lines for word in ('--' + line).split())) as server:
        connection = {'redis_host': '127.0.0.1', 'redis_port': server.port}
        settings = read_settings({'kvs': {'default': {'type': 'redis'}}, 'redis_connection': connection})
        async with KVSRouter.from_settings(settings) as router:
            assert await router.health_check() == []
