"""The page for those who answer a privacy request shows what the commands print, in the order of the page."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.project.documentation import EXAMPLES, ROOT, blocks, run

PAGE = ROOT / 'docs/how-to/answer-a-privacy-request.md'
NOTHING_LEFT = 'find-student ls-17 --alias jo@school.example'


def printed_by(directory: Path, words: list[str]) -> str:
    command = [sys.executable, '-m', 'learning_observer_kvs.cli', *words]
    done = subprocess.run(
        command, cwd=directory, env={'PYTHONPATH': str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    return done.stdout + done.stderr


def test_each_command_of_the_page_prints_what_the_page_shows(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES / 'answer-a-privacy-request', tmp_path, dirs_exist_ok=True)
    run(tmp_path, 'load', 'some.json')
    text = '\n'.join(block.text for block in blocks(PAGE) if block.language == 'console')
    commands = re.findall(r'^ *\$ lo-kvs (.+)\n((?:(?! *\$ ).*\n?)*)', text, re.M)
    assert len(commands) >= 12
    for command, shown in commands:
        said = printed_by(tmp_path, re.findall(r'[^\s"]+', command))
        for line in (line.strip() for line in shown.splitlines()):
            pattern = re.escape(line).replace('…', '.*')
            assert line == '…' or re.search(f'^ *{pattern}$', said, re.M), (command, line, said)


def test_the_program_of_the_page_erases_the_student(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES / 'answer-a-privacy-request', tmp_path, dirs_exist_ok=True)
    run(tmp_path, 'load', 'some.json')
    lines = run(tmp_path, 'ask.py')
    assert lines[-1] == 'True 4'
    assert 'default:roster:7b' in lines
