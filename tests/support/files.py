"""Files below a directory, as other programs write and see them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs.stores.filesystem.staging import SPARE


def tree(root: Path) -> dict[str, bytes]:
    """Every file below a directory by its path, but not the lock, the journal and the staged files of a store."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob('*'))
        if path.is_file() and path.name not in ('lock', 'journal') and not path.name.startswith('spare-')
    }


def spares(root: Path) -> list[Path]:
    """The staged files of a store."""
    return sorted(root.glob(f'{SPARE}*'))


def plant(root: Path, files: dict[str, str]) -> None:
    """Write files as another program would."""
    root.mkdir(exist_ok=True)
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def link(path: Path, target: Path) -> None:
    """Make a link as another program may."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def open_files() -> list[str]:
    """The paths of the files that this process has open; those of removed files end with ``(deleted)``."""
    with os.scandir('/proc/self/fd') as entries:
        paths = [entry.path for entry in entries]
    return [os.readlink(path) for path in paths if os.path.lexists(path)]


def opened_paths(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note what is opened from now on: the paths, in a list that grows."""
    opened = []
    open_file = os.open

    def noting_open(path: str, *arguments: Any) -> int:
        opened.append(path)
        return open_file(path, *arguments)

    monkeypatch.setattr(os, 'open', noting_open)
    return opened
