"""Mistakes in the configuration: every rule of the static checks."""

from __future__ import annotations

import dataclasses
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs.checks import static
from learning_observer_kvs.config.options import Option
from learning_observer_kvs.kvs import KVS_MAP, KVSRouter, reserved_names
from learning_observer_kvs.problems import Level
from learning_observer_kvs.stores.memory import InMemoryKVS
from tests.support.checks import check, check_store, ids, parse

OPTIONS_OF_STUB = ', '.join(option.name for option in InMemoryKVS.OPTIONS)


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
def test_a_store_without_a_mistake_has_no_problem(options: dict[str, Any]) -> None:
    assert check_store(options) == []


@pytest.mark.parametrize(
    ('options', 'id', 'text'),
    [
        ({'type': 'redsi'}, 'KVS.E004', "kvs.a.type is 'redsi', which is not a type of store. Did you mean 'redis'?"),
        ({'type': 'Filesystem', 'path': 'x'}, 'KVS.E004', "Did you mean 'filesystem'?"),
        ({'type': 'mongo'}, 'KVS.E004', 'Known types: stub, redis_ephemeral, redis, filesystem, sqlite.'),
        ({'type': None}, 'KVS.E004', 'kvs.a.type is null'),
        ({'type': ['stub']}, 'KVS.E004', 'kvs.a.type is a list'),
        ({'path': 'x'}, 'KVS.E005', 'kvs.a.type is missing. Known types: stub'),
        ({}, 'KVS.E005', 'kvs.a.type is missing'),
        (None, 'KVS.E006', 'kvs.a is null, which is not a mapping'),
        ('stub', 'KVS.E006', "kvs.a is 'stub', which is not a mapping"),
        (['type', 'stub'], 'KVS.E006', 'kvs.a is a list, which is not a mapping'),
        ({'type': 'filesystem'}, 'KVS.E007', 'kvs.a.path is missing; filesystem needs it. Add path: the folder'),
        ({'type': 'sqlite'}, 'KVS.E007', 'kvs.a.path is missing'),
        ({'type': 'redis_ephemeral'}, 'KVS.E007', 'kvs.a.expiry is missing'),
        ({'type': 'redis_ephemeral', 'expirey': 30}, 'KVS.E008', "Did you mean 'expiry'?"),
        ({'type': 'filesystem', 'paht': 'x'}, 'KVS.E008', "Did you mean 'path'?"),
        ({'type': 'stub', 'color': 'red'}, 'KVS.E008', f'stub has the options: {OPTIONS_OF_STUB}.'),
        ({'type': 'stub', 5: 'red'}, 'KVS.E008', 'kvs.a.5 is not an option of any type of store'),
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
        ({'type': 'stub', 'expiry': 6000}, 'KVS.W001', 'kvs.a.expiry is not used by type stub. Remove it'),
        ({'type': 'redis', 'expiry': 30}, 'KVS.W001', 'not used by type redis'),
    ],
)
def test_a_mistake_is_found_with_its_message_and_hint(options: Any, id: str, text: str) -> None:
    [problem] = check_store(options)
    assert problem.id == id
    assert text in str(problem)
    assert problem.level is (Level.WARNING if '.W' in id else Level.ERROR)


