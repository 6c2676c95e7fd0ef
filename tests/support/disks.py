"""Disks that are full, and directories that may not be written, for the user who runs the tests."""

from __future__ import annotations

import os
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        yield directory
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


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
