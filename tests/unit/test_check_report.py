"""Problems of a configuration together: their order, their locations and their report."""

from __future__ import annotations

import dataclasses
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs import problems
from learning_observer_kvs.errors import StartupCheck
from learning_observer_kvs.kvs import KVSRouter, kvs_startup_check
from learning_observer_kvs.problems import CATALOGUE, Problem, raise_on_errors, report
from learning_observer_kvs.settings import load_settings, read_settings
from tests.support.checks import check, check_store, ids

ROOT = Path(__file__).parent.parent.parent

EVERYTHING = """\
kvs:
  default:
    type: filesystem
    path: null
  cache:
    type: redis_ephemeral
    expirey: 30
  cache:
    type: redsi
  close:
    type: stub
redis_connection:
  redis_port: '6379'
  redis_password: 4711
  redis_url: redis://me:4711@host
  redis_url: redis://me:4711@host
kvs_debug:
  writable: maybe
"""


def test_all_problems_come_at_once_in_the_order_of_the_file_with_their_locations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path('creds.yaml').write_text(EVERYTHING)
    found = check('creds.yaml')
    assert [(problem.location, problem.subject, problem.id) for problem in found] == [
        ('creds.yaml:4', 'kvs.default.path', 'KVS.E009'),
        ('creds.yaml:8', 'kvs.cache', 'KVS.E013'),
        ('creds.yaml:9', 'kvs.cache.type', 'KVS.E004'),
        ('creds.yaml:10', 'kvs.close', 'KVS.E010'),
        ('creds.yaml:13', 'redis_connection.redis_port', 'KVS.E014'),
        ('creds.yaml:14', 'redis_connection.redis_password', 'KVS.E014'),
        ('creds.yaml:16', 'redis_connection.redis_url', 'KVS.E013'),
        ('creds.yaml:18', 'kvs_debug.writable', 'KVS.E015'),
    ]
    text = report(found)
    assert '4711' not in text
    assert text.splitlines()[0] == 'The key-value store cannot start. 8 errors must be fixed:'
    assert len(text.splitlines()) == 10


def test_the_same_mistakes_are_found_in_pairs_in_yaml_and_in_code(tmp_path: Path) -> None:
    stores: dict[str, Any] = {'default': {'type': 'redsi'}, 'b': {'type': 'filesystem'}, 'c': {'type': 'stub', 'x': 1}}
    wanted = [('kvs.default.type', 'KVS.E004'), ('kvs.b.path', 'KVS.E007'), ('kvs.c.x', 'KVS.E008')]
    (tmp_path / 'creds.yaml').write_text(
        'kvs:\n  - [default, {type: redsi}]\n  - [b, {type: filesystem}]\n  - - c\n    - type: stub\n      x: 1\n'
    )
    blocks: list[Any] = [stores, list(stores.items()), tuple(map(list, stores.items()))]
    sources: list[Any] = [*({'kvs': block} for block in blocks), tmp_path / 'creds.yaml']
    for source in sources:
        found = check(source)
        assert [(problem.subject, problem.id) for problem in found] == wanted
    assert [problem.location.rpartition(':')[2] for problem in found] == ['2', '3', '6']
    with pytest.raises(StartupCheck) as failure:
        KVSRouter(items=stores.items())
    assert len(failure.value.problems) == 3


def test_a_wrong_configuration_is_one_startup_check_with_every_problem() -> None:
    load_settings({'kvs': {'default': {'type': 'redsi'}, 'b': {'type': 'stub', 'expiry': 5}}})
    with pytest.raises(StartupCheck) as failure:
        kvs_startup_check()
    assert ids(failure.value.problems) == ['KVS.E004', 'KVS.W001']
    assert str(failure.value) == report(failure.value.problems)


def test_errors_come_before_warnings_and_are_counted() -> None:
    text = report(check_store({'type': 'filesystem', 'expiry': 5}))
    assert '1 error must be fixed' in text
    assert text.index('KVS.E007') < text.index('KVS.W001')
    assert report(check_store({'type': 'stub', 'expiry': 5})).startswith('The key-value store can start, but:')


@pytest.mark.parametrize(
    ('file', 'wanted'),
    [
        ('bad-values', ['KVS.E009'] * 7),
        ('no-default', ['KVS.E003']),
        ('no-kvs', ['KVS.E001']),
        ('unknown-type', ['KVS.E004', 'KVS.E008']),
    ],
)
def test_each_file_of_mistakes_makes_the_mistakes_it_names(file: str, wanted: list[str]) -> None:
    assert ids(check(ROOT / f'devdata/mistakes/{file}.yaml')) == wanted


def test_the_file_of_mistakes_that_is_not_yaml_cannot_be_read() -> None:
    with pytest.raises(StartupCheck, match=r'not-yaml\.yaml:4:8  the file is not YAML'):
        read_settings(ROOT / 'devdata/mistakes/not-yaml.yaml')


def test_every_file_of_mistakes_is_tested() -> None:
    assert {path.stem for path in (ROOT / 'devdata/mistakes').iterdir()} == {
        'bad-values',
        'no-default',
        'no-kvs',
        'not-yaml',
        'unknown-type',
    }


def test_a_problem_for_programs_has_all_its_fields_and_its_level() -> None:
    problem = Problem('KVS.W001', 'creds.yaml:5', 'kvs.a.expiry', 'is not used', 'Remove it.')
    fields = {'location': 'creds.yaml:5', 'subject': 'kvs.a.expiry', 'message': 'is not used', 'hint': 'Remove it.'}
    assert problem.as_dict() == {'id': 'KVS.W001', 'level': 'warning', **fields}
    assert len({problem, dataclasses.replace(problem)}) == 1
    assert dataclasses.replace(problem, id='KVS.E009').as_dict()['level'] == 'error'
    assert str(problem) == 'creds.yaml:5  kvs.a.expiry is not used. Remove it.  [KVS.W001]'


def test_errors_stop_the_start_with_all_problems_and_warnings_alone_are_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    warning = Problem('KVS.W001', 'creds.yaml:5', 'kvs.a.expiry', 'is not used', 'Remove it.')
    error = dataclasses.replace(warning, id='KVS.E009')
    with caplog.at_level(logging.WARNING):
        raise_on_errors([])
        raise_on_errors(iter([warning, warning]))
    assert caplog.messages == [str(warning)] * 2
    caplog.clear()
    with pytest.raises(StartupCheck) as failure:
        raise_on_errors(iter([warning, error]))
    assert failure.value.problems == (warning, error)
    assert caplog.messages == []


def test_a_report_lists_problems_of_one_level_in_the_order_in_which_they_are_given() -> None:
    ids = ['KVS.W002', 'KVS.E009', 'KVS.W001', 'KVS.E004']
    lines = report(Problem(id, 'creds.yaml:1', 'kvs', 'is wrong', 'Correct it.') for id in ids).splitlines()
    assert lines[0] == 'The key-value store cannot start. 2 errors must be fixed:'
    assert [line[-9:-1] for line in lines[2:]] == ['KVS.E009', 'KVS.E004', 'KVS.W002', 'KVS.W001']


def test_ids_say_whether_they_stop_the_start() -> None:
    for id in CATALOGUE:
        assert re.fullmatch(r'KVS\.[EW]\d{3}', id)
    assert problems.Level.ERROR > problems.Level.WARNING
