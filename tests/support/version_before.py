"""How the versions before this one change a directory: what they leave is taken over, and they may run beside it.

Kept as it was in what other processes see of it: a lock, staged files ``new-…``, a journal that names them, renames.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from learning_observer_kvs.stores.filesystem.names import META_DIR


class DirectoryBefore:
    """A directory, as the versions before read and change it.

    Args:
        root: of the store.
        before_step: called before each step of a change.
    """

    def __init__(self, root: Path, before_step: Callable[[str], None] = lambda step: None) -> None:
        self.root = root
        self.before_step = before_step
        self.meta = root / META_DIR
        self.journal = self.meta / 'journal'

    def read(self, paths: list[str]) -> list[bytes | None]:
        """Read files as of one moment; under the lock, if there is a journal."""
        while True:
            count = self._count()
            if os.path.lexists(self.journal):
                break
            contents = [self._read(path) for path in paths]
            if self._count() == count:
                return contents
        with self._locked():
            return [self._read(path) for path in paths]

    def change(self, contents: Mapping[str, bytes | None]) -> None:
        """Change files together."""
        self.meta.mkdir(parents=True, exist_ok=True)
        with self._locked():
            staged: dict[str, str | None] = {}
            for path, content in contents.items():
                staged[path] = None
                if content is not None:
                    staged[path] = name = f'{META_DIR}/new-{len(staged)}'
                    self.before_step('stage')
                    with (self.root / name).open('xb') as file:
                        file.write(content)
            if len(staged) > 1:
                (self.meta / 'new-journal').write_text(json.dumps(staged))
                self.before_step('journal')
                (self.meta / 'new-journal').rename(self.journal)
            self.before_step('count')
            self._count_change()
            self._apply(staged)

    def _apply(self, staged: Mapping[str, str | None]) -> None:
        for path, new in staged.items():
            self.before_step('rename')
            with suppress(FileNotFoundError):
                if new is None:
                    (self.root / path).unlink()
                else:
                    (self.root / new).rename(self.root / path)
        if len(staged) > 1:
            self.before_step('finish')
            self.journal.unlink()

    def _recover(self) -> None:
        if os.path.lexists(self.journal):
            try:
                staged = json.loads(self.journal.read_bytes())
            except ValueError:
                raise ValueError('the journal is damaged') from None
            self._count_change()
            self._apply(staged)
        for path in self.meta.glob('new-*'):
            path.unlink()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.meta / 'lock').open('ab') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._recover()
            yield

    def _count(self) -> bytes:
        return (self.meta / 'lock').read_bytes()[:8]

    def _count_change(self) -> None:
        with (self.meta / 'lock').open('r+b', buffering=0) as lock:
            count = int.from_bytes(lock.read(8), 'big') + 1
            lock.seek(0)
            lock.write(count.to_bytes(8, 'big'))

    def _read(self, path: str) -> bytes | None:
        try:
            return (self.root / path).read_bytes()
        except FileNotFoundError:
            return None
