"""The pages of the documentation, as the tests of the project read them, and how their examples are run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.programs import environment

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([ROOT / 'README.md', *ROOT.glob('docs/**/*.md')])
EXAMPLES = ROOT / 'docs' / 'examples'

FILE_LANGUAGES = ('python', 'yaml', 'css', 'json', 'ini', 'nginx', 'conf')
"""What a block of a page is in that is a file; the others are commands and what they print."""


class Block(NamedTuple):
    """A block of code: its language, the paragraph before it, and its lines."""

    language: str
    before: str
    text: str


def each_page() -> pytest.MarkDecorator:
    """Parametrize a test with every ``page``."""
    return pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def examples_of(page: Path) -> Path:
    """Return the directory with the examples of a page."""
    return EXAMPLES / page.stem.lower()


def example_names(page: Path) -> list[str]:
    """Return the names of the files in it."""
    return sorted(path.name for path in examples_of(page).glob('*') if path.is_file())


def blocks(page: Path) -> list[Block]:
    """Return the blocks of code of a page."""
    found, before = [], ''
    for part in re.split(r'^( *```.*?\n *```)$', page.read_text(), flags=re.M | re.S):
        if part.lstrip().startswith('```'):
            first, *lines, _ = part.splitlines(keepends=True)
            found.append(Block(first.strip('` \n'), before, ''.join(lines)))
        elif part.strip():
            before = part.strip().split('\n\n')[-1]
    return found


def sections(page: str, level: str) -> dict[str, str]:
    """Return the text below each heading of a level or a higher one, up to the next such heading."""
    parts = re.split(rf'^#{{1,{len(level)}}} (.+)$', (ROOT / page).read_text(), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def rows(section: str) -> list[list[str]]:
    """Return the rows of the tables of a section that begin with a word of code."""
    return [re.split(r' +\| +', line.strip('| ')) for line in section.splitlines() if line.startswith('| `')]


def run(directory: Path, *command: str, status: int = 0) -> list[str]:
    """Run a program, or a command of ``lo-kvs``.

    Args:
        directory: the working directory.
        command: what follows ``python`` or ``lo-kvs``.
        status: the exit status that it must have.

    Returns:
        The lines that it prints.
    """
    program = [] if command[0].endswith('.py') or command[0].startswith('-') else ['-m', 'learning_observer_kvs.cli']
    ended = subprocess.run(
        [sys.executable, '-W', 'error', *program, *command],
        cwd=directory,
        env=environment(PYTHONPATH=str(ROOT), REDIS_PASSWORD='hunter2', ADMIN_TOKEN='opensesame'),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == status, ended.stdout + ended.stderr
    return ended.stdout.splitlines()
