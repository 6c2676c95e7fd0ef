"""Settings: read from a file or a mapping, with the source location of each value, and no secret displayed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs import settings
from learning_observer_kvs.config.redaction import display_value, without_credentials
from learning_observer_kvs.errors import StartupCheck
from learning_observer_kvs.settings import Settings, load_settings, read_settings, run_mode
from tests.support.checks import parse

CREDS = """\
config:
  run_mode: dev
kvs:
  default:
    type: filesystem
    path: .lo_kvs
  cache:
    type: redis_ephemeral
    expiry: 30
"""


@pytest.fixture
def creds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / 'creds.yaml'
    path.write_text(CREDS)
    return path


def read(tmp_path: Path, text: str | bytes) -> Settings:
    path = tmp_path / 'creds.yaml'
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_settings(path)


def test_settings_are_filled_in_place_from_a_file_or_a_mapping(creds: Path) -> None:
    before = settings.settings
    assert load_settings(creds) is before
    assert settings.settings['kvs']['default'] == {'type': 'filesystem', 'path': '.lo_kvs'}
    assert load_settings({'kvs': {'default': {'type': 'stub'}}}) is before
    assert before == {'kvs': {'default': {'type': 'stub'}}}
    assert before.source is None


def test_settings_that_cannot_be_read_leave_the_loaded_ones_as_they_were(creds: Path) -> None:
    load_settings(creds)
    creds.write_text('kvs: [')
    with pytest.raises(StartupCheck):
        load_settings(creds)
    assert settings.settings['kvs']['cache']['expiry'] == 30
    assert settings.settings.location('kvs', 'cache', 'expiry').endswith('creds.yaml:9')


def test_a_mapping_that_was_handed_in_is_not_shared() -> None:
    mine: dict[str, Any] = {'kvs': {'default': {'type': 'stub'}}}
    found = read_settings(mine)
    mine['kvs']['default']['type'] = 'redis'
    assert found['kvs']['default']['type'] == 'stub'
    copy = read_settings(found)
    assert copy == found
    assert copy is not found


def test_each_value_has_its_line_and_what_is_not_written_the_line_of_its_block(creds: Path) -> None:
    found = read_settings('creds.yaml')
    assert found.location('kvs') == 'creds.yaml:3'
    assert found.location('kvs', 'default', 'type') == 'creds.yaml:5'
    assert found.location('kvs', 'cache', 'expiry') == 'creds.yaml:9'
    assert found.location('kvs', 'cache', 'prefix') == 'creds.yaml:7'
    assert found.location('kvs', 'other', 'type') == 'creds.yaml:3'
    assert found.location('nothing') == 'creds.yaml'
    assert read_settings({'kvs': {}}).location('kvs') == 'settings'


def test_keys_written_twice_are_found_with_both_lines(tmp_path: Path) -> None:
    found = read(tmp_path, 'kvs:\n  a: {type: stub}\n  b: {type: stub}\n  a: {type: sqlite}\nkvs: {}\n')
    assert [(problem.id, problem.subject) for problem in found.problems] == [
        ('KVS.E013', 'kvs.a'),
        ('KVS.E013', 'kvs'),
    ]
    assert 'on lines 2 and 4' in found.problems[0].message
    assert 'on lines 1 and 5' in found.problems[1].message


def test_of_a_key_written_twice_the_lines_are_those_of_the_last_one(tmp_path: Path) -> None:
    found = read(tmp_path, 'kvs:\n  a:\n    path: x\n  a:\n    type: stub\n')
    assert found.location('kvs', 'a', 'path').endswith(':4')
    assert found.location('kvs', 'a', 'type').endswith(':5')


def test_what_is_written_twice_in_a_block_of_the_server_is_not_reported(tmp_path: Path) -> None:
    assert read(tmp_path, 'auth: {a: 1, a: 2}\nkvs: {}\n').problems == []


def test_merged_and_aliased_blocks_are_not_duplicates(tmp_path: Path) -> None:
    text = 'base: &base {type: stub, expiry: 5}\nkvs:\n  default: *base\n  other:\n    <<: *base\n    type: redis\n'
    found = read(tmp_path, text)
    assert found.problems == []
    assert found['kvs']['other'] == {'type': 'redis', 'expiry': 5}
    assert found.location('kvs', 'other', 'expiry').endswith(':4')


MISTAKES: dict[str, tuple[str | bytes, str]] = {
    'a bracket left open': ('kvs: [1\nx: 2\n', 'creds.yaml:2'),
    'a tab': ('kvs:\n\tdefault: 1\n', 'creds.yaml:2:1'),
    'an unknown tag': ('kvs: !!python/object:os.system {}\n', 'creds.yaml:1:6'),
    'an unknown alias': ('kvs: *nothing\n', 'creds.yaml:1'),
    'a date that is not one': ('kvs:\n  default: 2026-13-45\n', 'creds.yaml:2:12'),
    'a number that is not one': ('kvs: 0x_\n', 'creds.yaml:1:6'),
    'a list as a key': ('kvs: {[1]: 2}\n', 'creds.yaml:1'),
    'two documents': ('kvs: 1\n---\nkvs: 2\n', 'creds.yaml:2'),
    'a control character': ('kvs: "\0"\n', 'creds.yaml'),
    'an alias of what contains it': ('kvs: &a {default: *a}\n', 'creds.yaml:1  the file has an alias of a value that'),
    'an alias of a list in itself': ('a: 1\nx: &b [[*b]]\n', 'creds.yaml:2'),
    'aliases of aliases': (
        'a0: &a0 [x, x, x, x, x, x, x, x, x]\n'
        + ''.join(f'a{n}: &a{n} [{", ".join([f"*a{n - 1}"] * 9)}]\n' for n in range(1, 30))
        + 'kvs: *a29\n',
        'more than 200,000 values',
    ),
    'aliases in keys': (
        'a0: &a0 {x: 1, y: 2}\n' + ''.join(f'a{n}: &a{n} {{k: *a{n - 1}, l: *a{n - 1}}}\n' for n in range(1, 40)),
        'more than 200,000 values',
    ),
    'too many brackets': ('kvs: ' + '[' * (sys.getrecursionlimit() // 2 + 100), 'nested too deep'),
    'nothing': ('', 'the file is empty'),
    'a comment alone': ('# nothing\n', 'the file is empty'),
    'a list': ('- kvs\n', 'the file is a list'),
    'text': ('kvs\n', 'the file is a str'),
    'another encoding': ('kvs: é\n'.encode('latin-1'), 'not UTF-8'),
}


@pytest.mark.parametrize('name', MISTAKES)
def test_a_file_that_holds_no_settings_is_a_startup_check_that_names_the_location(name: str, tmp_path: Path) -> None:
    text, location = MISTAKES[name]
    with pytest.raises(StartupCheck) as failure:
        read(tmp_path, text)
    assert location in str(failure.value)
    assert len(str(failure.value).splitlines()) == 1
    assert [(problem.id, problem.subject) for problem in failure.value.problems] == [('KVS.E000', 'the file')]


@pytest.mark.parametrize('value', ['!hunter2', '*hunter2', '&hunter2 &hunter2', '!<hunter2> x', '%hunter2', '`hunter2'])
def test_a_password_that_is_not_yaml_is_not_displayed(value: str, tmp_path: Path) -> None:
    with pytest.raises(StartupCheck, match=r'creds\.yaml:2:') as failure:
        read(tmp_path, f'redis_connection:\n  redis_password: {value}\n')
    assert 'hunter2' not in str(failure.value)


def test_a_file_that_cannot_be_read_is_a_startup_check(tmp_path: Path) -> None:
    with pytest.raises(StartupCheck, match=r'none\.yaml  the file does not exist\..*KVS\.E000'):
        read_settings(tmp_path / 'none.yaml')
    with pytest.raises(StartupCheck, match='cannot be read'):
        read_settings(tmp_path)
    with pytest.raises(StartupCheck, match='cannot be read'):
        read_settings(os.fspath(tmp_path / ('long' * 100)))


def test_a_byte_order_mark_is_not_part_of_the_settings(tmp_path: Path) -> None:
    assert read(tmp_path, CREDS.encode('utf-8-sig'))['config'] == {'run_mode': 'dev'}


@pytest.mark.parametrize(
    ('block', 'mode'), [({'run_mode': 'dev'}, 'dev'), ({}, None), (None, None), ('dev', None), ({'run_mode': 1}, None)]
)
def test_the_run_mode_is_what_the_config_block_says(block: Any, mode: str | None) -> None:
    assert run_mode(read_settings({'config': block})) == mode
    assert run_mode(read_settings({})) is None


@pytest.mark.parametrize(
    ('name', 'value', 'text'),
    [
        ('type', 'redsi', "'redsi'"),
        ('expiry', -5, '-5'),
        ('expiry', None, 'null'),
        ('subdirs', True, 'true'),
        ('redis_password', 'hunter2', '(hidden)'),
        ('Redis_PASSWORD', 12345, '(hidden)'),
        ('redis_password', None, 'null'),
        ('redis_ssl_key_passphrase', 'hunter2', '(hidden)'),
        ('api_key', 'hunter2', '(hidden)'),
        ('redis_url', 'redis://me:hunter2@host:1/0', "'redis://(hidden)@host:1/0'"),
        ('redis_url', 'redis://:hun@ter2@host', "'redis://(hidden)@host'"),
        ('redis_url', 'redis://:hun/ter2@host', "'redis://(hidden)@host'"),
        ('redis_url', 'redis://host?password=hunter2', "'redis://host?(hidden)'"),
        ('path', 'redis://me:hunter2@host', "'redis://(hidden)@host'"),
        ('path', {'password': 'hunter2'}, 'a mapping'),
        ('path', ['hunter2'], 'a list'),
        (5, 'x', "'x'"),
    ],
)
def test_a_value_is_displayed_as_it_is_written_and_never_a_secret(name: object, value: object, text: str) -> None:
    assert display_value(name, value) == text


def test_a_long_value_is_cut() -> None:
    assert len(display_value('path', 'x' * 10_000)) < 110


def test_settings_never_print_a_secret() -> None:
    found = read_settings(
        {
            'redis_connection': {'redis_password': 'hunter2', 'redis_url': 'redis://:hunter2@host', 'redis_host': 'me'},
            'auth': {'tokens': ['hunter2', {'x': 'y'}]},
        }
    )
    assert 'hunter2' not in f'{found} {found!r}'
    assert "'redis_host': 'me'" in repr(found)
    assert found['redis_connection']['redis_password'] == 'hunter2'


def test_an_address_without_credentials_stays_as_it_is() -> None:
    assert without_credentials('redis://host:6379/0') == 'redis://host:6379/0'


# The environment


def test_a_value_may_be_taken_from_the_environment(tmp_path: Path) -> None:
    (tmp_path / 'creds.yaml').write_text('kvs: {a: {path: "${HOME}/x-${N}", b: ["${N}"]}}\nauth: {x: "${NONE}"}\n')
    found = read_settings(tmp_path / 'creds.yaml', {'HOME': '/me', 'N': '5'})
    assert found['kvs'] == {'a': {'path': '/me/x-5', 'b': ['5']}}
    assert found['auth'] == {'x': '${NONE}'}
    assert found.problems == []
    assert read_settings({'kvs': {'a': '${N}'}}, {'N': '5'})['kvs'] == {'a': '5'}


@pytest.mark.parametrize(
    ('text', 'value'), [('$${N}', '${N}'), ('a$${b', 'a$${b'), ('${', '${'), ('$N', '$N'), ('{N}', '{N}'), ('$$', '$$')]
)
def test_what_only_looks_like_a_variable_is_text(text: str, value: str) -> None:
    assert read_settings({'kvs': {'a': text}}, {'N': '5'})['kvs']['a'] == value


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('${NONE:-x}', 'x'),
        ('${EMPTY:-x}', 'x'),
        ('${N:-x}', '5'),
        ('${NONE:-}', ''),
        ('a${NONE:-b:-c}d', 'ab:-cd'),
        ('$${NONE:-x}', '${NONE:-x}'),
    ],
)
def test_a_variable_may_have_a_default(text: str, value: str) -> None:
    found = read_settings({'kvs': {'a': text}}, {'N': '5', 'EMPTY': ''})
    assert (found['kvs']['a'], found.problems) == (value, [])


def test_the_default_of_a_variable_becomes_the_number_that_its_option_wants() -> None:
    found = parse({'redis_connection': {'redis_port': '${NONE_SUCH:-6380}'}}).redis_connection
    assert found is not None
    assert found.mapping == {'redis_port': 6380}


@pytest.mark.parametrize('name', ['X-default', 'X:?error', 'X:=y', ' X', '1:-x', ''])
def test_what_is_not_the_name_of_a_variable_has_a_hint_that_says_so(name: str) -> None:
    [problem] = read_settings({'kvs': {'a': f'${{{name}}}'}}, {}).problems
    assert problem.id == 'KVS.E016'
    assert 'is not the name of an environment variable' in problem.message
    assert '${NAME:-text}' in problem.hint


def test_a_mapping_that_contains_itself_is_a_startup_check() -> None:
    kvs: dict[str, Any] = {}
    kvs['default'] = kvs
    with pytest.raises(StartupCheck, match='contains itself'):
        read_settings({'kvs': kvs})


def test_every_variable_that_is_not_set_is_reported_with_its_location(tmp_path: Path) -> None:
    (tmp_path / 'creds.yaml').write_text('kvs:\n  a:\n    path: ${ONE}/${TWO}\n  b: ${}\n')
    found = read_settings(tmp_path / 'creds.yaml', {})
    assert [(problem.location[-2:], problem.subject, problem.message.split("'")[1]) for problem in found.problems] == [
        (':3', 'kvs.a.path', 'ONE'),
        (':3', 'kvs.a.path', 'TWO'),
        (':4', 'kvs.b', ''),
    ]
    assert {problem.id for problem in found.problems} == {'KVS.E016'}


def test_what_came_from_the_environment_is_never_displayed() -> None:
    found = read_settings({'kvs': {'a': {'path': 'x${SECRET}'}}}, {'SECRET': 'hunter2'})
    assert found['kvs']['a']['path'] == 'xhunter2'
    assert 'hunter2' not in repr(found)
    assert display_value('path', found['kvs']['a']['path']) == 'x${SECRET}'
