"""The reference describes what there is: every option, call, name, route, command, error and problem, and no other."""

from __future__ import annotations

import importlib
import inspect
import re
from typing import get_args

import pytest
from aiohttp import web

import learning_observer_kvs
from learning_observer_kvs import cli, debug, errors, kvs, prestartup, prometheus, queries, redis_connection, testing
from learning_observer_kvs.checks import blocks
from learning_observer_kvs.cli.main import COMMANDS
from learning_observer_kvs.config.options import Kind, Option
from learning_observer_kvs.config.redaction import display_value
from learning_observer_kvs.config.rows import DEBUG_OPTIONS, PRIVACY_OPTIONS, RETENTION_OPTIONS
from learning_observer_kvs.config.source import BLOCKS
from learning_observer_kvs.debug.parameters import MAX_LIMIT
from learning_observer_kvs.kvs import KVS_MAP, KVSRouter, reserved_names
from learning_observer_kvs.problems import CATALOGUE
from learning_observer_kvs.queries.changes import StateChange, StateChanges
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.changes import Change, Changes
from learning_observer_kvs.stores.redis import options as redis_options
from learning_observer_kvs.stream_analytics import fields, helpers
from learning_observer_kvs.testing import fixtures
from tests.project.documentation import ROOT, rows, sections


def text_of(page: str) -> str:
    return (ROOT / 'docs/reference' / f'{page}.md').read_text()


def first_words(page: str) -> set[str]:
    """The names of the first column of the tables of a page, without their arguments."""
    found = [name for row in rows(text_of(page)) for name in re.findall(r'`([^`]+)`', row[0])]
    return {re.split(r'[(\[]', name.removeprefix('await '))[0] for name in found}


# Configuration


def row(option: Option) -> list[str]:
    default = 'required' if option.required else f'`{display_value(option.name, option.default)}`'
    return [f'`{option.name}`', option.kind, default]


@pytest.mark.parametrize('type', KVS_MAP)
def test_every_option_of_a_type_is_in_the_reference_as_it_is(type: str) -> None:
    page = sections('docs/reference/configuration.md', '###')
    assert {heading for heading in page if heading.startswith('`type')} == {f'`type: {word}`' for word in KVS_MAP}
    elsewhere = {*Store.COMMON, *redis_options.OPTIONS}  # in sections of their own
    wanted = [[*row(option), option.doc] for option in KVS_MAP[type].OPTIONS if option not in elsewhere]
    assert rows(page[f'`type: {type}`']) == wanted


def test_every_option_of_all_types_is_in_the_reference_as_it_is() -> None:
    documented = rows(sections('docs/reference/configuration.md', '###')['Every type'])
    assert documented == [[*row(option), option.doc] for option in Store.COMMON]


@pytest.mark.parametrize(
    ('block', 'options'),
    [
        ('redis_connection', redis_options.OPTIONS),
        ('kvs_debug', DEBUG_OPTIONS),
        ('privacy', PRIVACY_OPTIONS),
        ('retention', RETENTION_OPTIONS),
    ],
)
def test_every_setting_of_a_block_is_in_the_reference_as_it_is(block: str, options: tuple[Option, ...]) -> None:
    documented = rows(sections('docs/reference/configuration.md', '##')[f'`{block}`'])
    assert [found[:3] for found in documented] == [row(option) for option in options]
    assert all(found[3] == option.doc or not option.doc for found, option in zip(documented, options, strict=True))


def test_every_kind_of_value_and_every_choice_is_in_the_reference() -> None:
    text = sections('docs/reference/configuration.md', '##')['Kinds of values']
    assert re.findall(r'^\| ([a-z ]+) \|', text, re.M)[1:] == list(get_args(Kind))
    for cls in KVS_MAP.values():
        for option in cls.OPTIONS:
            if option.kind == 'choice':
                assert f'`{option.name}` is {" or ".join(f"`{word}`" for word in option.choices)}' in text


def test_every_block_and_run_mode_is_in_the_reference() -> None:
    page = sections('docs/reference/configuration.md', '##')
    assert {heading for heading in page if heading.startswith('`')} == {f'`{b}`' for b in (*BLOCKS, 'config')}
    assert all(f'`{mode}`' in page['`config`'] for mode in blocks.RUN_MODES)


def test_every_id_of_a_problem_has_its_cause_and_its_remedy_in_the_reference_and_no_other() -> None:
    page = sections('docs/reference/checks.md', '###')
    assert [heading for heading in page if heading.startswith('KVS.')] == sorted(CATALOGUE)
    for heading, text in page.items():
        if heading.startswith('KVS.'):
            assert len(text.strip().split('\n\n')) == 2, heading


# Programs


def test_every_call_of_a_store_is_in_the_reference_and_no_other() -> None:
    calls = {name for name in dir(Store) if not name.startswith('_') and callable(getattr(Store, name))}
    assert first_words('store') == {*calls, 'store'}


def test_everything_of_changes_is_in_the_reference() -> None:
    calls = {name for name in dir(Changes) if not name.startswith('_')}
    assert calls == {name for name in dir(StateChanges) if not name.startswith('_')}
    parts = {name for name in dir(Change) if not name.startswith('_')}
    assert calls | parts <= first_words('changes')
    described = next(row for row in rows(text_of('queries')) if row[0] == '`StateChange`')[-1]
    of_states = {name for name in dir(StateChange) if not name.startswith('_')}
    assert of_states <= set(re.findall(r'`(?:await )?(\w+)', described))


