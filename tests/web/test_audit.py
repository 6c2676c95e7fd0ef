"""Who saw what is written as JSON lines, without content; and what commands did."""

from __future__ import annotations

import json
import logging
import stat
from pathlib import Path

import pytest
from aiohttp import web
from click.testing import CliRunner
from pytest_aiohttp.plugin import AiohttpClient

import learning_observer_kvs
from learning_observer_kvs import audit
from learning_observer_kvs.cli.main import main
from learning_observer_kvs.debug.access import VIEWER_KEY
from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.kvs import KVS
from learning_observer_kvs.stores.sqlite.store import SQLiteKVS

SECRET = 'my essay'
KEY = 'Internal,m.r,STUDENT:bob'


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_the_pages_note_who_was_shown_which_keys_and_value_and_no_content(
    aiohttp_client: AiohttpClient, tmp_path: Path
) -> None:
    def authorize(request: web.Request, action: str, store: str, key: str | None) -> bool:
        request[VIEWER_KEY] = 'ms-lee'
        return 'no' not in request.query

    app = web.Application()
    settings = {'kvs': {'default': {'type': 'stub'}}, 'privacy': {'audit': str(tmp_path / 'a' / 'audit.jsonl')}}
    learning_observer_kvs.setup(app, settings, authorize=authorize)
    client = await aiohttp_client(app)
    await KVS().set(KEY, {'text': SECRET})
    for query in ({'key': KEY}, {'key': KEY, 'no': '1'}, {'key': 'missing'}):
        await client.get('/debug/kvs/default/key', params=query)
    await client.get('/debug/kvs/default', params={'prefix': 'Int'})
    file = tmp_path / 'a' / 'audit.jsonl'
    found = [{name: value for name, value in line.items() if name not in ('time', 'who')} for line in lines(file)]
    seen = {'action': 'seen', 'viewer': 'ms-lee'}
    assert found == [
        {**seen, 'page': 'value', 'store': 'default', 'key': KEY},
        {**seen, 'page': 'keys', 'store': 'default', 'prefix': 'Int', 'keys': 1, 'values': [KEY]},
    ]
    assert {line['who'] for line in lines(file)} == {'127.0.0.1'}
    assert SECRET not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    await client.close()
    assert audit.log.handlers == []


def test_commands_note_what_they_found_gave_erased_and_lifted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('SUDO_USER', 'ms-lee')
    Path('creds.yaml').write_text('kvs: {default: {type: sqlite, path: s}}\nprivacy: {audit: audit.jsonl}')
    for words in (
        ['set', KEY, json.dumps(SECRET)],
        ['find-student', 'bob'],
        ['export-student', 'bob', '--to', 'bob.json'],
        ['erase-student', 'bob', '--yes'],
        ['suppressed', 'bob', '--lift'],
        ['expire', '--older-than', '5y'],
        ['dump', 'x.json', '--pseudonymize', 'k'],
    ):
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 0, result.output
    found = lines(tmp_path / 'audit.jsonl')
    assert [line['action'] for line in found] == [
        *('found', 'exported', 'erasing', 'erased', 'lifting', 'lifted', 'expiring', 'expired', 'pseudonymized'),
    ]
    assert {line['who'] for line in found} == {'ms-lee'}
    assert found[3]['complete'] is True
    assert SECRET not in (tmp_path / 'audit.jsonl').read_text()


@pytest.mark.parametrize(
    ('words', 'interrupted', 'action'),
    [
        (['erase-student', 'bob', '--yes'], 'remove', 'erasing'),
        (['suppressed', 'bob', '--lift'], 'commit_hidden', 'lifting'),
        (['expire', '--older-than', '5y'], 'flush', 'expiring'),
    ],
)
def test_what_was_interrupted_is_known_to_have_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], interrupted: str, action: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path('creds.yaml').write_text('kvs: {default: {type: sqlite, path: s}}\nprivacy: {audit: audit.jsonl}')
    for before in (['set', KEY, '1'], ['erase-student', 'bob', '--yes'], ['set', KEY, '1']):
        assert CliRunner().invoke(main, before).exit_code == 0

    async def fails(*_: object, **__: object) -> None:
        raise StoreUnavailable('gone')

    monkeypatch.setattr(SQLiteKVS, interrupted, fails)
    assert CliRunner().invoke(main, words).exit_code != 0
    assert lines(tmp_path / 'audit.jsonl')[-1]['action'] == action


async def test_keys_of_memoized_results_are_noted_without_what_a_student_wrote(
    aiohttp_client: AiohttpClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, audit.log.name)
    app = web.Application()
    settings = {'kvs': {'default': {'type': 'stub'}, 'memoization': {'type': 'stub'}}}
    learning_observer_kvs.setup(app, settings, authorize=lambda *_: True)
    client = await aiohttp_client(app)
    call = json.dumps(['check.grammar', {'text': SECRET}])
    for store, key in (('memoization', call), ('default', call), ('memoization', SECRET)):
        await KVS[store].set(key, 1)
        assert (await client.get(f'/debug/kvs/{store}/key', params={'key': key})).status == 200
        assert (await client.get(f'/debug/kvs/{store}', params={'prefix': key[:-1]})).status == 200
    noted = [json.loads(line) for line in caplog.messages]
    assert [line.get('key', line.get('prefix')) for line in noted] == [
        *2 * ('check.grammar (39 characters)', 'check.grammar (38 characters)'),
        *('a memoized result (8 characters)', 'a memoized result (7 characters)'),
    ]
    listed = [line['values'] for line in noted if 'values' in line]
    assert listed == [
        ['check.grammar (39 characters)'],
        ['check.grammar (39 characters)'],
        ['a memoized result (8 characters)'],
    ]
    assert SECRET[:-1] not in caplog.text


def test_without_a_file_the_lines_go_to_the_logger(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger='learning_observer_kvs.audit'):
        audit.record('seen', 'me', key='a\nb')
    [line] = caplog.messages
    assert '\n' not in line
    assert json.loads(line)['key'] == 'a\nb'


def test_two_that_name_the_same_file_write_a_line_once(tmp_path: Path) -> None:
    with audit.kept_in(tmp_path / 'a'), audit.kept_in(str(tmp_path / 'a')), audit.kept_in(None):
        audit.record('seen', 'me')
    assert len(lines(tmp_path / 'a')) == 1
    assert not audit.log.handlers
