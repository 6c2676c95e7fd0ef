"""Files that look like those of keys and are not: what another program or an older version named differently.

Names that are not UTF-8 (written under a locale of another encoding), not normalized (copied by way of another file
system), or with other escapes; files of subdirectories where there are none, and the other way round; links; files of
long keys that do not hold their key. All other files are of other programs, and are left alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from learning_observer_kvs.config.paths import text_of
from learning_observer_kvs.stores.filesystem.directory import Directory
from learning_observer_kvs.stores.filesystem.names import DIGESTS, resembles_key


def unrecognized(directory: Directory, key_of: Callable[[str], str | None]) -> Iterator[str]:
    """Find the files that look like those of keys and are not.

    Args:
        directory: where they are.
        key_of: returns the key of a path; ``None`` if no key has it.

    Yields:
        Their paths below the directory, in no order; bytes that are not UTF-8 are lone surrogates.

    Raises:
        OSError: the directory cannot be read.
    """
    directories = ['', f'{DIGESTS}/']
    while directories:
        above = directories.pop()
        try:
            entries = os.scandir(directory.absolute(above))
        except FileNotFoundError:
            continue
        with entries:
            for entry in entries:
                path = above + text_of(entry.name)
                if entry.name.startswith('.') or not (above[:1] == '.' or resembles_key(path)):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    if entry.name.startswith('_') and above[:1] != '.':
                        directories.append(f'{path}/')
                elif entry.is_symlink() or (entry.is_file() and key_of(path) is None):
                    yield path
