"""What is installed is whole: sub-packages, templates, types, the command, the version."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope='session')
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp('wheel')
    subprocess.run(
        [sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '--wheel-dir', str(folder), str(ROOT)],
        check=True,
        timeout=110,
        stderr=subprocess.DEVNULL,
    )
    return zipfile.ZipFile(next(folder.glob('*.whl')))


def test_the_wheel_holds_every_file_of_the_package(wheel: zipfile.ZipFile) -> None:
    files = {
        str(path.relative_to(ROOT))
        for path in (ROOT / 'learning_observer_kvs').rglob('*')
        if path.is_file() and path.suffix != '.pyc' and path.parent.name != 'bin'
    }
    assert files - set(wheel.namelist()) == set()
    assert 'learning_observer_kvs/py.typed' in files


def test_the_wheel_brings_nothing_else(wheel: zipfile.ZipFile) -> None:
    assert {name.split('/')[0].split('-')[0] for name in wheel.namelist()} == {'learning_observer_kvs'}


def test_the_wheel_brings_the_command(wheel: zipfile.ZipFile) -> None:
    [script] = [name for name in wheel.namelist() if name.endswith('.data/scripts/lo-kvs')]
    first, _, rest = wheel.read(script).decode().partition('\n')
    assert re.match('#!.*python', first)
    assert rest == (ROOT / 'learning_observer_kvs/cli/bin/lo-kvs').read_text().partition('\n')[2]


def test_the_command_prints_its_version() -> None:
    from learning_observer_kvs import __version__

    said = subprocess.run(
        [sys.executable, '-m', 'learning_observer_kvs.cli', '--version'], capture_output=True, text=True, check=True
    )
    assert __version__ in said.stdout


IMPORTED = """
import aiohttp.web, redis.asyncio, sys
before = set(sys.modules)
import learning_observer_kvs
tops = {name.partition('.')[0] for name in set(sys.modules) - before}
print(*sorted(top for top in tops - sys.stdlib_module_names if not top.startswith('_')))
"""


def test_importing_the_package_brings_what_every_deployment_uses_and_no_more() -> None:
    said = subprocess.run([sys.executable, '-W', 'error', '-c', IMPORTED], capture_output=True, text=True, check=True)
    assert said.stdout.split() == [
        'learning_observer_kvs',
        'msgspec',
        'orjson',
        'ormsgpack',
        'sortedcontainers',
        'yaml',
    ]


def test_serving_no_debug_pages_brings_no_templates() -> None:
    script = """
import asyncio, sys
from aiohttp import web
import learning_observer_kvs
app = web.Application()
learning_observer_kvs.setup(app, {'kvs': {'default': {'type': 'stub'}}, 'config': {'run_mode': 'deploy'}})
async def start():
    runner = web.AppRunner(app)
    await runner.setup()
    await runner.cleanup()
asyncio.run(start())
print('jinja2' in sys.modules, 'click' in sys.modules, 'rich' in sys.modules)
"""
    said = subprocess.run([sys.executable, '-W', 'error', '-c', script], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ['False', 'False', 'False']


def test_the_workflow_runs_on_every_python_that_the_classifiers_name() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / 'setup.cfg')
    named = re.findall(r'Python :: (3\.\d+)', config['metadata']['classifiers'])
    workflow = yaml.safe_load((ROOT / '.github' / 'workflows' / 'tests.yml').read_text())
    assert named
    assert set(named) <= set(workflow['jobs']['tests']['strategy']['matrix']['python'])
    assert config['options']['python_requires'] == f'>={named[0]}'


def test_pmss_is_not_imported_until_a_file_of_it_is_read(tmp_path: Path) -> None:
    (tmp_path / 'creds.yaml').write_text('kvs: {default: {type: stub}}\n')
    (tmp_path / 'local.pmss').write_text('kvs default { type: stub; }\n')
    program = (
        'import sys, learning_observer_kvs\n'
        'from learning_observer_kvs.settings import read_settings\n'
        'read_settings("creds.yaml")\n'
        'assert "pmss" not in sys.modules and "pkg_resources" not in sys.modules\n'
        'read_settings("local.pmss")\n'
        'assert "pmss" in sys.modules\n'
    )
    done = subprocess.run(
        [sys.executable, '-W', 'error', '-c', program],
        cwd=tmp_path,
        env={'PYTHONPATH': str(ROOT)},
        capture_output=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == (b'', b'')
