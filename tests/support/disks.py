"""Disks that are full, directories that may not be written, and too many open files."""

from __future__ import annotations

import os
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.support.parts import missing

UNPRIVILEGED_UID = 65534


@contextmanager
def small_disk(directory: Path) -> Iterator[Path]:
    """A directory where a megabyte fits: a disk of that size, or files of that size where none can be mounted."""
    directory.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', str(directory)]
    if subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        try:
            yield directory
        finally:
            subprocess.run(['umount', str(directory)], check=True)
        return
    with files_of_at_most(1 << 20):
        yield directory


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """This process can write no file of more bytes meanwhile."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Fill a :func:`small_disk` to its last byte meanwhile; tests that do so are marked ``own_disk``."""
    if not os.path.ismount(disk):
        missing('a small disk cannot be mounted here')
    filler = disk / '.filler'
    with filler.open('wb', buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def no_more_files() -> Iterator[None]:
    """Let this process open no more files meanwhile."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir('/dev/fd')))
    with ExitStack() as opened:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 8, before[1]))
        try:
            with suppress(OSError):
                while True:
                    opened.callback(os.close, os.open(os.devnull, os.O_RDONLY))
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextmanager
def foreign_directory() -> Iterator[Path]:
    """A directory that every user may read; see :func:`read_only`."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """Make everything below a directory read-only; root, who may write all the same, becomes another user meanwhile."""
    below = [directory, *directory.rglob('*')]
    for path in below:
        path.chmod(0o555 if path.is_dir() else 0o444)
    root = os.geteuid() == 0
    if root:
        os.seteuid(UNPRIVILEGED_UID)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        for path in below:
            path.chmod(0o755 if path.is_dir() else 0o644)
