"""The helper process: it calls what it is sent, one call at a time, until its input ends.

It has as little memory as it needs, and gives way to the server. That it has ended is all that the server sees of a
crash. What a called function prints goes to the errors of the server.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import traceback
from typing import Any, BinaryIO

from learning_observer_kvs.debug.offload.frames import COUNT, bytes_of_sizes, packed, sizes_of, unpacked

MEMORY_BYTES = 2 << 30
"""How much memory the process has."""

NICENESS = 5
"""How far it gives way to the server where both want the same processor."""


def serve() -> None:
    """Answer messages until there are no more: each is a function with its arguments."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server ends it
    _limit()
    gc.disable()  # a call makes millions of objects, and leaves none
    with os.fdopen(os.dup(1), 'wb') as answers, contextlib.suppress(BrokenPipeError):  # the server has gone
        os.dup2(2, 1)
        while (parts := _read(sys.stdin.buffer)) is not None:
            message = packed(_outcome(parts))
            del parts
            for part in message:
                answers.write(part)
            answers.flush()
            del message
            gc.collect()


def _read(file: BinaryIO) -> list[bytes] | None:
    head = file.read(COUNT.size)
    if len(head) < COUNT.size:
        return None
    [count] = COUNT.unpack(head)
    sizes = sizes_of(file.read(bytes_of_sizes(count)))
    parts = [file.read(size) for size in sizes]
    return parts if list(map(len, parts)) == sizes else None


def _outcome(parts: list[bytes]) -> tuple[bool, Any]:
    """What a call returned, or what it raised."""
    try:
        function, arguments = unpacked(parts)
        return True, function(*arguments)
    except Exception as error:
        # Where it happened, for the log; the texts of the lines are code. An error may have data that are not sent.
        where = ''.join(traceback.format_tb(error.__traceback__))
        error.add_note(f'In the helper process:\n{where}')
        return False, error.with_traceback(None)


def _limit() -> None:
    os.nice(NICENESS)
    with contextlib.suppress(ImportError, OSError, ValueError):  # a lower limit is set already
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
