"""Programs with types can use the package: their type checker sees its types, and their mistakes."""

from __future__ import annotations

import subprocess
import sys

from tests.project.sources import ROOT


def test_a_program_with_types_passes_and_its_mistakes_are_found() -> None:
    checked = subprocess.run(
        [sys.executable, '-m', 'mypy', '--strict', 'tests/project/typing_face.py'],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
