"""The host beside the tests of the integration: a small runtime in ``tests/runtime/host``, run in its own process."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.forks import Forks

ROOT = Path(__file__).parent.parent.parent
RUNTIME, MODULES = ROOT / 'tests/runtime/host/runtime', ROOT / 'tests/runtime/host/modules'
ORDERS = pytest.mark.parametrize('order', ['ours first', 'ours last'])
"""Whether this package comes before or after the runtime on the path, and so is loaded first or last."""

STUB = 'kvs: {default: {type: stub}, memoization: {type: stub}}\n'
"""Settings of stores in memory."""


class Host:
    """Runs scripts in processes that have the host on their path.

    Args:
        folder: the working directory.
        installed: where this package is installed.
        forks: what runs them; it has imported what the runtime needs of others.
    """

    def __init__(self, folder: Path, installed: Path, forks: Forks) -> None:
        self.folder = folder
        self.installed = installed
        self._forks = forks

    def run(self, script: str, creds: str, order: str = 'ours first') -> Any:
        """Run a script that must succeed, with :data:`PRELUDE` before it; the JSON that it prints last."""
        ended = self.end(script, creds, order)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return json.loads(ended.stdout.splitlines()[-1])

    def end(self, script: str, creds: str, order: str = 'ours first') -> subprocess.CompletedProcess[str]:
        """Run a script with :data:`PRELUDE` before it; its process, ended."""
        (self.folder / 'creds.yaml').write_text(creds)
        path = [self.installed, RUNTIME, MODULES] if order == 'ours first' else [RUNTIME, MODULES, self.installed]
        variables = os.environ | {'PYTHONPATH': os.pathsep.join(map(str, path))}
        return self._forks.run(
            PRELUDE + script, folder=self.folder, variables=variables, path=path, warnings=['error', *ALLOWED_WARNINGS]
        )


ALLOWED_WARNINGS = ['ignore:pkg_resources is deprecated', 'ignore:Deprecated call to `pkg_resources']

NEEDS = (
    *('aiohttp.web', 'asyncio', 'ctypes', 'decimal', 'hiredis', 'importlib.metadata', 'json', 'msgspec', 'orjson'),
    *('ormsgpack', 'pkg_resources', 'pmss', 'sortedcontainers', 'sqlite3', 'yaml'),
)
"""What the runtime and this package import of others."""

PRELUDE = """
import asyncio, json, sys
import pkg_resources
from aiohttp import ClientSession, web

pkg_resources._initialize_master_working_set()  # it was imported with another path

def start(*rulesets):
    from learning_observer import main
    return main.create_app('creds.yaml', rulesets)

class served:
    def __init__(self, app):
        self.runner = web.AppRunner(app)
    async def __aenter__(self):
        await self.runner.setup()
        site = web.TCPSite(self.runner, '127.0.0.1', 0)
        await site.start()
        self.url = 'http://127.0.0.1:%d' % self.runner.addresses[0][1]
        self.session = ClientSession()
        return self
    async def __aexit__(self, *error):
        await self.session.close()
        await self.runner.cleanup()
    async def feed(self, student, events):
        async with self.session.ws_connect(f'{self.url}/wsapi/in/{student}') as socket:
            for event in events:
                await socket.send_json(event)
                assert await socket.receive_str() == 'done'

def say(value):
    print(json.dumps(value))
"""
"""What scripts may use: ``start``, ``served`` with ``feed``, and ``say``."""
