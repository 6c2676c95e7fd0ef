"""Mistakes in the configuration: every one found at once, with its place, its fault and its cure."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs import problems
from learning_observer_kvs.checks import static
from learning_observer_kvs.config.options import Option, problem_of
from learning_observer_kvs.errors import StartupCheck
from learning_observer_kvs.kvs import KVS_MAP, KVSRouter, kvs_startup_check, reserved_names
from learning_observer_kvs.problems import CATALOGUE, Level, Problem, report
from learning_observer_kvs.settings import load_settings, read_settings
from learning_observer_kvs.stores.memory import InMemoryKVS

ROOT = Path(__file__).parent.parent.parent


def check(source: Any) -> list[Problem]:
    """Every problem of a configuration."""
    return static.check_settings(read_settings(source), KVS_MAP, reserved_names())


def of_store(options: Any) -> list[Problem]:
    """Every problem of one store, the default one being right."""
    return check({'kvs': {'default': {'type': 'stub'}, 'a': options}})


def ids(found: Sequence[Problem]) -> list[str]:
    return [problem.id for problem in found]


# One store


@pytest.mark.parametrize(
    'options',
    [
        {'type': 'stub'},
        {'type': 'filesystem', 'path': '.lo_kvs'},
        {'type': 'filesystem', 'path': '/tmp/x', 'subdirs': True},
        {'type': 'sqlite', 'path': 'a.sqlite3', 'synchronous': 'normal'},
        {'type': 'redis', 'prefix': 'lo:'},
        {'type': 'redis_ephemeral', 'expiry': 30},
        {'type': 'redis_ephemeral', 'expiry': 0.5},
    ],
    ids=str,
)
def test_what_is_right_is_no_problem(options: dict[str, Any]) -> None:
    assert of_store(options) == []


@pytest.mark.parametrize(
    ('options', 'id', 'text'),
    [
        ({'type': 'redsi'}, 'KVS.E004', "kvs.a.type is 'redsi', which is no type of store. Did you mean 'redis'?"),
        ({'type': 'Filesystem', 'path': 'x'}, 'KVS.E004', "Did you mean 'filesystem'?"),
        ({'type': 'mongo'}, 'KVS.E004', 'There are: stub, redis_ephemeral, redis, filesystem, sqlite.'),
        ({'type': None}, 'KVS.E004', 'kvs.a.type is null'),
        ({'type': ['stub']}, 'KVS.E004', 'kvs.a.type is a list'),
        ({'path': 'x'}, 'KVS.E005', 'kvs.a.type is missing. There are: stub'),
        ({}, 'KVS.E005', 'kvs.a.type is missing'),
        (None, 'KVS.E006', 'kvs.a is null, which is no mapping'),
        ('stub', 'KVS.E006', "kvs.a is 'stub', which is no mapping"),
        (['type', 'stub'], 'KVS.E006', 'kvs.a is a list, which is no mapping'),
        ({'type': 'filesystem'}, 'KVS.E007', 'kvs.a.path is missing; filesystem needs it. Add path: the folder'),
        ({'type': 'sqlite'}, 'KVS.E007', 'kvs.a.path is missing'),
        ({'type': 'redis_ephemeral'}, 'KVS.E007', 'kvs.a.expiry is missing'),
        ({'type': 'redis_ephemeral', 'expirey': 30}, 'KVS.E008', "Did you mean 'expiry'?"),
        ({'type': 'filesystem', 'paht': 'x'}, 'KVS.E008', "Did you mean 'path'?"),
        ({'type': 'stub', 'color': 'red'}, 'KVS.E008', 'stub takes: flush_interval, cache_bytes.'),
        ({'type': 'stub', 5: 'red'}, 'KVS.E008', 'kvs.a.5 is an option no type'),
        ({'type': 'filesystem', 'path': None}, 'KVS.E009', 'kvs.a.path is null. Write a path.'),
        ({'type': 'filesystem', 'path': ''}, 'KVS.E009', "kvs.a.path is ''"),
        ({'type': 'filesystem', 'path': 'a\0b'}, 'KVS.E009', 'Write a path.'),
        ({'type': 'filesystem', 'path': '\ud800'}, 'KVS.E009', 'Write a path.'),
        ({'type': 'filesystem', 'path': 5}, 'KVS.E009', 'kvs.a.path is 5. Write a path.'),
        ({'type': 'filesystem', 'path': 'x', 'subdirs': 'yes'}, 'KVS.E009', 'Write true or false, without quotes.'),
        ({'type': 'filesystem', 'path': 'x', 'subdirs': 1}, 'KVS.E009', 'kvs.a.subdirs is 1.'),
        ({'type': 'sqlite', 'path': 'x', 'synchronous': 'off'}, 'KVS.E009', 'Write full or normal.'),
        ({'type': 'sqlite', 'path': 'x', 'synchronous': True}, 'KVS.E009', 'kvs.a.synchronous is true.'),
        ({'type': 'redis', 'prefix': 5}, 'KVS.E009', 'Write text that is not empty.'),
        (
            {'type': 'redis_ephemeral', 'expiry': 0},
            'KVS.E009',
            'expiry is 0. Write a positive number of seconds.',
        ),
        ({'type': 'redis_ephemeral', 'expiry': -5}, 'KVS.E009', 'kvs.a.expiry is -5.'),
        ({'type': 'redis_ephemeral', 'expiry': 'abc'}, 'KVS.E009', "kvs.a.expiry is 'abc'."),
        ({'type': 'redis_ephemeral', 'expiry': True}, 'KVS.E009', 'kvs.a.expiry is true.'),
        ({'type': 'redis_ephemeral', 'expiry': None}, 'KVS.E009', 'kvs.a.expiry is null.'),
        ({'type': 'redis_ephemeral', 'expiry': '30'}, 'KVS.E009', 'of seconds, without quotes.'),
        ({'type': 'redis_ephemeral', 'expiry': float('nan')}, 'KVS.E009', 'kvs.a.expiry is nan.'),
        ({'type': 'redis_ephemeral', 'expiry': float('inf')}, 'KVS.E009', '1,000,000,000 at most'),
        ({'type': 'redis_ephemeral', 'expiry': 10**400}, 'KVS.E009', '1,000,000,000 at most'),
        ({'type': 'stub', 'expiry': 6000}, 'KVS.W001', 'kvs.a.expiry is not used by type stub. Take it out'),
        ({'type': 'redis', 'expiry': 30}, 'KVS.W001', 'not used by type redis'),
    ],
)
def test_a_mistake_is_found_with_its_fault_and_its_cure(options: Any, id: str, text: str) -> None:
    [problem] = of_store(options)
    assert problem.id == id
    assert text in str(problem)
    assert problem.level is (Level.WARNING if '.W' in id else Level.ERROR)


def test_an_option_that_shipped_examples_have_is_a_warning_and_starts(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        KVSRouter(items={'memoization': {'type': 'stub', 'expiry': 6000}})
    assert 'kvs.memoization.expiry is not used by type stub' in caplog.text


@pytest.mark.parametrize('name', ['a-b', '5', '', 'a b', '_own', 'é è', 'a.b'])
def test_a_name_that_a_program_could_not_write_is_refused(name: str) -> None:
    assert ids(check({'kvs': {'default': {'type': 'stub'}, name: {'type': 'stub'}}})) == ['KVS.E010']


@pytest.mark.parametrize('name', reserved_names())
def test_a_name_that_means_something_else_on_the_router_is_refused(name: str) -> None:
    [problem] = check({'kvs': {'default': {'type': 'stub'}, name: {'type': 'stub'}}})
    assert problem.id == 'KVS.E010'
    assert f'KVS.{name} is a method' in problem.hint


# The kvs block


@pytest.mark.parametrize(
    ('source', 'id', 'text'),
    [
        ({}, 'KVS.E001', 'kvs is not there. Load settings first'),
        ({'config': {}}, 'KVS.E001', 'Add "kvs:'),
        ({'kvs': None}, 'KVS.E002', 'kvs is null. Write it as a mapping'),
        ({'kvs': 'stub'}, 'KVS.E002', "kvs is 'stub'"),
        ({'kvs': {}}, 'KVS.E003', 'kvs.default is not there. Add kvs.default'),
        ({'kvs': []}, 'KVS.E003', 'kvs.default is not there'),
        ({'kvs': {'memoization': {'type': 'stub'}}}, 'KVS.E003', 'Add kvs.default'),
        ({'kvs': {'defualt': {'type': 'stub'}}}, 'KVS.E003', "Did you mean to call 'defualt' 'default'?"),
        ({'kvs': [['default', {'type': 'stub'}], ['a']]}, 'KVS.E002', r'kvs\.1 is no \[name, options\] pair'),
        ({'kvs': [['default', {'type': 'stub'}], 'ab']}, 'KVS.E002', r'kvs\.1 is no \[name, options\] pair'),
        ({'kvs': [['default', {'type': 'stub'}], [5, {'type': 'stub'}]]}, 'KVS.E002', 'a name of the kind int'),
        ({'kvs': [['default', {'type': 'stub'}], ['default', {'type': 'stub'}]]}, 'KVS.E011', 'default is there twice'),
    ],
)
def test_a_kvs_block_that_is_none_is_found(source: Any, id: str, text: str) -> None:
    [problem] = check(source)
    assert problem.id == id
    assert re.search(text, str(problem))


def test_a_router_of_items_needs_no_default_store() -> None:
    assert KVSRouter(items={'a': {'type': 'stub'}}).names() == ['a']


@pytest.mark.parametrize(
    ('stores', 'shared'),
    [
        ({'a': {'type': 'filesystem', 'path': 'x'}, 'b': {'type': 'filesystem', 'path': './x/'}}, True),
        ({'a': {'type': 'filesystem', 'path': 'x'}, 'b': {'type': 'filesystem', 'path': 'y'}}, False),
        ({'a': {'type': 'filesystem', 'path': 'x'}, 'b': {'type': 'sqlite', 'path': 'x'}}, True),
        ({'a': {'type': 'sqlite', 'path': 'x'}, 'b': {'type': 'sqlite', 'path': 'x'}}, False),
        ({'a': {'type': 'sqlite', 'path': 'x'}, 'A': {'type': 'sqlite', 'path': 'x'}}, True),
        ({'a': {'type': 'sqlite', 'path': 'x'}, 'A': {'type': 'sqlite', 'path': 'y'}}, False),
    ],
    ids=str,
)
def test_two_stores_in_one_place_are_an_error(stores: dict[str, Any], shared: bool) -> None:
    assert ids(check({'kvs': {'default': {'type': 'stub'}} | stores})) == ['KVS.E012'] * shared


@pytest.mark.parametrize(
    ('first', 'second', 'shared'),
    [('', '', True), ('', 'b:', True), ('a:', 'a:', True), ('a:', 'a:b:', True), ('a:', 'b:', False)],
)
def test_redis_stores_whose_keys_overlap_are_a_warning(first: str, second: str, shared: bool) -> None:
    found = check(
        {
            'kvs': {
                'default': {'type': 'redis'} | ({'prefix': first} if first else {}),
                'cache': {'type': 'redis_ephemeral', 'expiry': 5} | ({'prefix': second} if second else {}),
            }
        }
    )
    assert ids(found) == ['KVS.W003'] * shared
    if shared:
        assert str(found[0]) == (
            f'settings  kvs.cache and kvs.default share keys: their prefixes are {second!r} and {first!r}. '
            'Give each a prefix of its own, none of which begins with another.  [KVS.W003]'
        )


@pytest.mark.parametrize(
    ('own', 'shared'),
    [({'redis_host': 'elsewhere'}, False), ({'redis_db': 1}, False), ({'redis_timeout': 1}, True), ({}, True)],
    ids=str,
)
def test_redis_stores_share_keys_only_where_they_share_a_place(own: dict[str, Any], shared: bool) -> None:
    stores = {'default': {'type': 'redis'}, 'cache': {'type': 'redis_ephemeral', 'expiry': 5} | own}
    assert ids(check({'kvs': stores, 'redis_connection': {'redis_host': 'here'}})) == ['KVS.W003'] * shared


def test_settings_of_redis_under_a_store_are_checked_as_in_their_block() -> None:
    assert of_store({'type': 'redis', 'redis_host': 'elsewhere', 'redis_password': None}) == []
    assert ids(of_store({'type': 'stub', 'redis_host': 'elsewhere'})) == ['KVS.W001']
    assert ids(of_store({'type': 'redis', 'redis_port': '6379'})) == ['KVS.E009']
    [problem] = of_store({'type': 'redis', 'redis_url': 'redis://:hunter2@host', 'redis_socket': '/run/redis.sock'})
    assert (problem.id, problem.subject[:8]) == ('KVS.E014', 'kvs.a.re')
    assert 'hunter2' not in str(problem)


# The other blocks


@pytest.mark.parametrize(
    ('block', 'id', 'text'),
    [
        ('localhost', 'KVS.E014', 'redis_connection is .*Write it as a mapping'),
        ({'redis_port': '6379'}, 'KVS.E014', 'a whole number from 1 to 65535, without quotes'),
        ({'redis_port': 70000}, 'KVS.E014', 'redis_connection.redis_port is 70000'),
        ({'redis_prot': 6379}, 'KVS.E014', "redis_connection.redis_prot is unknown. Did you mean 'redis_port'?"),
        ({'redis_password': 12345}, 'KVS.E014', r'redis_password is \(hidden\). Write text, or null; put numbers in'),
        ({'redis_ssl': 'yes'}, 'KVS.E014', 'Write true or false'),
        ({'redis_db': -1}, 'KVS.E014', 'Write 0 or a whole number above'),
        ({'redis_timeout': 0}, 'KVS.E014', 'a positive number of seconds'),
        ({'redis_max_connections': 2.5}, 'KVS.E014', 'a whole number above 0'),
        ({'colour': 'red'}, 'KVS.W002', 'redis_connection.colour is unknown. There are: redis_host'),
    ],
)
def test_a_mistake_in_redis_connection_is_found(block: Any, id: str, text: str) -> None:
    [problem] = check({'kvs': {'default': {'type': 'stub'}}, 'redis_connection': block})
    assert problem.id == id
    assert re.search(text, str(problem))


def test_a_null_in_redis_connection_is_what_is_not_given() -> None:
    assert check({'kvs': {'default': {'type': 'stub'}}, 'redis_connection': {'redis_password': None}}) == []
    assert check({'kvs': {'default': {'type': 'stub'}}, 'redis_connection': None}) == []


@pytest.mark.parametrize(
    ('block', 'text'),
    [
        (True, 'kvs_debug is true. Write it as a mapping'),
        ({'writeable': True}, "kvs_debug.writeable is unknown. Did you mean 'writable'?"),
        ({'writable': 'no'}, 'Write true or false'),
        ({'authorize': None}, 'kvs_debug.authorize is null'),
        ({'authorize': 'own_app_rules'}, "authorize is 'own_app_rules'. Write it as package.module:function."),
        ({'colour': 1}, 'There are: authorize, writable'),
    ],
)
def test_a_mistake_in_kvs_debug_is_found(block: Any, text: str) -> None:
    [problem] = check({'kvs': {'default': {'type': 'stub'}}, 'kvs_debug': block})
    assert problem.id == 'KVS.E015'
    assert re.search(text, str(problem))


@pytest.mark.parametrize(
    ('mode', 'cure'), [('develop', "Did you mean 'deploy'?"), ('x', 'Write dev, deploy or interactive.')]
)
def test_an_unknown_run_mode_is_a_warning(mode: str, cure: str) -> None:
    [problem] = check({'kvs': {'default': {'type': 'stub'}}, 'config': {'run_mode': mode}})
    assert (problem.id, problem.hint) == ('KVS.W004', cure)


def test_a_block_whose_word_is_misspelled_is_a_warning_and_other_blocks_are_the_servers() -> None:
    found = check({'kvs': {'default': {'type': 'stub'}}, 'redis_conection': {}, 'auth': {}, 'modules': {}})
    assert [str(problem) for problem in found] == [
        "settings  redis_conection is not read. Did you mean 'redis_connection'?  [KVS.W005]"
    ]
    assert set(ids(check({'KVS': {'default': {'type': 'stub'}}}))) == {'KVS.E001', 'KVS.W005'}
    assert ids(check({'kvs': {'default': {'type': 'stub'}}, 'kvs_plug_in': False})) == ['KVS.W005']
    assert ids(check({'kvs': {'default': {'type': 'stub'}}, 'kvs_plugin': False})) == []


# All at once, with places

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


def test_all_problems_come_at_once_in_the_order_of_the_file_with_their_places(
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
    assert text.splitlines()[0] == 'The key-value store cannot start. 8 faults have to be mended:'
    assert len(text.splitlines()) == 10


def test_the_same_mistakes_are_found_in_pairs_in_yaml_and_in_code(tmp_path: Path) -> None:
    stores: dict[str, Any] = {'default': {'type': 'redsi'}, 'b': {'type': 'filesystem'}, 'c': {'type': 'stub', 'x': 1}}
    wanted = [('kvs.default.type', 'KVS.E004'), ('kvs.b.path', 'KVS.E007'), ('kvs.c.x', 'KVS.E008')]
    (tmp_path / 'creds.yaml').write_text(
        'kvs:\n  - [default, {type: redsi}]\n  - [b, {type: filesystem}]\n  - - c\n    - type: stub\n      x: 1\n'
    )
    blocks: list[Any] = [stores, list(stores.items()), tuple(map(list, stores.items()))]
    for source in [*({'kvs': block} for block in blocks), tmp_path / 'creds.yaml']:
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


def test_errors_come_before_warnings_and_one_is_said_as_one() -> None:
    text = report(of_store({'type': 'filesystem', 'expiry': 5}))
    assert 'One fault has to be mended' in text
    assert text.index('KVS.E007') < text.index('KVS.W001')
    assert report(of_store({'type': 'stub', 'expiry': 5})).startswith('The key-value store can start, but:')


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


def test_the_file_of_mistakes_that_is_no_yaml_is_none() -> None:
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


def test_a_type_of_ones_own_is_checked_by_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(InMemoryKVS):
        TYPE = 'own'
        OPTIONS = (Option('size', 'count', required=True, doc='how many.'),)

    monkeypatch.setitem(KVS_MAP, 'own', Own)
    assert ids(of_store({'type': 'own', 'size': 5})) == []
    assert ids(of_store({'type': 'own', 'size': 0})) == ['KVS.E009']
    assert ids(of_store({'type': 'stub', 'size': 5})) == ['KVS.W001']
    assert "Did you mean 'own'?" in str(of_store({'type': 'owm'})[0])


@pytest.mark.parametrize(
    ('kind', 'good', 'bad'),
    [
        ('path', ['a', '/a b'], ['', None, 5, True, 'a\0']),
        ('text', ['a', ' '], ['', None, 5]),
        ('text or null', ['a', '', None], [5, True, '\udfff']),
        ('boolean', [True, False], ['true', 0, None]),
        ('seconds', [1, 0.001, 1_000_000_000], [0, -1, '1', True, None, float('inf'), 1_000_000_001]),
        ('count', [1, 10**9], [0, 1.0, '1', True]),
        ('index', [0, 15], [-1, '0', False]),
        ('port', [1, 65535], [0, 65536, '80', 80.0]),
        (
            'addresses',
            [['a:1', '[::1]:26379'], 'a:1, b:2', [], None],
            ['a', ['a:0'], [':1'], 5, [5], 'a:²'],
        ),
        ('choice', ['x', 'y'], ['z', None, ['x']]),
    ],
)
def test_each_kind_of_option_takes_what_it_says(kind: Any, good: list[Any], bad: list[Any]) -> None:
    option = Option('o', kind, choices=('x', 'y'))
    assert [value for value in good if problem_of(option, value)] == []
    assert [value for value in bad if not problem_of(option, value)] == []


def test_text_from_the_environment_becomes_what_its_option_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {'SECONDS': '30', 'YES': 'True', 'PORT': '6380', 'PATH_': '5', 'TYPE': 'redis_ephemeral'}.items():
        monkeypatch.setenv(name, text)
    source = read_settings(
        {
            'kvs': {
                'default': {'type': 'filesystem', 'path': '${PATH_}', 'subdirs': '${YES}'},
                'cache': {'type': '${TYPE}', 'expiry': '${SECONDS}', 'prefix': 'c:'},
                'other': {'type': 'redis_ephemeral', 'expiry': '${SECONDS}.5', 'prefix': 'o:'},
            },
            'redis_connection': {'redis_port': '${PORT}', 'redis_password': '${PORT}'},
        }
    )
    assert check(source) == []
    assert source['kvs']['default'] == {'type': 'filesystem', 'path': '5', 'subdirs': True}
    assert source['kvs']['cache']['expiry'] == 30
    assert type(source['kvs']['cache']['expiry']) is int
    assert source['kvs']['other']['expiry'] == 30.5
    assert source['redis_connection'] == {'redis_port': 6380, 'redis_password': '6380'}
    assert type(source['redis_connection']['redis_password']) is str


def test_text_from_the_environment_that_does_not_fit_is_told_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('SECRET', 'hunter2')
    for options in (
        {'type': 'redis_ephemeral', 'expiry': '${SECRET}'},
        {'type': '${SECRET}'},
        {'type': 'sqlite', 'path': 'x', 'synchronous': '${SECRET}'},
        '${SECRET}',
    ):
        [problem] = of_store(options)
        assert 'is ${SECRET}' in problem.message
        assert 'hunter2' not in f'{problem} {problem!r}'


def test_a_variable_that_is_not_set_is_one_problem_not_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv('NONE', raising=False)
    for options in (
        {'type': 'redis_ephemeral', 'expiry': '${NONE}'},
        {'type': '${NONE}', 'expiry': 5},
        {'type': 'filesystem', 'path': '${NONE}', 'subdirs': True},
        '${NONE}',
    ):
        assert ids(of_store(options)) == ['KVS.E016']


def test_ids_say_whether_they_stop_the_start() -> None:
    for id in CATALOGUE:
        assert re.fullmatch(r'KVS\.[EW]\d{3}', id)
    assert problems.Level.ERROR > problems.Level.WARNING