def test_an_option_that_shipped_examples_have_is_a_warning_and_starts(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        KVSRouter(items={'memoization': {'type': 'stub', 'expiry': 6000}})
    assert 'kvs.memoization.expiry is not used by type stub' in caplog.text


@pytest.mark.parametrize('name', ['a-b', '5', '', 'a b', '_own', 'é è', 'a.b'])
def test_a_name_that_a_program_cannot_write_is_rejected(name: str) -> None:
    assert ids(check({'kvs': {'default': {'type': 'stub'}, name: {'type': 'stub'}}})) == ['KVS.E010']


@pytest.mark.parametrize('name', reserved_names())
def test_a_name_that_means_something_else_on_the_router_is_rejected(name: str) -> None:
    [problem] = check({'kvs': {'default': {'type': 'stub'}, name: {'type': 'stub'}}})
    assert problem.id == 'KVS.E010'
    assert f'KVS.{name} is a method' in problem.hint


def test_an_unknown_option_of_an_unknown_type_is_reported_too() -> None:
    assert ids(check_store({'type': 'mongo', 'zzzzz': 1})) == ['KVS.E004', 'KVS.E008']


def test_a_type_that_an_installed_package_adds_and_that_cannot_be_used_is_an_error_with_the_reason() -> None:
    configuration = parse({'kvs': {'default': {'type': 'own'}, 'b': {'type': 'stub'}}})
    configuration = dataclasses.replace(configuration, rejected_types={'own': 'lacks x', 'other': 'lacks y'})
    [problem] = static.check(configuration, KVS_MAP, reserved_names())
    assert (problem.id, problem.subject) == ('KVS.E017', 'kvs.default.type')
    assert problem.message == "is 'own', which lacks x"


def test_paths_of_a_type_that_a_program_adds_are_its_own_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(InMemoryKVS):
        TYPE = 'own'
        OPTIONS = (Option('path', 'path', doc='where.'),)

    monkeypatch.setitem(KVS_MAP, 'own', Own)
    own = {'type': 'own', 'path': 'x'}
    assert check({'kvs': {'default': own, 'b': own, 'c': {'type': 'filesystem', 'path': 'x'}}}) == []


def test_settings_without_a_kvs_block_have_another_hint_than_settings_that_are_not_loaded(tmp_path: Path) -> None:
    (tmp_path / 'creds.yaml').write_text('{}\n')
    [loaded], [not_loaded] = check(tmp_path / 'creds.yaml'), check({})
    assert loaded.id == not_loaded.id == 'KVS.E001'
    assert 'load_settings' in not_loaded.hint
    assert 'load_settings' not in loaded.hint


# The kvs block


@pytest.mark.parametrize(
    ('source', 'id', 'text'),
    [
        ({}, 'KVS.E001', 'kvs is missing. Load settings first'),
        ({'config': {}}, 'KVS.E001', 'Add "kvs:'),
        ({'kvs': None}, 'KVS.E002', 'kvs is null. Write it as a mapping'),
        ({'kvs': 'stub'}, 'KVS.E002', "kvs is 'stub'"),
        ({'kvs': {}}, 'KVS.E003', 'kvs.default is missing. Add kvs.default'),
        ({'kvs': []}, 'KVS.E003', 'kvs.default is missing'),
        ({'kvs': {'memoization': {'type': 'stub'}}}, 'KVS.E003', 'Add kvs.default'),
        ({'kvs': {'defualt': {'type': 'stub'}}}, 'KVS.E003', "Did you mean to call 'defualt' 'default'?"),
        ({'kvs': [['default', {'type': 'stub'}], ['a']]}, 'KVS.E002', r'kvs\.1 is not a \[name, options\] pair'),
        ({'kvs': [['default', {'type': 'stub'}], {'type': 'redsi', 'x': 1}]}, 'KVS.E002', r'kvs\.1 is not a'),
        ({'kvs': [['default', {'type': 'stub'}], 'ab']}, 'KVS.E002', r'kvs\.1 is not a \[name, options\] pair'),
        ({'kvs': [['default', {'type': 'stub'}], [5, {'type': 'stub'}]]}, 'KVS.E002', 'has a name of type int'),
        ({'kvs': {'default': {'type': 'stub'}, False: {'type': 'stub'}}}, 'KVS.E002', 'YAML reads no, yes, on, off'),
        ({'kvs': {'default': {'type': 'stub'}, None: {'type': 'stub'}}}, 'KVS.E002', 'Put the name in quotes'),
        ({'kvs': {'type': 'redis', 'prefix': 'x'}}, 'KVS.E006', 'kvs has type and prefix directly below it'),
        ({'kvs': {'type': 'stub'}}, 'KVS.E006', 'further indented: kvs: {default: {type: …}}'),
        ({'kvs': {'default': {'type': 'stub'}, 'path': 'x'}}, 'KVS.E006', 'kvs has path directly below it'),
        ({'kvs': {'default': {'type': 'stub'}, 'class': {'type': 'stub'}}}, 'KVS.E010', 'class is a word of Python'),
        ({'kvs': {'default': {'type': 'stub'}, 'None': {'type': 'stub'}}}, 'KVS.E010', 'None is a word of Python'),
        ({'kvs': {'default': {'type': 'stub'}, 'a\ud800': {'type': 'stub'}}}, 'KVS.E010', 'not a valid name'),
        (
            {'kvs': [['default', {'type': 'stub'}], ['default', {'type': 'stub'}]]},
            'KVS.E011',
            'default is defined twice',
        ),
    ],
)
def test_a_wrong_kvs_block_is_found(source: Any, id: str, text: str) -> None:
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
def test_two_stores_of_one_path_are_an_error(stores: dict[str, Any], shared: bool) -> None:
    assert ids(check({'kvs': {'default': {'type': 'stub'}} | stores})) == ['KVS.E012'] * shared


@pytest.mark.parametrize(
    ('first', 'second', 'shared'),
    [
        ('', '', True),
        ('', 'b:', True),
        ('a:', 'a:', True),
        ('a:', 'a:b:', True),
        ('a:b:', 'a:', True),
        ('a:', 'b:', False),
    ],
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


@pytest.mark.parametrize('options', [{'type': 'redis'}, {'type': 'filesystem', 'path': 'x'}], ids=str)
def test_of_several_stores_that_share_keys_or_a_path_each_but_the_first_is_reported_once(
    options: dict[str, Any],
) -> None:
    found = check({'kvs': {'default': options, 'b': options, 'c': options}})
    assert [problem.subject.removesuffix('.path') for problem in found] == ['kvs.b', 'kvs.c']
    assert all('kvs.default' in problem.message for problem in found)


@pytest.mark.parametrize(
    ('options', 'id'),
    [
        ({'type': 'redis', 'prefix': 5}, 'KVS.E009'),
        ({'type': 'filesystem', 'path': 5}, 'KVS.E009'),
        ({'type': 'sqlite', 'path': ''}, 'KVS.E009'),
        ({'type': 'filesystem', 'path': ''}, 'KVS.E009'),
    ],
    ids=str,
)
def test_a_prefix_or_path_of_the_wrong_kind_is_compared_with_no_other(options: dict[str, Any], id: str) -> None:
    right = options | ({'prefix': 'a:'} if options['type'] == 'redis' else {'path': 'a'})
    assert ids(check({'kvs': {'default': right, 'b': options, 'c': options}})) == [id, id]


@pytest.mark.parametrize(
    ('own', 'shared'),
    [({'redis_host': 'elsewhere'}, False), ({'redis_db': 1}, False), ({'redis_timeout': 1}, True), ({}, True)],
    ids=str,
)
def test_redis_stores_share_keys_only_where_they_share_a_location(own: dict[str, Any], shared: bool) -> None:
    stores = {'default': {'type': 'redis'}, 'cache': {'type': 'redis_ephemeral', 'expiry': 5} | own}
    assert ids(check({'kvs': stores, 'redis_connection': {'redis_host': 'here'}})) == ['KVS.W003'] * shared


def test_options_of_redis_under_a_store_are_checked_as_in_their_block() -> None:
    assert check_store({'type': 'redis', 'redis_host': 'elsewhere', 'redis_password': None}) == []
    assert ids(check_store({'type': 'stub', 'redis_host': 'elsewhere'})) == ['KVS.W001']
    assert ids(check_store({'type': 'redis', 'redis_port': '6379'})) == ['KVS.E009']
    [problem] = check_store({'type': 'redis', 'redis_url': 'redis://:hunter2@host', 'redis_socket': '/run/redis.sock'})
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
        ({'host': 'h'}, 'KVS.E014', "redis_connection.host is unknown. Did you mean 'redis_host'?"),
        ({'port': 6379}, 'KVS.E014', "Did you mean 'redis_port'?"),
        ({'password': 'hunter2'}, 'KVS.E014', "Did you mean 'redis_password'?"),
        ({'url': 'redis://:hunter2@h'}, 'KVS.E014', "Did you mean 'redis_url'?"),
        ({'db': 1}, 'KVS.E014', "Did you mean 'redis_db'?"),
        ({'user': 'me'}, 'KVS.E014', "Did you mean 'redis_username'?"),
        ({'unix_socket_path': '/x'}, 'KVS.E014', "Did you mean 'redis_socket'?"),
        ({'tls': True}, 'KVS.E014', "Did you mean 'redis_ssl'?"),
        ({'ssl_cert_reqs': 'none'}, 'KVS.E014', 'A certificate is always verified: name its authority in'),
        ({'redis_url': 'rediss://h?ssl_cert_reqs=none'}, 'KVS.E014', 'A certificate is always verified'),
        ({'redis_url': 'redis://h?socket_timeout=1'}, 'KVS.E014', 'Write it as redis_timeout beside the URL'),
        ({'colour': 'red'}, 'KVS.W002', 'redis_connection.colour is unknown. Known options: redis_host'),
    ],
)
def test_a_mistake_in_redis_connection_is_found(block: Any, id: str, text: str) -> None:
    [problem] = check({'kvs': {'default': {'type': 'stub'}}, 'redis_connection': block})
    assert problem.id == id
    assert re.search(text, str(problem))


