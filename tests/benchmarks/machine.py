"""The machine: what it is, and which core does what."""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
"""This checkout."""

LIBRARIES = (
    'redis',
    'hiredis',
    'orjson',
    'ormsgpack',
    'msgspec',
    'aiocache',
    'cashews',
    'py-key-value-aio',
    'diskcache',
)


def description() -> dict[str, str]:
    """Return what a figure depends on."""
    return {
        'measured': f'on {time.strftime("%Y-%m-%d")} at commit {commit(ROOT)}',
        'processor': f'{_processor()}, {len(_cores())} cores',
        'system': f'{platform.system()} {platform.release().split("-")[0]}',
        'Python': f'{platform.python_implementation()} {platform.python_version()}',
        'garbage collector': f'on, thresholds {gc.get_threshold()}, a full collection before each measurement',
        'Redis': _redis(),
        'SQLite': _sqlite(),
        'busy before it began': f'{os.getloadavg()[0]:.1f} processes on average, in the last minute',
        'libraries': ', '.join(f'{name} {_version(name)}' for name in LIBRARIES),
    }


def commit(checkout: Path) -> str:
    """Return the commit of a checkout, and whether files were changed since."""
    git = ['git', '-C', str(checkout), 'describe', '--always', '--dirty=, changed', '--exclude=*']
    with contextlib.suppress(OSError):
        answer = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
        if answer:
            return answer
    return 'unknown'


def calm_collector() -> None:
    """Do what the package's own function does; other checkouts that are measured here may lack it."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(5000, 10, 10)


@contextlib.contextmanager
def pinned(*servers: int) -> Iterator[None]:
    """While it lasts, run the servers on one core and this process on another, where there are two.

    Args:
        servers: ids of processes.
    """
    cores = _cores()
    if not hasattr(os, 'sched_setaffinity') or len(cores) < 2:
        yield
        return
    for server in servers:
        os.sched_setaffinity(server, {cores[-1]})
    os.sched_setaffinity(0, {cores[0]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        for server in servers:
            os.sched_setaffinity(server, cores)


def _cores() -> list[int]:
    if hasattr(os, 'sched_getaffinity'):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path('/proc/cpuinfo').read_text().splitlines():
            if line.startswith('model name'):
                return line.partition(':')[2].strip()
    return platform.processor() or platform.machine()


def _redis() -> str:
    program = shutil.which('redis-server')
    if program is None:
        return 'none'
    answer = subprocess.run([program, '--version'], capture_output=True, text=True, check=False).stdout
    found = re.search(r'v=(\S+)', answer)
    return f'{found.group(1) if found else "unknown"}, on loopback, on another core, saving nothing'


def _sqlite() -> str:
    import sqlite3

    return f'{sqlite3.sqlite_version}, `synchronous=FULL`'


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return '(not installed)'
