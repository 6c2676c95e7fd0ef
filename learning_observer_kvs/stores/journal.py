"""Several files changed at once: all or none, whoever is killed when, and however many processes take part.

Under a lock of the whole folder the new contents are written beside the old ones, then a journal appears that names
them all. From there on the change has happened: whoever finds a journal without its writer finishes it.
"""

from __future__ import annotations

import fcntl
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.stores.filenames import OWN

_JOURNAL = f'{OWN}/journal'
_LOCK = f'{OWN}/lock'
_STAGED = 'new-'


class Folder:
    """A folder whose files change together. All paths are below it, with ``/``.

    Args:
        root: its absolute path; made, with those above it, at the first change.
        step: called with a word before each step that changes something; tests stop there.
    """

    def __init__(self, root: str, step: Callable[[str], None] = lambda word: None) -> None:
        self.root = root
        self._step = step

    def absolute(self, path: str) -> str:
        """The whole path."""
        return f'{self.root}/{path}'

    def read(self, path: str) -> bytes | None:
        """The content of a file; ``None`` if there is none. Links are not followed."""
        if '/' in path:
            self._refuse_links(path)
        try:
            number = os.open(self.absolute(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            if os.path.exists(self.root) and not os.path.isdir(self.root):
                raise
            return None
        with open(number, 'rb') as file:
            return file.read()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """No change happens meanwhile, and none is left half-done."""
        try:
            lock = os.open(self.absolute(_LOCK), os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            yield  # nobody has changed anything yet
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_SH)
            while os.path.exists(self.absolute(_JOURNAL)):
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._recover()
                fcntl.flock(lock, fcntl.LOCK_SH)
            yield
        finally:
            os.close(lock)

    def is_half_done(self) -> bool:
        """Whether a change is under way, or was left by a process that ended in it."""
        return os.path.exists(self.absolute(_JOURNAL))

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Nobody else changes or reads several files meanwhile; what was left half-done is finished first."""
        os.makedirs(self.absolute(OWN), exist_ok=True)
        # A lock belongs to the open file, so each opens its own: threads of one process exclude one another, too.
        lock = os.open(self.absolute(_LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._recover()
            yield
        finally:
            os.close(lock)

    def change(self, contents: Mapping[str, bytes | None]) -> None:
        """Inside :meth:`changing`: give all files their new contents (``None`` removes one), or none of them.

        Raises:
            OSError, StoreUnavailable: nothing was changed.
        """
        staged: dict[str, str | None] = {}
        try:
            for path, content in contents.items():
                self._make_way(path, content)
                if content is None:
                    staged[path] = None
                    continue
                staged[path] = name = f'{OWN}/{_STAGED}{uuid.uuid4().hex}'
                self._step('stage')
                with open(self.absolute(name), 'wb', buffering=0) as file:
                    rest = memoryview(content)
                    while rest:
                        rest = rest[file.write(rest) :]
            if len(staged) > 1:
                self._step('journal')
                self._write_journal(staged)
        except BaseException:
            for new in staged.values():
                if new is not None:
                    with suppress(OSError):
                        os.unlink(self.absolute(new))
            raise
        self._apply(staged)

    def probe(self) -> None:
        """Inside :meth:`changing`: try to write a file.

        Raises:
            OSError: it cannot be.
        """
        name = self.absolute(f'{OWN}/{_STAGED}probe')
        try:
            with open(name, 'wb') as file:
                file.write(b'probe')
        finally:
            with suppress(FileNotFoundError):
                os.unlink(name)

    def _write_journal(self, staged: Mapping[str, str | None]) -> None:
        new = self.absolute(f'{OWN}/{_STAGED}journal')
        try:
            with open(new, 'w', encoding='utf-8') as file:
                json.dump(dict(staged), file)
            os.rename(new, self.absolute(_JOURNAL))
        except BaseException:
            with suppress(OSError):
                os.unlink(new)
            raise

    def _apply(self, staged: Mapping[str, str | None]) -> None:
        for path, new in staged.items():
            self._step('rename')
            with suppress(FileNotFoundError):  # done already, by the one that was killed
                if new is None:
                    os.unlink(self.absolute(path))
                else:
                    os.rename(self.absolute(new), self.absolute(path))
        if len(staged) > 1:
            self._step('forget')
            os.unlink(self.absolute(_JOURNAL))

    def _recover(self) -> None:
        """Finish what a killed process left, and remove what it only began."""
        try:
            with open(self.absolute(_JOURNAL), encoding='utf-8') as file:
                self._apply(json.load(file))
        except FileNotFoundError:
            pass
        for entry in os.scandir(self.absolute(OWN)):
            if entry.name.startswith(_STAGED):
                os.unlink(entry.path)

    def _make_way(self, path: str, content: bytes | None) -> None:
        """Everything that could fail after the journal is tried before it."""
        whole = self.absolute(path)
        if '/' in path:
            self._refuse_links(path)
            if content is not None:
                os.makedirs(os.path.dirname(whole), exist_ok=True)
        if os.path.isdir(whole) and not os.path.islink(whole):
            raise StoreUnavailable(f'{whole} is a folder, where a file is wanted. Move it away. Nothing was written.')

    def _refuse_links(self, path: str) -> None:
        parent = self.absolute(path).rpartition('/')[0]
        if os.path.realpath(parent) != f'{os.path.realpath(self.root)}/{path.rpartition("/")[0]}':
            raise StoreUnavailable(f'{parent} leads out of the folder by a link. Remove the link. Nothing was touched.')
