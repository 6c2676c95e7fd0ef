"""Changes of files that stop at some step, as those of a killed process."""

from __future__ import annotations

from pathlib import Path

import pytest

from learning_observer_kvs.private_files import PRIVATE, Access
from learning_observer_kvs.stores.filesystem.directory import ChangeStep, Directory


class Killed(BaseException):
    """Stands for the end of a process: nothing of it runs any more."""


def change_and_stop(
    root: Path,
    step: ChangeStep,
    keys: tuple[str, ...] = ('a', 'b'),
    access: Access = PRIVATE,
    *,
    content: bytes | None = b'"new"',
    times: int = 2,
) -> None:
    """Leave a change of some keys at its second such step, or another one, as a process does that is killed there."""
    directory = Directory(str(root), access=access)
    steps: list[ChangeStep] = []

    def stop(this: ChangeStep) -> None:
        steps.append(this)
        if steps.count(step) == times:
            raise Killed

    directory.before_step = stop
    with pytest.raises(Killed), directory.write_locked():
        directory.change(dict.fromkeys(keys, content))


def change(directory: Directory, **contents: bytes | None) -> None:
    """Change files of a directory by their paths."""
    with directory.write_locked():
        directory.change(contents)