def test_what_other_programs_call_an_option_of_redis_is_recognized_in_a_store_too() -> None:
    [problem] = check_store({'type': 'redis', 'host': 'h'})
    assert (problem.id, problem.hint) == ('KVS.E008', "Did you mean 'redis_host'?")


def test_too_many_stores_are_one_problem() -> None:
    for type in ('stub', 'stubb', 'redis'):
        stores = {f's{number}': {'type': type} for number in range(1000)}
        [problem] = check({'kvs': {'default': {'type': 'stub'}, **stores}})
        assert (problem.id, problem.message) == ('KVS.E002', 'has 1,001 stores; 1,000 are allowed')


def test_a_null_in_redis_connection_is_an_option_that_is_not_given() -> None:
    assert check({'kvs': {'default': {'type': 'stub'}}, 'redis_connection': {'redis_password': None}}) == []
    assert check({'kvs': {'default': {'type': 'stub'}}, 'redis_connection': None}) == []


@pytest.mark.parametrize(
    ('block', 'text'),
    [
        (True, 'kvs_debug is true. Write it as a mapping'),
        ({'authorise': 'a:b'}, "kvs_debug.authorise is unknown. Did you mean 'authorize'?"),
        ({'authorize': ''}, "kvs_debug.authorize is ''"),
        ({'authorize': 'own_app_rules'}, "authorize is 'own_app_rules'. Write it as package.module:function."),
        ({'colour': 1}, 'Known options: authorize'),
    ],
)
def test_a_mistake_in_kvs_debug_is_found(block: Any, text: str) -> None:
    [problem] = check({'kvs': {'default': {'type': 'stub'}}, 'kvs_debug': block})
    assert problem.id == 'KVS.E015'
    assert re.search(text, str(problem))


