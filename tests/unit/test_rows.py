"""Rows: the settings parsed once, each store and block with its source locations."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs.checks import static
from learning_observer_kvs.config.rows import Block, Configuration, StoreConfig, named_types
from learning_observer_kvs.kvs import KVS_MAP, reserved_names
from learning_observer_kvs.settings import read_settings
from tests.support.checks import parse


def parse_block(block: Any) -> Configuration:
    return parse({'kvs': block})


@pytest.mark.parametrize(
    ('text', 'lines'),
    [
        ('kvs:\n  - [default, {type: stub}]\n  - [cache,\n     {type: stub}]\n', [2, 4]),
        ('kvs:\n- - default\n  - type: stub\n- - cache\n  - type: stub\n', [3, 5]),
        ('kvs:\n  default:\n    type: stub\n  cache: {type: stub}\n', [2, 4]),
    ],
    ids=['flow', 'block', 'mapping'],
)
def test_stores_in_yaml_have_their_source_locations(tmp_path: Path, text: str, lines: list[int]) -> None:
    path = tmp_path / 'creds.yaml'
    path.write_text(text)
    stores = parse(path).stores
    assert [row.name for row in stores] == ['default', 'cache']
    assert [row.location for row in stores] == [f'{path}:{line}' for line in lines]
    assert stores[1].location_of('type') == f'{path}:{lines[1]}'
    assert stores[1].location_of('expiry') == f'{path}:{lines[1]}'


@pytest.mark.parametrize('block', [{'a': {'type': 'stub'}}, [('a', {'type': 'stub'})], (['a', {'type': 'stub'}],)])
def test_stores_are_a_mapping_or_pairs(block: Any) -> None:
    [row] = parse_block(block).stores
    assert (row.name, row.type, row.options, row.subject) == ('a', 'stub', {'type': 'stub'}, 'kvs.a')


@pytest.mark.parametrize('block', [None, 'stub', 5, True])
def test_a_block_of_another_shape_has_no_stores(block: Any) -> None:
    assert parse_block(block).stores == ()
    assert parse({}).stores == ()


def test_a_block_that_is_not_there_has_no_row() -> None:
    assert parse({}).redis_connection is parse({}).kvs_debug is None
    configuration = parse({'redis_connection': None, 'kvs_debug': {'writable': True}})
    assert configuration.redis_connection is not None
    assert configuration.redis_connection.mapping == {}
    assert configuration.kvs_debug is not None
    assert configuration.kvs_debug.options == {'writable': True}


def test_parsing_and_checking_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('SECONDS', '30')
    settings = read_settings(
        {
            'kvs': {
                'default': {'type': 'redsi', 'path': None},
                'cache': {'type': 'redis_ephemeral', 'expiry': '${SECONDS}'},
            },
            'redis_connection': {'redis_port': '${SECONDS}'},
        }
    )
    before, problems = copy.deepcopy(dict(settings)), list(settings.problems)
    configuration = parse(settings)
    first = static.check(configuration, KVS_MAP, reserved_names())
    assert static.check(configuration, KVS_MAP, reserved_names()) == first
    assert [problem.id for problem in first] == ['KVS.E004']
    assert (settings, settings.problems) == (before, problems)
    assert type(settings['kvs']['cache']['expiry']) is not int
    assert configuration.stores_by_name['cache'].options['expiry'] == 30


def test_a_row_describes_the_same_store_wherever_it_is_written() -> None:
    row = StoreConfig(subject='kvs.a', name='a', type='stub', options={'type': 'stub'}, location='creds.yaml:1')
    moved = StoreConfig(subject='kvs.a', name='a', type='stub', options={'type': 'stub'}, location='creds.yaml:9')
    changed = StoreConfig(subject='kvs.a', name='a', type='stub', options={'type': 'stub', 'cache_bytes': 0})
    assert row.describes_same_store(moved)
    assert not row.describes_same_store(changed)


def test_the_types_that_settings_name_are_known_once_each_and_only_if_they_are_text() -> None:
    types: list[Any] = ['redis', 'own', 'redis', None, 5, ['stub'], '${TYPE}', '${NONE}']
    settings = read_settings(
        {'kvs': {f's{index}': {'type': type} for index, type in enumerate(types)}}, {'TYPE': 'env'}
    )
    assert named_types(settings) == ['redis', 'own', 'env']
    assert named_types(read_settings({'kvs': {'a': None, 'b': 'stub', 'c': {}}})) == []


def test_stores_by_name_are_those_whose_name_is_text_and_the_last_of_one_name() -> None:
    found = parse_block([['a', {'type': 'stub'}], [5, {'type': 'stub'}], ['x'], ['a', {'type': 'redis'}]])
    assert {name: row.type for name, row in found.stores_by_name.items()} == {'a': 'redis'}
    assert [(row.name, row.subject) for row in found.stores] == [
        ('a', 'kvs.a'),
        (5, 'kvs.5'),
        (None, 'kvs.2'),
        ('a', 'kvs.a'),
    ]


def test_all_blocks_are_the_stores_and_then_the_other_blocks_that_are_there() -> None:
    settings: dict[str, Any] = {'kvs': {'b': {}, 'a': {}}, 'kvs_debug': {}, 'redis_connection': {}}
    assert [block.subject for block in parse(settings).blocks] == ['kvs.b', 'kvs.a', 'redis_connection', 'kvs_debug']
    assert [block.subject for block in parse({'kvs': {'a': {}}, 'kvs_debug': {}}).blocks] == ['kvs.a', 'kvs_debug']


def test_rows_cannot_be_changed() -> None:
    block, store = Block(subject='kvs_debug', options={}), StoreConfig(subject='kvs.a', options={}, name='a')
    for row in (block, store, parse({})):
        with pytest.raises(AttributeError):
            row.options = {'x': 'y'}  # type: ignore[misc, union-attr]


def test_a_row_never_prints_a_secret() -> None:
    configuration = parse(
        {
            'kvs': {'default': {'type': 'redis', 'redis_password': 'hunter2'}},
            'redis_connection': {'redis_url': 'redis://:hunter2@host'},
        }
    )
    assert 'hunter2' not in f'{configuration} {configuration.stores[0]!r}'
    assert 'redis_password' in repr(configuration)
