"""Dashboards get from our queries what the queries of a Learning Observer server give them."""

from __future__ import annotations

import copy
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs import queries
from learning_observer_kvs.errors import InvalidKey, ScopeFieldError
from learning_observer_kvs.stores.memory import InMemoryKVS
from learning_observer_kvs.stream_analytics import registry
from learning_observer_kvs.stream_analytics.fields import EventField, KeyField
from tests.runtime.query_cases import FIELDS, arguments, given, items, plain, taken
from tests.runtime.test_real_runtime import CREDS, LOGS, ROOT, folder, source

__all__ = ['folder', 'source']

HEAD, *ASKED = [
    json.loads(line) for line in (Path(__file__).parent / 'recorded_queries.jsonl').read_text().splitlines()
]
"""What a server has answered: written by ``queries_compared.py --record``, in the folder ``host``."""


def entry(recorded: dict[str, Any]) -> dict[str, Any]:
    """A reducer as a server lists it."""

    def function() -> None: ...

    function.__module__, function.__qualname__ = recorded['module'], recorded['qualname']
    fields = [
        KeyField[name] if kind == 'KeyField' else EventField(name)
        for kind, _, name in (text.partition('.') for text in recorded['scope'])
    ]
    return {'id': recorded['id'], 'function': function, 'scope': fields, 'default': recorded['default']}


@pytest.fixture(autouse=True)
def listing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, '_LISTINGS', [])
    registry.add_listing(lambda: [entry(recorded) for recorded in HEAD['reducers']])


@pytest.fixture
async def store() -> InMemoryKVS:
    store = InMemoryKVS()
    await store.multiset(HEAD['state'])
    return store


@pytest.mark.parametrize('asked', ASKED, ids=lambda asked: f'{asked["reducer"]} {asked["number"]}')
async def test_keys_and_values_are_those_that_a_server_has_given(asked: dict[str, Any], store: InMemoryKVS) -> None:
    make = list(arguments(HEAD['documents']))[asked['number']]
    keys = await taken(queries.keys(asked['reducer'], **given(make)), (ScopeFieldError,))
    assert json.dumps(keys) == json.dumps(asked['keys'])  # also the order of names
    for fields, wanted in zip(FIELDS, asked.get('selected', []), strict=False):
        selected = plain(await taken(queries.select(keys, fields, store=store), ()))
        assert json.dumps(selected) == json.dumps(wanted), fields


async def test_the_items_of_a_query_are_not_changed_and_an_iterator_may_be_given_for_two_fields(
    store: InMemoryKVS,
) -> None:
    documents = [{'user': student, 'id': '1AbC', 'provenance': {'from': student}} for student in ('bob', 'eve')]
    before = copy.deepcopy(documents)
    fields = {'STUDENTS_path': 'user', 'RESOURCES_path': 'id'}
    from_list = await taken(queries.keys('reducer 3', STUDENTS=documents, RESOURCES=documents, **fields), ())
    assert documents == before
    once = items(documents)
    assert from_list == await taken(queries.keys('reducer 3', STUDENTS=once, RESOURCES=once, **fields), ())
    provenance = from_list[0]['provenance']
    assert provenance['STUDENT'] == provenance['RESOURCE'] == {'from': 'bob', 'user': 'bob', 'id': '1AbC'}
    from_list[0]['default']['text'] = from_list[0]['provenance']['STUDENT']['from'] = 'changed'
    assert documents == before
    assert from_list[1]['default'] == {'text': ''}


@pytest.mark.parametrize('keys', [[{'key': 'k'}], [{'provenance': {}}], ['k']])
async def test_what_is_not_an_element_of_keys_is_an_error(keys: Any, store: InMemoryKVS) -> None:
    with pytest.raises(InvalidKey, match=r"needs 'key' and 'provenance'"):
        await taken(queries.select(keys, store=store), ())


async def test_a_name_with_a_dot_is_found_among_all_entries_and_a_missing_state_is_a_copy_of_the_default(
    store: InMemoryKVS,
) -> None:
    await store.set('k', {'a.b': 1, 'provenance': 2})
    keys = [{'key': 'k', 'provenance': {}}, {'key': 'l', 'provenance': {}, 'default': {'n': []}}]
    found = await taken(queries.select(keys, 'All', store=store), ())
    assert [{name: value for name, value in each.items() if name != 'provenance'} for each in found] == [
        {'a.b': 1},
        {'n': []},
    ]
    async for each in queries.select(keys[1], queries.SelectFields.All, store=store):
        each['n'].append(1)
    assert keys[1]['default'] == {'n': []}


def test_the_recorded_queries_are_of_every_kind() -> None:
    assert {asked['number'] for asked in ASKED} == set(range(len(list(arguments(HEAD['documents'])))))
    assert any('selected' in asked and len(asked['selected']) == len(FIELDS) for asked in ASKED)
    assert any(asked['keys'] == ['the scope does not fit'] for asked in ASKED)


@pytest.mark.real_runtime
def test_a_real_server_and_ours_give_the_same_for_all_its_reducers(source: Path, folder: Path, installed: Path) -> None:
    creds = folder / 'creds.yaml'
    settings = {'store': 'stub', 'state': 'state', 'plugin': 'true', 'redis': 6379}
    creds.write_text(CREDS.format(folder=folder, source=source, **settings))
    script = ROOT / 'tests/runtime/host/queries_compared.py'
    ended = subprocess.run(
        [str(source / '.venv/bin/python'), str(script), str(creds), *map(str, LOGS)],
        cwd=folder,
        env=os.environ | {'PYTHONPATH': os.pathsep.join([str(installed), str(script.parent.parent)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout.splitlines()[-1])
    assert report['differences'] == []
    assert report['reducers'] == 13
    assert report['states'] > len(LOGS) * 10
    assert report['compared'] > 5000