def test_a_block_that_is_a_variable_that_is_not_set_is_one_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv('NONE', raising=False)
    for name in ('kvs', 'redis_connection', 'kvs_debug'):
        assert ids(check({'kvs': {'default': {'type': 'stub'}}} | {name: '${NONE}'})) == ['KVS.E016']


@pytest.mark.parametrize(
    ('mode', 'hint'), [('develop', "Did you mean 'deploy'?"), ('x', 'Write dev, deploy or interactive.')]
)
def test_an_unknown_run_mode_is_a_warning(mode: str, hint: str) -> None:
    [problem] = check({'kvs': {'default': {'type': 'stub'}}, 'config': {'run_mode': mode}})
    assert (problem.id, problem.hint) == ('KVS.W004', hint)


@pytest.mark.parametrize('mode', ['dev', 'deploy', 'interactive', None])
def test_each_run_mode_is_accepted_and_none_is_needed(mode: str | None) -> None:
    for config in ({'run_mode': mode}, {}, None, 'dev'):
        assert check({'kvs': {'default': {'type': 'stub'}}, 'config': config}) == []


def test_a_block_whose_name_is_misspelled_is_a_warning_and_other_blocks_are_the_servers() -> None:
    found = check({'kvs': {'default': {'type': 'stub'}}, 'redis_conection': {}, 'auth': {}, 'modules': {}})
    assert [str(problem) for problem in found] == [
        "settings  redis_conection is not read. Did you mean 'redis_connection'?  [KVS.W005]"
    ]
    assert set(ids(check({'KVS': {'default': {'type': 'stub'}}}))) == {'KVS.E001', 'KVS.W005'}
    assert ids(check({'kvs': {'default': {'type': 'stub'}}, 'kvs_plug_in': False})) == ['KVS.W005']
    assert ids(check({'kvs': {'default': {'type': 'stub'}}, 'kvs_plugin': False})) == []
    assert ids(check({'kvs': {'default': {'type': 'stub'}}, 'redis_connection': {}, 'redis_conection': {}})) == []
