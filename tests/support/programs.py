"""Python programs in processes of their own."""

from __future__ import annotations

import subprocess
import sys


def run(program: str, *arguments: object) -> None:
    """Run a Python program to its end; it may fork.

    Args:
        program: its text.
        arguments: what it gets as ``sys.argv[1:]``.
    """
    subprocess.run([sys.executable, '-W', 'ignore', '-c', program, *map(str, arguments)], check=True, timeout=60)
