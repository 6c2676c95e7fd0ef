"""Settings from several files, and from PMSS."""

from __future__ import annotations

import importlib
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs.errors import StartupCheck
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.settings import Settings, load_settings, read_settings
from tests.support.checks import check, parse

CREDS = """\
config:
  run_mode: dev
kvs:
  default:
    type: sqlite
    path: state.sqlite3
  cache:
    type: redis_ephemeral
    expiry: 30
    prefix: 'c:'
redis_connection:
  redis_password: hunter2
auth:
  password: hunter2
"""

OVERLAY = """\
/* The options of
   this machine */
kvs cache { expiry: 60; }        // seconds
kvs {
  default { path: other.sqlite3; }
  extra { type: filesystem; path: files; subdirs: true; }
}
redis_connection {
  redis_port: 6380;
  redis_password: None;
}
config { run_mode: deploy; }
auth { password: hunter3; }
kvs cache.some_class { expiry: 1; }
* { expiry: 2; }
kvs too deep { expiry: 3; }
"""


def package(name: str = 'pmss') -> Any:
    """The package ``pmss``, or a module of it; what it imports warns of its own end."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return importlib.import_module(name)


@pytest.fixture(autouse=True, scope='module')
def _tables_of_the_parser() -> None:
    """When the package is imported for the first time after its installation, it makes them, and prints."""
    package('pmss.loadfile')


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path('creds.yaml').write_text(CREDS)
    Path('local.pmss').write_text(OVERLAY)


def hidden(settings: Settings) -> list[tuple[str, str]]:
    return [(problem.location, problem.subject) for problem in settings.problems if problem.id == 'KVS.W006']


def test_a_file_before_creds_overrides_value_by_value(capfd: pytest.CaptureFixture[str]) -> None:
    found = read_settings(['local.pmss', 'creds.yaml'])
    assert check(found) == found.problems
    assert {row.name: row.options for row in parse(found).stores} == {
        'cache': {'expiry': 60, 'type': 'redis_ephemeral', 'prefix': 'c:'},
        'default': {'path': 'other.sqlite3', 'type': 'sqlite'},
        'extra': {'type': 'filesystem', 'path': 'files', 'subdirs': True},
    }
    redis = parse(found).redis_connection
    assert redis is not None
    assert redis.options == {'redis_port': 6380, 'redis_password': None}
    assert found['config'] == {'run_mode': 'deploy'}
    assert found['auth'] == {'password': 'hunter2'}
    assert capfd.readouterr() == ('', '')


def test_each_hidden_value_is_a_warning_that_does_not_print_it() -> None:
    found = read_settings(['local.pmss', 'creds.yaml'])
    assert hidden(found) == [
        ('creds.yaml:2', 'config.run_mode'),
        ('creds.yaml:6', 'kvs.default.path'),
        ('creds.yaml:9', 'kvs.cache.expiry'),
        ('creds.yaml:12', 'redis_connection.redis_password'),
    ]
    text = '\n'.join(map(str, found.problems))
    assert 'is not used, because local.pmss:3 comes first' in text
    assert 'hunter2' not in text


def test_an_overlay_after_creds_overrides_nothing_and_each_of_its_values_is_a_warning() -> None:
    found = read_settings(['creds.yaml', 'local.pmss'])
    assert found['kvs']['cache']['expiry'] == 30
    assert ('local.pmss:3', 'kvs.cache.expiry') in hidden(found)


def test_values_of_an_overlay_have_their_lines() -> None:
    found = read_settings('local.pmss')
    assert found.location('kvs', 'cache', 'expiry') == 'local.pmss:3'
    assert found.location('kvs', 'default', 'path') == 'local.pmss:5'
    assert found.location('kvs', 'extra', 'subdirs') == 'local.pmss:6'
    assert found.location('redis_connection', 'redis_port') == 'local.pmss:9'
    assert found.location('kvs', 'extra', 'other') == 'local.pmss'


def test_blocks_that_only_an_overlay_has_are_located_in_it() -> None:
    with Path('local.pmss').open('a') as file:
        file.write('kvs_debug { enabled: true; }\n')
    found = read_settings(['creds.yaml', 'local.pmss'])
    assert found.location('kvs_debug') == 'local.pmss'
    assert found.location('kvs', 'extra') == 'local.pmss'
    assert found.location('kvs') == 'creds.yaml:3'


def test_text_that_its_option_rejects_is_reported_with_the_line_of_the_overlay() -> None:
    Path('local.pmss').write_text('kvs cache {\n  expiry: soon;\n}\nredis_connection { redis_port: 0; }\n')
    found = check(read_settings(['local.pmss', 'creds.yaml']))
    assert [str(problem) for problem in found if problem.id != 'KVS.W006'] == [
        "local.pmss:2  kvs.cache.expiry is 'soon'. Write a positive number of seconds.  [KVS.E009]",
        'local.pmss:4  redis_connection.redis_port is 0. Write a whole number from 1 to 65535.  [KVS.E014]',
    ]


def test_an_array_of_pairs_and_an_overlay_go_together() -> None:
    Path('creds.yaml').write_text('kvs:\n  - [default, {type: stub}]\n  - - cache\n    - type: stub\n      expiry: 5\n')
    found = read_settings(['local.pmss', 'creds.yaml'])
    assert found['kvs']['default'] == {'path': 'other.sqlite3', 'type': 'stub'}
    assert found.location('kvs', 'cache', 'type') == 'creds.yaml:4'
    assert hidden(found) == [('creds.yaml:5', 'kvs.cache.expiry')]


def test_several_yaml_files_and_mappings_go_together() -> None:
    Path('first.yaml').write_text('kvs:\n  cache:\n    expiry: 5\n')
    found = read_settings([{'kvs': {'own': {'type': 'stub'}}}, Path('first.yaml'), 'creds.yaml'])
    assert check(found) == found.problems
    assert found['kvs']['cache']['expiry'] == 5
    assert list(found['kvs']) == ['own', 'cache', 'default']
    assert hidden(found) == [('creds.yaml:9', 'kvs.cache.expiry')]


def test_the_problems_of_each_of_several_files_are_reported() -> None:
    Path('first.yaml').write_text('kvs:\n  a: {type: stub}\n  a: {type: stub}\n')
    found = read_settings(['first.yaml', 'creds.yaml'])
    assert [(problem.id, problem.location) for problem in found.problems] == [('KVS.E013', 'first.yaml:3')]
    assert found.source == 'first.yaml, creds.yaml'


def test_what_a_mapping_overrides_is_located_in_the_settings_of_the_program() -> None:
    found = read_settings([{'kvs': {'own': {'type': 'stub'}, 'cache': {'expiry': 5}}}, 'creds.yaml'])
    assert found.location('kvs', 'own', 'type') == found.location('kvs', 'cache', 'expiry') == 'settings'
    assert found.location('kvs', 'cache', 'prefix') == 'creds.yaml:10'
    [problem] = found.problems
    assert 'because settings comes first' in problem.message


@pytest.mark.parametrize(
    ('pairs', 'wanted'),
    [
        ([['default', {'type': 'stub'}], ['a']], 'KVS.E002'),
        ([['default', {'type': 'stub'}], 'ab'], 'KVS.E002'),
        ([['default', {'type': 'stub'}], [5, {'type': 'stub'}]], 'KVS.E002'),
        ([['default', {'type': 'stub'}], [['x'], {'type': 'stub'}]], 'KVS.E002'),
        ([['default', {'type': 'stub'}], ['default', {'type': 'stub'}]], 'KVS.E011'),
    ],
)
def test_an_array_with_a_wrong_pair_is_reported_and_merged_with_nothing(pairs: Any, wanted: str) -> None:
    found = read_settings([{'kvs': pairs}, {'config': {}}])
    assert found['kvs'] == pairs
    assert [problem.id for problem in check(found)] == [wanted]


def test_a_mapping_and_another_value_are_not_merged_the_first_wins() -> None:
    for first, second in ((None, {'type': 'stub'}), ({'type': 'stub'}, None), ({'type': 'stub'}, ['x']), ('x', {})):
        found = read_settings([{'kvs': {'a': first}}, {'kvs': {'a': second}}])
        assert found['kvs'] == {'a': first}
        assert hidden(found) == [('settings', 'kvs.a')]


def test_of_the_blocks_of_the_server_only_hidden_values_of_config_are_reported() -> None:
    found = read_settings([{'auth': {'a': 1}, 'config': {'a': 1}}, {'auth': {'a': 2, 'b': 3}, 'config': {'a': 2}}])
    assert found == {'auth': {'a': 1, 'b': 3}, 'config': {'a': 1}}
    assert hidden(found) == [('settings', 'config.a')]


def test_arrays_of_other_blocks_keep_their_locations_beside_an_array_of_pairs() -> None:
    Path('creds.yaml').write_text(
        'kvs:\n  - [default, {type: stub}]\nauth:\n  - - a\n    - b\nconfig:\n  x:\n    - 1\n    - 2\n'
    )
    found = read_settings(['creds.yaml', {}])
    assert found.location('auth', 0, 1) == 'creds.yaml:5'
    assert found.location('config', 'x', 1) == 'creds.yaml:9'


def test_no_source_at_all_gives_empty_settings() -> None:
    found = read_settings([])
    assert (found, found.source, found.problems) == ({}, None, [])


def test_an_overlay_of_one_of_two_stores_that_share_a_yaml_alias_changes_that_one_alone() -> None:
    Path('creds.yaml').write_text('base: &base {type: stub}\nkvs:\n  default: *base\n  cache: *base\n')
    found = read_settings(['creds.yaml', {'kvs': {'cache': {'cache_bytes': 0}}}])
    assert found['kvs'] == {'default': {'type': 'stub'}, 'cache': {'type': 'stub', 'cache_bytes': 0}}


def test_a_value_of_an_overlay_may_come_from_the_environment() -> None:
    Path('local.pmss').write_text('kvs cache { expiry: ${SECONDS}; }')
    found = read_settings(['local.pmss', 'creds.yaml'], {'SECONDS': '90'})
    assert parse(found).stores_by_name['cache'].options['expiry'] == 90


def test_a_router_and_the_programs_settings_take_several_files() -> None:
    assert KVSRouter.from_settings(['local.pmss', 'creds.yaml']).names() == ['cache', 'default', 'extra']
    assert load_settings(('local.pmss', 'creds.yaml'))['config']['run_mode'] == 'deploy'


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('kvs cache { expiry: hunter2 }', 'local.pmss  the file is not PMSS. Look for a ; after every value'),
        ('kvs cache { expiry: hunter2;', 'is not PMSS'),
        ('kvs cache expiry: hunter2; }', 'is not PMSS'),
        ('kvs a-cache { expiry: hunter2; }', 'is not PMSS'),
        ('expiry: hunter2;', 'is not PMSS'),
        ('kvs cache { expiry: hunter2; } }', 'is not PMSS'),
        ('kvs cache { prefix: "hunter2; } }"; expiry: 5; }', 'is not PMSS'),
        ('\nredis_connection { redis_url: redis://:hunter2@host; }', 'local.pmss:2  the file has a URL'),
    ],
)
def test_a_file_that_is_not_pmss_is_reported_without_its_content(
    text: str, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    Path('local.pmss').write_text(text)
    with pytest.raises(StartupCheck) as failure:
        read_settings(['local.pmss', 'creds.yaml'])
    assert message in str(failure.value)
    assert 'hunter2' not in str(failure.value)
    assert capfd.readouterr() == ('', '')
    Path('local.pmss').write_text(OVERLAY)
    assert read_settings('local.pmss')['kvs']['extra']['path'] == 'files'


def test_comments_may_hold_a_url_and_a_file_may_be_empty() -> None:
    Path('local.pmss').write_text('/* see https://example.org */ // or http://example.org\n')
    assert read_settings('local.pmss') == {}
    with pytest.raises(StartupCheck, match=r'none\.pmss  the file does not exist'):
        read_settings('none.pmss')


def test_without_the_package_the_hint_is_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'pmss.loadfile', None)
    with pytest.raises(StartupCheck, match=r"needs the package pmss.*pip install 'learning_observer_kvs\[pmss\]'"):
        read_settings('local.pmss')


# The settings object of a program


def pmss_settings(*files: str) -> Any:
    pmss = package()
    kinds = {'.pmss': pmss.PMSSFileRuleset, '.yaml': pmss.YAMLFileRuleset, '.yml': pmss.YAMLFileRuleset}
    return pmss.Settings(rulesets=[kinds[Path(file).suffix](filename=file) for file in files])


@pytest.mark.parametrize('files', [('local.pmss', 'creds.yaml'), ('creds.yaml', 'local.pmss'), ('local.pmss',)])
def test_a_settings_object_gives_what_its_files_give(files: tuple[str, ...]) -> None:
    found, wanted = read_settings(pmss_settings(*files)), read_settings(files)
    assert found == wanted
    assert [problem.subject for problem in check(found)] == [problem.subject for problem in check(wanted)]
    if 'creds.yaml' in files:
        assert found.location('kvs', 'default', 'type') == 'creds.yaml:5'
    assert found.location('kvs', 'extra', 'path') == 'local.pmss'


def test_a_settings_object_may_have_read_a_yml_file() -> None:
    Path('creds.yaml').rename('creds.yml')
    assert read_settings(pmss_settings('creds.yml')).location('kvs', 'default', 'type') == 'creds.yml:5'


def test_rules_that_a_settings_object_has_from_no_file_are_located_in_pmss() -> None:
    rules = pmss_settings('local.pmss')
    rules.ruleset.rulesets[0].filename = None
    assert read_settings(rules).location('kvs', 'extra', 'path') == 'PMSS'


def test_a_settings_object_stands_beside_a_file() -> None:
    found = read_settings([pmss_settings('local.pmss'), 'creds.yaml'])
    assert found == read_settings(['local.pmss', 'creds.yaml'])


def test_rules_of_the_command_line_and_the_environment_are_ignored() -> None:
    pmss = package()
    rulesets = [
        pmss.ArgsRuleset(argv=['program']),
        pmss.SimpleEnvsRuleset(env={'expiry': '5'}),
        pmss.PMSSFileRuleset(filename='local.pmss'),
    ]
    fields = list(pmss.schema.fields)
    assert read_settings(pmss.Settings(rulesets=rulesets)) == read_settings('local.pmss')
    assert list(pmss.schema.fields) == fields


def test_anything_else_is_not_settings() -> None:
    with pytest.raises(TypeError, match='int'):
        read_settings(5)  # type: ignore[arg-type]


def test_a_value_in_quotes_is_a_warning_that_does_not_print_it() -> None:
    Path('local.pmss').write_text(
        'kvs default { path: "x.sqlite3"; }\nredis_connection { redis_password: \'hunter2\'; redis_host: ha"h; }\n'
    )
    found = read_settings(['local.pmss', 'creds.yaml']).problems
    quoted = [problem for problem in found if problem.id == 'KVS.W021']
    assert [(problem.location, problem.subject) for problem in quoted] == [
        ('local.pmss:1', 'kvs.default.path'),
        ('local.pmss:2', 'redis_connection.redis_password'),
    ]
    assert 'hunter2' not in str(quoted)
