"""The documentation tells the truth: every example stands in a file that runs here, every link leads somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pytest_aiohttp.plugin import AiohttpClient

from learning_observer_kvs import errors
from learning_observer_kvs.settings import read_settings
from learning_observer_kvs.stores.base import Store

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / 'README.md', *ROOT.glob('docs/**/*.md')])
EXAMPLES = {path: path.read_text() for path in sorted(ROOT.glob('docs/examples/*.*'))}


def pages() -> pytest.MarkDecorator:
    return pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@pages()
def test_every_example_stands_in_a_file_that_runs(page: Path) -> None:
    for language, block in re.findall(r'^```(python|yaml)\n(.*?)^```$', page.read_text(), re.M | re.S):
        assert any(block in text for text in EXAMPLES.values()), f'a {language} example of {page.name}:\n{block}'


@pages()
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r'\]\(([^)#]+)\)', page.read_text()):
        assert '://' in target or (page.parent / target).exists(), target


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


def test_the_five_lines_are_a_server(beside_the_examples: Path) -> None:
    run(
        beside_the_examples,
        '-c',
        'import asyncio, five_lines\nfrom aiohttp.web import AppRunner\nasyncio.run(AppRunner(five_lines.app).setup())',
    )


@pytest.mark.parametrize('name', [path.name for path in EXAMPLES if path.suffix == '.yaml'])
def test_configurations_in_the_documentation_have_no_fault(beside_the_examples: Path, name: str) -> None:
    assert read_settings(beside_the_examples / name)
    assert 'no problems' in run(beside_the_examples, '-m', 'learning_observer_kvs.cli', 'check', name).lower()


def test_every_public_call_and_error_is_in_the_reference() -> None:
    page = (ROOT / 'docs/reference/store.md').read_text()
    calls = [name for name in vars(Store) if not name.startswith('_') and callable(getattr(Store, name))]
    for name in set(calls) - {'encode', 'decode', 'place'}:
        assert f'`{name}(' in page, name
    for name, error in vars(errors).items():
        if isinstance(error, type) and issubclass(error, errors.KVSError):
            assert name in page, name