def test_every_call_of_the_router_is_in_the_reference_and_no_other() -> None:
    calls = {'KVSRouter', 'KVSRouter.from_settings', 'router', 'router.<name>', *reserved_names()} - {'from_settings'}
    assert first_words('router') == {*calls, *kvs.__all__}
    assert all(hasattr(KVSRouter, name) for name in reserved_names())


def test_every_call_of_the_queries_is_in_the_reference_as_it_is_and_no_other() -> None:
    assert first_words('queries') == set(queries.__all__)
    described = {found[0].strip('`').removeprefix('await ') for found in rows(text_of('queries'))}
    for name in queries.__all__:
        call = getattr(queries, name)
        if inspect.isfunction(call):
            parameters = inspect.signature(call).parameters.values()
            shown = [plain_parameter(parameter) for parameter in parameters]
            if stars := [p.kind for p in parameters].count(inspect.Parameter.KEYWORD_ONLY):
                shown.insert(len(shown) - stars, '*')
            assert f'{name}({", ".join(shown)})' in described


def plain_parameter(parameter: inspect.Parameter) -> str:
    """A parameter as pages show it: without its type; a default that is a function is dots."""
    name = f'**{parameter.name}' if parameter.kind is inspect.Parameter.VAR_KEYWORD else parameter.name
    if parameter.default is inspect.Parameter.empty:
        return name
    return f'{name}={"…" if callable(parameter.default) else repr(parameter.default)}'


def test_every_name_of_the_package_is_in_the_reference() -> None:
    names = set(learning_observer_kvs.__all__)
    named = set(re.findall(r'`(\w+)', text_of('plugin') + text_of('errors')))
    assert names - named == set()


def test_every_application_key_is_in_the_reference_and_no_other() -> None:
    keys = {name for name in learning_observer_kvs.__all__ if name.endswith('_KEY')}
    section = sections('docs/reference/plugin.md', '##')['Application keys']
    assert {found[0].strip('`') for found in rows(section)} == {*keys, "'kvs'"}


def test_every_decorator_field_and_key_function_is_in_the_reference() -> None:
    page = text_of('decorators')
    for name in {*helpers.__all__, 'KeyField', 'EventField', 'Scope', 'KeyStateType'}:
        assert re.search(rf'`{name}\b', page), name
    assert all(f'`{field.name}`' in page for field in fields.KeyField)
    assert all(f'`{state_type.name}`' in page for state_type in fields.KeyStateType)


@pytest.mark.parametrize(
    ('page', 'module'),
    [('settings', 'settings'), ('prestartup', 'prestartup'), ('redis-connection', 'redis_connection')],
)
def test_every_name_of_a_module_is_in_the_reference(page: str, module: str) -> None:
    names = importlib.import_module(f'learning_observer_kvs.{module}').__all__
    for name in names:
        assert re.search(rf'`(await )?{name}\b', text_of(page)), name


@pytest.mark.parametrize(('page', 'module'), [('prestartup', prestartup), ('redis-connection', redis_connection)])
def test_the_reference_names_no_call_that_is_not_there(page: str, module: object) -> None:
    assert [name for name in first_words(page) if not hasattr(module, name)] == []


def test_every_registered_check_is_in_the_reference() -> None:
    for check in prestartup.STARTUP_CHECKS:
        assert f'`{check.__module__}.{check.__qualname__}`' in text_of('prestartup')


def test_every_public_name_for_tests_is_in_the_reference() -> None:
    page = text_of('testing')
    assert all(f'`{name}`' in page for name in testing.__all__)
    methods = {name for name in dir(testing.StoreContract) if not name.startswith(('_', 'test_', 'pytestmark'))}
    assert first_words('testing') == methods


def test_every_fixture_is_in_the_how_to_and_no_other() -> None:
    names = {name for name, value in vars(fixtures).items() if type(value) is type(fixtures.kvs_app)}
    page = (ROOT / 'docs/how-to/test-your-application.md').read_text()
    assert {found[0].strip('`') for found in rows(page)} == names


def test_every_number_of_the_metrics_is_in_the_reference_as_prometheus_has_it() -> None:
    described = [
        (found[0].strip('`'), found[1]) for found in rows(sections('docs/reference/metrics.md', '##')['The numbers'])
    ]
    of_reducers = {*prometheus.COUNTERS, *prometheus.GAUGES}
    of_stores = {*prometheus.STORE_COUNTERS, *prometheus.STORE_GAUGES}
    assert {name for name, of in described if of == 'each reducer'} == of_reducers
    assert {name for name, of in described if of == 'the store'} == of_stores


def test_every_error_is_in_the_reference_and_no_other() -> None:
    classes = {name for name, error in vars(errors).items() if isinstance(error, type) and issubclass(error, Exception)}
    assert first_words('errors') == classes - {'KVSError'}


# The pages and the command


def test_every_route_is_in_the_reference_and_no_other() -> None:
    app = web.Application()
    debug.Pages(app, KVSRouter())
    section = sections('docs/reference/debug.md', '##')['Routes']
    assert {found[0].strip('`') for found in rows(section)} == {
        resource.canonical for resource in app.router.resources()
    }
    assert f'1 to {MAX_LIMIT}' in section


def test_every_command_and_every_option_of_one_is_in_the_reference() -> None:
    page = text_of('command-line')
    described = {found[0].strip('`').split()[1]: found[0] for found in rows(page) if found[0].startswith('`lo-kvs')}
    assert sorted(described) == sorted(COMMANDS)
    for name in COMMANDS:
        command = importlib.import_module(f'{cli.__name__}.{name.replace("-", "_")}').command
        for parameter in command.params:
            for option in parameter.opts:
                if option.startswith('--'):
                    assert f'{option} ' in page or f'{option}`' in page or f'{option}]' in page, (name, option)
