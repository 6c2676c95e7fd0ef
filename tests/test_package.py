"""What is installed is whole: sub-packages, templates, types, the command, the version."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


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
        if path.is_file() and path.suffix != '.pyc'
    }
    assert files - set(wheel.namelist()) == set()
    assert 'learning_observer_kvs/py.typed' in files


def test_the_wheel_brings_nothing_else(wheel: zipfile.ZipFile) -> None:
    assert {name.split('/')[0].split('-')[0] for name in wheel.namelist()} == {'learning_observer_kvs'}


def test_the_wheel_brings_the_command(wheel: zipfile.ZipFile) -> None:
    [entry_points] = [name for name in wheel.namelist() if name.endswith('entry_points.txt')]
    assert 'lo-kvs = learning_observer_kvs.cli.main:main' in wheel.read(entry_points).decode()


def test_the_command_tells_its_version() -> None:
    from learning_observer_kvs import __version__

    said = subprocess.run(
        [sys.executable, '-m', 'learning_observer_kvs.cli', '--version'], capture_output=True, text=True, check=True
    )
    assert __version__ in said.stdout
