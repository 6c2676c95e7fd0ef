"""Two names of one directory tree that change places at once: each leads to a whole file at every moment."""

from __future__ import annotations

import ctypes
import errno
import os

_EXCHANGE = 2
_AT_CWD = -100

UNSUPPORTED = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM}
"""What systems answer that cannot exchange: old kernels, file systems such as NFS, containers that forbid the call."""


def exchange(one: str, other: str) -> None:
    """Have two files change places.

    Args:
        one: path of a file.
        other: path of another one on the same file system.

    Raises:
        OSError: they are where they were; ``errno`` is one of :data:`UNSUPPORTED` where this cannot be done.
    """
    if _renameat2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), other)
    if _renameat2(_AT_CWD, os.fsencode(one), _AT_CWD, os.fsencode(other), _EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), other)


_renameat2 = getattr(ctypes.CDLL(None, use_errno=True), 'renameat2', None) if os.name == 'posix' else None
if _renameat2 is not None:
    _renameat2.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
