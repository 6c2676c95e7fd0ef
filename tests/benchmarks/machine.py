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
from collections.abc import Iterator
from pathlib import Path

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
    """What a figure depends on, beside the code."""
    return {
        'processor': f'{_processor()}, {len(_cores())} cores',
        'system': f'{platform.system()} {platform.release().split("-")[0]}',
        'Python': f'{platform.python_implementation()} {platform.python_version()}',
        'garbage collector': f'on, thresholds {gc.get_threshold()}, a full collection before each measurement',
        'Redis': _redis(),
        'SQLite': _sqlite(),
        'busy before it began': f'{os.getloadavg()[0]:.1f} processes on average, in the last minute',
        'libraries': ', '.join(f'{name} {_version(name)}' for name in LIBRARIES),
    }


def calm_collector() -> None:
    """What a server may do once it has started: what is there by then is not looked at again, the rest less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


@contextlib.contextmanager
def pinned(server_pid: int) -> Iterator[None]:
    """While it lasts, the server has a core of its own and this process another, where there are two."""
    cores = _cores()
    if not hasattr(os, 'sched_setaffinity') or len(cores) < 2:
        yield
        return
    os.sched_setaffinity(server_pid, {cores[-1]})
    os.sched_setaffinity(0, {cores[0]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        os.sched_setaffinity(server_pid, cores)


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
    said = subprocess.run([program, '--version'], capture_output=True, text=True, check=False).stdout
    found = re.search(r'v=(\S+)', said)
    return f'{found.group(1) if found else "unknown"}, on loopback, on a core of its own, saving nothing'


def _sqlite() -> str:
    import sqlite3

    return f'{sqlite3.sqlite_version}, `synchronous=FULL`'


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return '(not installed)'
