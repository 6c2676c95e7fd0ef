"""Paths that the settings name: where they lead, and why some lead nowhere. Names of files are UTF-8."""

from __future__ import annotations

import os
import sys

_ENCODING = sys.getfilesystemencoding()

IS_UTF8 = _ENCODING == 'utf-8'
"""Whether Python, too, takes names of files for UTF-8; under some locales it does not."""


def name_of(text: str) -> str:
    """Return what Python must be given for a file whose name is a text in UTF-8.

    Args:
        text: a name, or a path.

    Returns:
        The text itself, unless the locale is one of another encoding.
    """
    return text if IS_UTF8 else os.fsdecode(text.encode('utf-8', 'surrogateescape'))


def text_of(name: str) -> str:
    """Return the text that the name of a file is in UTF-8.

    Args:
        name: as Python returns it.

    Returns:
        The text; bytes that are not UTF-8 are lone surrogates.
    """
    return name if IS_UTF8 else os.fsencode(name).decode('utf-8', 'surrogateescape')


def is_name(path: str) -> bool:
    """Return whether a path can be that of a file.

    Args:
        path: as Python is given it.
    """
    try:
        text_of(path).encode()
    except UnicodeEncodeError:
        return False
    return bool(path) and '\0' not in path


def expanded(text: str) -> str:
    """Return the path that a setting means.

    Args:
        text: as it is written.

    Returns:
        The path, with ``~`` or ``~user`` at its beginning replaced.
    """
    return os.path.expanduser(name_of(text))


def rejected(path: str) -> str | None:
    """Return what to write instead of a path that would lead to a file or folder of a surprising name.

    Args:
        path: as :func:`expanded` returns it.

    Returns:
        The hint; ``None`` if the path is accepted.
    """
    if '://' in path:
        return 'It is a URL; write the path of a file or folder.'
    if '$' in path:
        return 'Write ${NAME} for the value of an environment variable, ~ for your home folder; $NAME is not replaced.'
    if path.startswith('~'):
        return f'There is no home folder of {path.partition("/")[0]!r}; for a folder of that name write ./{path}.'
    if os.path.basename(path) == ':memory:':
        return 'Write "type: stub" for a store in memory; a path is that of a file or folder.'
    return None


def absolute(path: str | os.PathLike[str]) -> str:
    """Return the absolute path of a file or folder of a store.

    Args:
        path: a relative one is taken from the current working directory, ``~`` at its beginning is the home folder.
    """
    return os.path.abspath(os.path.expanduser(path))
