"""Options: what values each kind accepts, and what it makes of text from the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from learning_observer_kvs.config.options import Kind, Option, check_value, convert
from learning_observer_kvs.config.raw_text import RawText, UnsetVariable
from learning_observer_kvs.config.rows import DEBUG_OPTIONS
from learning_observer_kvs.kvs import KVS_MAP, KVSRouter
from learning_observer_kvs.settings import read_settings
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from learning_observer_kvs.stores.memory import InMemoryKVS
from learning_observer_kvs.stores.redis import options as redis_options
from learning_observer_kvs.stores.sqlite.store import SQLiteKVS
from tests.support.checks import check, check_store, ids, parse


def test_a_type_that_a_program_adds_is_checked_by_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(InMemoryKVS):
        TYPE = 'own'
        OPTIONS = (Option('size', 'count', required=True, doc='how many.'),)

    monkeypatch.setitem(KVS_MAP, 'own', Own)
    assert ids(check_store({'type': 'own', 'size': 5})) == []
    assert ids(check_store({'type': 'own', 'size': 0})) == ['KVS.E009']
    assert ids(check_store({'type': 'stub', 'size': 5})) == ['KVS.W001']
    assert "Did you mean 'own'?" in str(check_store({'type': 'owm'})[0])


@pytest.mark.parametrize(
    ('kind', 'good', 'bad'),
    [
        (
            'path',
            ['a', '/a b'],
            ['', None, 5, True, 'a\0', '$HOME/a', 'a/${NAME}', ':memory:', 'a/:memory:', '~', '~x/a'],
        ),
        ('path or null', ['a', '', None], [5, True, 'a\0', '$HOME/a', ':memory:', '~x/a']),
        ('text', ['a', ' '], ['', None, 5]),
        ('text or null', ['a', '', None], [5, True, '\udfff']),
        ('boolean', [True, False], ['true', 0, None]),
        ('seconds', [1, 0.001, 1_000_000_000], [0, -1, '1', True, None, float('inf'), 1_000_000_001]),
        ('count', [1, 10**9], [0, 1.0, '1', True]),
        ('index', [0, 15], [-1, '0', False, 1.0]),
        ('port', [1, 65535], [0, 65536, '80', 80.0, True]),
        (
            'addresses',
            [['a:1', '[::1]:26379'], 'a:1, b:2', [], None, ('a:65535',)],
            [
                'a',
                ['a:0'],
                [':1'],
                5,
                [5],
                'a:²',
                'a:٣',
                'a:b',
                'a:',
                'a:65536',
                'a:' + '9' * 5000,
                ['a:1', 'b'],
                {'a:1': 2},
            ],
        ),
        ('choice', ['x', 'y'], ['z', None, ['x']]),
        ('function', ['a:b', 'a.b.c:d'], ['a', 'a.b', ':b', 'a:', 'a:b:c', 'a:b.c', 'a b:c', '.a:b', None, 5]),
    ],
)
def test_each_kind_of_option_accepts_what_it_says(kind: Any, good: list[Any], bad: list[Any]) -> None:
    option = Option('o', kind, required=True, choices=('x', 'y'))
    assert [value for value in good if check_value(option, value)] == []
    assert [value for value in bad if not check_value(option, value)] == []


BLOCKS = {
    **{f'type {cls.TYPE}': cls.OPTIONS for cls in KVS_MAP.values()},
    'redis_connection': redis_options.OPTIONS,
    'kvs_debug': DEBUG_OPTIONS,
}


@pytest.mark.parametrize('block', BLOCKS)
@pytest.mark.parametrize('written', ['each', 'all'])
def test_every_option_accepts_its_documented_default_written_out(block: str, written: str) -> None:
    required = {'path': 'somewhere', 'expiry': 30}
    given = {option.name: required[option.name] for option in BLOCKS[block] if option.required}
    defaults = {option.name: option.default for option in BLOCKS[block] if not option.required}
    for some in [defaults] if written == 'all' else [{name: default} for name, default in defaults.items()]:
        if block.startswith('type '):
            settings: dict[str, Any] = {'kvs': {'default': {'type': block[5:], **given, **some}}}
        else:
            settings = {'kvs': {'default': {'type': 'stub'}}, block: some}
        assert check(settings) == []
        KVSRouter.from_settings(settings)


@pytest.mark.parametrize('block', BLOCKS)
def test_every_option_accepts_its_documented_default_as_a_variable_or_a_ruleset_spells_it(block: str) -> None:
    for option in BLOCKS[block]:
        if not option.required:
            found = convert(option, RawText.of(str(option.default), '${N}'))
            assert found == option.default
            assert type(found) is type(option.default)
            assert check_value(option, found) is None


def test_a_default_that_is_required_otherwise_or_of_another_type_is_not_accepted() -> None:
    assert check_value(Option('o', 'seconds', required=True), None)
    assert check_value(Option('o', 'boolean', default=False), 0)
    assert check_value(Option('o', 'count', default=1), True)


@pytest.mark.parametrize(
    ('kind', 'text', 'value'),
    [
        ('seconds', '30', 30),
        ('seconds', '0.5', 0.5),
        ('seconds', 'soon', 'soon'),
        ('count', '1.5', 1.5),
        ('index', '-1', -1),
        ('port', '6380', 6380),
        ('boolean', ' TRUE ', True),
        ('boolean', 'false', False),
        ('boolean', '1', '1'),
        ('text', '5', '5'),
        ('text or null', 'true', 'true'),
        ('choice', 'x', 'x'),
        ('choice', 'z', 'z'),
    ],
)
def test_raw_text_is_converted_by_the_kind_of_its_option_and_kept_raw_where_it_is_rejected(
    kind: Any, text: str, value: Any
) -> None:
    option = Option('o', kind, choices=('x', 'y'))
    found = convert(option, RawText.of(text, '${N}'))
    assert found == value
    rejected = check_value(option, found) is not None and isinstance(value, str)
    assert type(found) is (RawText if rejected else type(value))
    assert convert(option, text) is text


@pytest.mark.parametrize('make', [str, RawText])
@pytest.mark.parametrize('kind', ['path', 'path or null'])
def test_the_home_folder_is_where_a_path_with_a_tilde_leads(
    kind: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('HOME', '/home/ann')
    assert convert(Option('o', kind), make('~/a b')) == '/home/ann/a b'
    assert convert(Option('o', kind), make('a/~')) == 'a/~'
    unknown = '~no-such-user/a'
    assert convert(Option('o', kind), make(unknown)) == unknown
    rejected = check_value(Option('o', kind), unknown)
    assert rejected is not None
    assert './~no-such-user/a' in rejected[1]


@pytest.mark.parametrize(
    ('path', 'hint'),
    [('$HOME/a', '${NAME}'), ('$${HOME}/a', '${NAME}'), (':memory:', 'type: stub'), ('~no-such-user/a', './~')],
)
@pytest.mark.parametrize('type', ['sqlite', 'filesystem'])
def test_a_path_that_would_be_a_folder_of_a_surprising_name_is_an_error_with_a_hint(
    path: str, hint: str, type: str
) -> None:
    [problem] = check_store({'type': type, 'path': path})
    assert problem.id == 'KVS.E009'
    assert hint in problem.hint
    [problem] = check_store({'type': 'stub', 'failed_events': path})
    assert hint in problem.hint


def test_stores_and_their_folders_of_failed_events_are_in_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('HOME', str(tmp_path))
    for store in (SQLiteKVS('~/s', failed_events='~/f'), FilesystemKVS('~/s', failed_events='~/f')):
        assert (store.location(), store.failed_events) == (str(tmp_path / 's'), str(tmp_path / 'f'))
    same = {'default': {'type': 'sqlite', 'path': '~/a'}, 'b': {'type': 'filesystem', 'path': str(tmp_path / 'a')}}
    assert ids(check({'kvs': same})) == ['KVS.E012']


@pytest.mark.parametrize('kind', get_args(Kind))
def test_a_variable_that_is_not_set_is_neither_converted_nor_rejected(kind: Any) -> None:
    value = UnsetVariable.of('5', '${N}')
    assert convert(Option('o', kind), value) is value
    assert check_value(Option('o', kind), value) is None


@pytest.mark.parametrize('kind', ['seconds', 'count', 'index', 'port'])
def test_quotes_are_mentioned_only_for_a_number_in_quotes(kind: Any) -> None:
    for value, quoted in (('-5.5', True), ('abc', False), (-1, False), (RawText('abc'), False)):
        rejected = check_value(Option('o', kind), value)
        assert rejected is not None
        assert rejected[1].endswith('without quotes.') == quoted


def test_text_from_the_environment_becomes_the_number_or_boolean_that_its_option_accepts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
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
    configuration = parse(source)
    stores, redis = configuration.stores_by_name, configuration.redis_connection
    assert stores['default'].options == {'type': 'filesystem', 'path': '5', 'subdirs': True}
    assert stores['cache'].options['expiry'] == 30
    assert type(stores['cache'].options['expiry']) is int
    assert stores['other'].options['expiry'] == 30.5
    assert redis is not None
    assert redis.options == {'redis_port': 6380, 'redis_password': '6380'}
    assert type(redis.options['redis_password']) is str


def test_text_from_the_environment_that_its_option_rejects_is_reported_and_never_displayed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv('SECRET', 'hunter2')
    for options in (
        {'type': 'redis_ephemeral', 'expiry': '${SECRET}'},
        {'type': '${SECRET}'},
        {'type': 'sqlite', 'path': 'x', 'synchronous': '${SECRET}'},
        '${SECRET}',
    ):
        [problem] = check_store(options)
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
        assert ids(check_store(options)) == ['KVS.E016']
