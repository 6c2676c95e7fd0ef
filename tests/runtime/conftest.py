"""A Redis server, and this package as an installed distribution."""

from __future__ import annotations

import configparser
from collections.abc import Iterator
from pathlib import Path

import pytest

from learning_observer_kvs import __version__
from tests.support.forks import Forks
from tests.support.redis_fixtures import redis, redis_server
from tests.support.runtime_host import NEEDS, Host

__all__ = ['redis', 'redis_server']

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope='session')
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the path that holds this package with the entry points and requirements it is installed with."""
    folder = tmp_path_factory.mktemp('installed')
    (folder / 'learning_observer_kvs').symlink_to(ROOT / 'learning_observer_kvs')
    config = configparser.ConfigParser()
    config.read(ROOT / 'setup.cfg')
    needs = [f'Requires-Dist: {line}' for line in config['options']['install_requires'].split('\n') if line]
    info = folder / f'learning_observer_kvs-{__version__}.dist-info'
    info.mkdir()
    head = ['Metadata-Version: 2.1', 'Name: learning_observer_kvs', f'Version: {__version__}']
    (info / 'METADATA').write_text('\n'.join([*head, *needs, '']))
    points = config['options.entry_points']
    (info / 'entry_points.txt').write_text('\n'.join(f'[{group}]{lines}\n' for group, lines in points.items()))
    return folder


@pytest.fixture(scope='session')
def forks() -> Iterator[Forks]:
    """What runs the scripts of hosts."""
    with Forks(*NEEDS) as forks:
        yield forks


@pytest.fixture
def host(tmp_path: Path, installed: Path, forks: Forks) -> Host:
    """The host beside the tests, with this package installed, in an empty working directory."""
    return Host(tmp_path, installed, forks)
