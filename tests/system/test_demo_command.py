"""``sh devdata/demo.sh``, the whole command: it shows a class, stops with Ctrl-C, and keeps its state."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from devdata import class_page
from devdata.demo import listen
from learning_observer_kvs.kvs import KVSRouter
from tests.support.demo import next_message, settings


class Demo:
    """``sh devdata/demo.sh``, started in a directory other than the checkout."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder = folder
        self._options = options

    async def __aenter__(self) -> Demo:
        script = Path(__file__).parent.parent.parent / 'devdata' / 'demo.sh'
        self._process = await asyncio.create_subprocess_exec(
            *('sh', str(script), 'kept', *self._options),
            cwd=self._folder,
            start_new_session=True,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        self.output = ''
        assert self._process.stdout is not None
        while 'Ctrl-C' not in self.output:
            line = await self._process.stdout.readline()
            assert line, f'it ended with status {await self._end()}: {self.errors}'
            self.output += line.decode()
        self.url = re.findall(r'Class page +(http://\S+)/', self.output)[0]
        return self

    async def interrupt(self) -> int:
        """Ctrl-C, as a terminal sends it: to every process of the group."""
        os.killpg(self._process.pid, signal.SIGINT)
        return await self._end()

    async def _end(self) -> int:
        out, self.errors = (part.decode() for part in await self._process.communicate())
        self.output += out
        assert self._process.returncode is not None
        return self._process.returncode

    async def __aexit__(self, *error: object) -> None:
        if self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.communicate()


@pytest.mark.timeout(300)
async def test_the_command_shows_a_class_stops_with_ctrl_c_and_shows_its_state_again(tmp_path: Path) -> None:
    async with Demo(tmp_path, '--students', '5', '--speed', '20') as demo, aiohttp.ClientSession() as browser:
        assert str(tmp_path / 'kept' / '.lo_kvs') in demo.output
        async with browser.get(f'{demo.url}/debug/kvs') as response:
            assert response.status == 200
        async with browser.get(f'{demo.url}/class/changes') as stream:
            words: dict[str, int] = {}
            while len(words) < 5 or min(words.values()) < 5:
                for row in (await next_message(stream.content))[1]:
                    words[row['student']] = sum(document['words'] for document in row['documents'].values())
            assert await demo.interrupt() == 0
    assert demo.errors == ''
    assert 'Stopped' in demo.output
    assert os.listdir(tmp_path) == ['kept']

    async with KVSRouter.from_settings(settings(tmp_path / 'kept' / '.lo_kvs')) as router:
        state = await class_page.rows(router(), await class_page.students(router()))
    async with Demo(tmp_path, '--students', '1', '--speed', '0.001') as demo, aiohttp.ClientSession() as browser:
        async with browser.get(f'{demo.url}/class') as response:
            again = await response.json()
        assert [row['student'] for row in again] == [row['student'] for row in state] == sorted(words)
        for before, after in zip(state, again, strict=True):
            assert after['documents'].items() >= before['documents'].items()
            assert after['seconds'] >= before['seconds']
        assert await demo.interrupt() == 0
    assert demo.errors == ''


async def test_the_command_uses_the_next_port_if_one_is_in_use() -> None:
    with listen(20_000) as first, listen(first.getsockname()[1]) as second:
        assert second.getsockname()[1] > first.getsockname()[1]
        assert second.getsockname()[0] == '127.0.0.1'


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--students', '0'], '0 is too few'),
        (['--speed', '0'], '0 is not a speed'),
        (['--speed', 'nan'], 'nan is not a speed'),
        (['--port', '70000'], 'No port from 70000 to 70099 can be used. Give another one with --port.'),
    ],
)
def test_an_invalid_option_is_an_error_without_a_traceback(arguments: list[str], message: str) -> None:
    said = subprocess.run([sys.executable, '-m', 'devdata.demo', *arguments], capture_output=True, text=True)
    assert said.returncode != 0
    assert message in said.stderr
    assert 'Traceback' not in said.stderr


def test_a_directory_that_cannot_be_made_is_an_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    script = Path(__file__).parent.parent.parent / 'devdata' / 'demo.sh'
    said = subprocess.run(['sh', str(script), str(tmp_path / 'file')], capture_output=True, text=True)
    assert said.returncode == 1
    assert f'the state cannot be kept in {tmp_path}/file; give another directory.' in said.stderr
