"""Python programs in processes of their own."""

from __future__ import annotations

import asyncio
import os
import random
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from typing import Any


def environment(**more: str) -> dict[str, str]:
    """Return the environment of this process, and more, for a run of other tests: it belongs to no run of these.

    Args:
        more: further variables.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith(('PYTEST_', 'SLIPCOVER_'))} | more


def run(program: str, *arguments: object) -> None:
    """Run a Python program to its end; it may fork.

    Args:
        program: its text.
        arguments: what it gets as ``sys.argv[1:]``.
    """
    subprocess.run([sys.executable, '-W', 'ignore', '-c', program, *map(str, arguments)], check=True, timeout=60)


def run_and_kill(work: Callable[[int], Coroutine[Any, Any, object]], seconds: float) -> tuple[bytes, int]:
    """Fork a process, and kill it with ``kill -9`` at a random moment after its first report.

    Args:
        work: what it runs; it gets the file descriptor to write its reports to.
        seconds: after the first report, within which it is killed.

    Returns:
        All that it reported, and its wait status.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        asyncio.run(work(writing))
        os._exit(0)
    os.close(writing)
    reports = os.read(reading, 64)
    select.select([], [], [], random.random() * seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    while more := os.read(reading, 1 << 16):
        reports += more
    os.close(reading)
    return reports, status
