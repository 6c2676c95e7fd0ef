"""The how-to pages lead where they say."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from learning_observer_kvs.stores.redis.connection import RedisConnection
from tests.support.redis_server import RedisServer

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the examples in it."""
    shutil.copytree(ROOT / 'docs/examples', tmp_path, dirs_exist_ok=True)
    return tmp_path


def run(folder: Path, *words: str, status: int = 0) -> list[str]:
    """The lines that a program, or a command of ``lo-kvs``, prints."""
    program = list(words) if words[0].endswith('.py') else ['-m', 'learning_observer_kvs.cli', *words]
    ended = subprocess.run(
        [sys.executable, '-W', 'error', *program],
        cwd=folder,
        env=os.environ | {'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == status, ended.stdout + ended.stderr
    return ended.stdout.splitlines()


def test_the_reducer_passes_its_own_test(folder: Path) -> None:
    run(folder, 'pastes_check.py')


def test_the_reducer_can_be_fed_study_logs(folder: Path) -> None:
    replayed = run(folder, 'replay', str(ROOT / 'devdata/sample'), '--reducer', 'pastes:pastes')
    assert '0 failures' in replayed[-1]
    assert run(folder, 'keys', 'External,pastes.pastes,', '--limit', '1')[0].startswith('External,pastes.pastes,')


def test_moving_from_files_to_redis_leaves_a_server_with_the_same_states(
    folder: Path, redis_server: RedisServer, redis: RedisConnection
) -> None:
    for name in ('moving.yaml', 'moved.yaml'):
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace('6379', str(redis_server.port)).replace('localhost', '127.0.0.1'))
    before, after = ('--config', 'moving.yaml'), ('--config', 'moved.yaml')
    for key, value in (('Internal,a.b,STUDENT:bob', '{"n": 1}'), ('External,a.b,STUDENT:bob', 'null')):
        run(folder, 'set', key, value, *before)

    assert run(folder, 'copy', 'default', 'states', *before)[-1] == 'Verified: the stores agree.'
    run(folder, 'set', 'Internal,a.b,STUDENT:bob', '{"n": 2}', *before)
    run(folder, 'copy', 'default', 'states', *before, status=1)
    assert run(folder, 'copy', 'default', 'states', '--overwrite', *before)[-1] == 'Verified: the stores agree.'

    for key in ('Internal,a.b,STUDENT:bob', 'External,a.b,STUDENT:bob'):
        assert run(folder, 'get', key, *after) == run(folder, 'get', key, '--store', 'files', *after)
