"""Dumps for research: the same id is the same hash everywhere, and no id is left."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from learning_observer_kvs.cli.main import main
from learning_observer_kvs.errors import DumpFileError
from learning_observer_kvs.privacy.pseudonyms import Pseudonyms, entries, read_key
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.memory import InMemoryKVS
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.store import PersistentRedisKVS
from tests.support.disks import files_of_at_most

KEY = bytes(range(32))
DATA: dict[str, Any] = {
    'Internal,m.r,EventField.doc_id:1AbC,STUDENT:ls-Jos%C3%A9': {'text': 'I am ls-José', 'by': {'ls-Jos%C3%A9': 1}},
    'External,m.r,STUDENT:ls-Jos%C3%A9': {'author': 'ls-José', 'words': 3},
    'External,m.r,TEACHER:ms-lee': ['ms-lee', 'eve'],
    'Internal,m.r,STUDENT:eve': '{"peer": "eve"}',
    'roster:7': {
        'course': 'History',
        'students': [{'userId': 104729, 'id': 'ls-José', 'name': {'given': 'José'}, 'email': 'jose@school.example'}],
    },
    'email-studentID-mapping:jose@school.example': 'ls-José',
    '["summary", {"student": "eve"}]': {'who': 'eve', 'key': 'Internal,m.r,STUDENT:eve'},
    'google_stored_auth:ls-José': {'Authorization': 'Bearer secret'},
}


async def written(store: Store, key: bytes = KEY) -> dict[str, Any]:
    return {name: value async for name, value in entries(store, Pseudonyms(key))}


@pytest.fixture(params=['stub', 'redis'])
async def store(request: pytest.FixtureRequest, redis: RedisConnection) -> Store:
    store = InMemoryKVS() if request.param == 'stub' else PersistentRedisKVS(connection=redis)
    await store.multiset(DATA)
    return store


async def test_no_id_address_or_name_is_left_and_what_was_written_is(store: Store) -> None:
    text = json.dumps(await written(store), ensure_ascii=False)
    for gone in ('eve', 'ms-lee', 'Jos%C3%A9', 'jose@school', '104729', 'given', 'secret', 'google_stored_auth'):
        assert gone not in text, gone
    assert 'I am ls-José' in text  # an essay, which this does not read
    assert 'History' in text
    assert text.count('José') == 1
    await store.close()


async def test_the_same_id_is_the_same_hash_in_keys_values_and_other_dumps(store: Store) -> None:
    first, again, other = await written(store), await written(store), await written(store, bytes(32))
    jose, eve, teacher = (Pseudonyms(KEY).of(text) for text in ('ls-José', 'eve', 'ms-lee'))
    assert len({jose, eve, teacher, Pseudonyms(bytes(32)).of('eve')}) == 4
    assert first == again
    assert first[f'Internal,m.r,EventField.doc_id:1AbC,STUDENT:{jose}']['by'] == {jose: 1}
    assert first[f'External,m.r,STUDENT:{jose}'] == {'author': jose, 'words': 3}
    assert first[f'External,m.r,TEACHER:{teacher}'] == [teacher, eve]
    assert first[f'Internal,m.r,STUDENT:{eve}'] == json.dumps({'peer': eve}, separators=(',', ':'))
    assert first[f'email-studentID-mapping:{Pseudonyms(KEY).of("jose@school.example")}'] == jose
    summary = json.dumps(['summary', {'student': eve}], separators=(',', ':'))
    assert first[summary] == {'who': eve, 'key': f'Internal,m.r,STUDENT:{eve}'}
    assert first['roster:7']['students'][0]['id'] == jose
    assert first.keys() & other.keys() == {'roster:7'}
    assert len(first) == len(DATA) - 1
    await store.close()


def test_a_key_file_is_made_for_its_owner_alone_and_used_again(tmp_path: Path) -> None:
    made = read_key(tmp_path / 'school.key')
    assert stat.S_IMODE((tmp_path / 'school.key').stat().st_mode) == 0o600
    assert read_key(tmp_path / 'school.key') == made
    assert read_key(tmp_path / 'other.key') != made


def test_a_disk_without_space_leaves_no_part_of_a_key_file(tmp_path: Path) -> None:
    with files_of_at_most(10), pytest.raises(DumpFileError, match='File too large'):
        read_key(tmp_path / 'k')
    assert not (tmp_path / 'k').exists()


@pytest.mark.parametrize('content', ['', 'abcd', 'not hex' * 8, 'é'])
def test_a_file_that_is_not_a_key_is_an_error_and_stays(tmp_path: Path, content: str) -> None:
    (tmp_path / 'k').write_text(content)
    (tmp_path / 'k').chmod(0o600)
    with pytest.raises(DumpFileError, match='not a key file'):
        read_key(tmp_path / 'k')
    assert (tmp_path / 'k').read_text() == content


def test_the_command_writes_a_dump_that_can_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path('creds.yaml').write_text('kvs: {default: {type: sqlite, path: s}, other: {type: sqlite, path: o}}')
    Path('data.json').write_text(json.dumps(DATA))

    def run(*words: str) -> int:
        return CliRunner().invoke(main, words).exit_code

    assert run('load', 'data.json') == 0
    assert run('dump', 'research.json', '--pseudonymize', 'school.key') == 0
    assert run('load', 'research.json', '-s', 'other') == 0
    assert len(json.loads(Path('research.json').read_text())) == len(DATA) - 1
    assert run('dump', 'x.csv', '--csv', '--pseudonymize', 'school.key') == 2


async def test_an_id_that_is_a_number_or_in_a_list_of_members_alone_is_hidden_everywhere() -> None:
    async with InMemoryKVS() as store:
        roster = [{'user_id': 8, 'course': {'id': 5}}]
        await store.multiset({'class': {'members': ['ls-7']}, 'roster': roster, 'notes': ['ls-7', 'ls-77', '8', '5']})
        found = await written(store)
    seven, eight = map(Pseudonyms(KEY).of, ('ls-7', '8'))
    assert found['class'] == {'members': [seven]}
    assert found['roster'][0]['user_id'] == eight
    assert found['notes'] == [seven, 'ls-77', eight, '5']
