"""The documentation tells the truth: every example stands in a file that runs here, every link leads somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from pytest_aiohttp.plugin import AiohttpClient

from learning_observer_kvs import errors
from learning_observer_kvs.checks import blocks
from learning_observer_kvs.config.options import Kind, Option
from learning_observer_kvs.config.redaction import display_value
from learning_observer_kvs.config.rows import DEBUG_OPTIONS
from learning_observer_kvs.config.source import BLOCKS
from learning_observer_kvs.kvs import KVS_MAP
from learning_observer_kvs.problems import CATALOGUE
from learning_observer_kvs.settings import read_settings
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.redis import options as redis_options

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([ROOT / 'README.md', *ROOT.glob('docs/**/*.md')])
EXAMPLES = {path: path.read_text() for path in sorted(ROOT.glob('docs/examples/*.*'))}


def pages() -> pytest.MarkDecorator:
    return pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@pages()
def test_every_example_stands_in_a_file_that_runs(page: Path) -> None:
    for language, block in re.findall(r'^```(python|yaml|css)\n(.*?)^```$', page.read_text(), re.M | re.S):
        assert any(block in text for text in EXAMPLES.values()), f'a {language} example of {page.name}:\n{block}'


@pages()
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r'\]\(([^)]+)\)', page.read_text()):
        if '://' in target:
            continue
        file, _, anchor = target.partition('#')
        there = page.parent / file if file else page
        assert there.exists(), target
        headings = re.findall(r'^#+ (.+)$', there.read_text(), re.M) if anchor else []
        anchors = [re.sub(r'[^\w -]', '', heading).lower().replace(' ', '-') for heading in headings]
        assert not anchor or anchor in anchors, target


def sections(page: str, level: str) -> dict[str, str]:
    """The text below each heading of a level or a higher one, up to the next such heading."""
    parts = re.split(rf'^#{{1,{len(level)}}} (.+)$', (ROOT / page).read_text(), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def rows(section: str) -> list[list[str]]:
    """The rows of the tables of a section that begin with a word of code."""
    return [re.split(r' +\| +', line.strip('| ')) for line in section.splitlines() if line.startswith('| `')]


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
    ('block', 'options'), [('redis_connection', redis_options.OPTIONS), ('kvs_debug', DEBUG_OPTIONS)]
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


def test_every_id_of_a_problem_has_its_cause_and_cure_in_the_reference_and_no_other() -> None:
    page = sections('docs/reference/checks.md', '###')
    assert [heading for heading in page if heading.startswith('KVS.')] == sorted(CATALOGUE)
    for heading, text in page.items():
        if heading.startswith('KVS.'):
            assert len(text.strip().split('\n\n')) == 2, heading


@pytest.fixture
def beside_the_examples(tmp_path: Path) -> Path:
    for path, text in EXAMPLES.items():
        (tmp_path / path.name).write_text(text)
    return tmp_path


def run(folder: Path, *command: str) -> str:
    return subprocess.run(
        [sys.executable, '-W', 'error', *command],
        cwd=folder,
        env=os.environ | {'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout


def test_the_tutorial_prints_what_it_says(beside_the_examples: Path) -> None:
    said = re.findall(r'^External,.*$', (ROOT / 'docs/tutorials/first-reducer.md').read_text(), re.M)
    assert run(beside_the_examples, 'feeding.py').splitlines() == said
    assert "{'keys typed': 4}" in run(beside_the_examples, 'feeding.py')


def test_the_calls_of_the_store_page_hold(beside_the_examples: Path) -> None:
    run(beside_the_examples, 'store_calls.py')


def test_the_overlay_of_the_configuration_page_overrides(beside_the_examples: Path) -> None:
    (beside_the_examples / 'creds.yaml').write_text(EXAMPLES[ROOT / 'docs/examples/files_and_redis.yaml'])
    shown = run(beside_the_examples, '-c', 'import overlay; print(overlay.settings.settings)')
    assert "'expiry': '60'" in shown
    assert "'redis_host': 'redis.example'" in shown


async def test_the_tutorials_server_counts_keys(
    beside_the_examples: Path, aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(beside_the_examples)
    monkeypatch.syspath_prepend(beside_the_examples)
    import own_app  # type: ignore[import-not-found]

    client = await aiohttp_client(own_app.app)
    async with client.ws_connect('/events/ls-17') as socket:
        for _ in range(3):
            await socket.send_json({'event': 'keystroke'})
    assert await (await client.get('/dashboard/ls-17')).json() == {'keys typed': 3}


def test_a_server_can_calm_the_collector(beside_the_examples: Path) -> None:
    start = 'import asyncio, calm\nfrom aiohttp.web import AppRunner\nasyncio.run(AppRunner(calm.app).setup())\n'
    assert run(beside_the_examples, '-c', start + 'print(calm.gc.get_threshold())') == '(20000, 20, 50)\n'


def test_the_five_lines_are_a_server(beside_the_examples: Path) -> None:
    run(
        beside_the_examples,
        '-c',
        'import asyncio, five_lines\nfrom aiohttp.web import AppRunner\nasyncio.run(AppRunner(five_lines.app).setup())',
    )


@pytest.mark.parametrize('name', [path.name for path in EXAMPLES if path.suffix == '.yaml'])
def test_configurations_in_the_documentation_have_no_fault(
    beside_the_examples: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('REDIS_PASSWORD', 'hunter2')
    assert read_settings(beside_the_examples / name)
    assert 'no problems' in run(beside_the_examples, '-m', 'learning_observer_kvs.cli', 'check', name).lower()


def test_every_public_call_and_error_is_in_the_reference() -> None:
    page = (ROOT / 'docs/reference/store.md').read_text()
    calls = [name for name in vars(Store) if not name.startswith('_') and callable(getattr(Store, name))]
    for name in set(calls) - {'encode', 'decode', 'location'}:
        assert f'`{name}(' in page, name
    for name, error in vars(errors).items():
        if isinstance(error, type) and issubclass(error, errors.KVSError):
            assert name in page, name
