"""A class that writes, and the server that it writes to; ``sh devdata/demo.sh`` starts it.

    python -m devdata.demo

The state stays in ``.lo_kvs`` in the working directory; the next start shows it again.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import socket
import sys

from aiohttp import web

from devdata import students
from devdata.server import STATE, make_app

FIRST_PORT = 8888

WELCOME = """\
A class of {count} students writes.

  Class page  {url}/
  Every key   {url}/debug/kvs
  Kept in     {state}

Ctrl-C stops it."""


def listen(first: int = FIRST_PORT) -> socket.socket:
    """A socket that listens on this machine alone, on a port or the next free one.

    Raises:
        SystemExit: of a hundred ports in a row none can be had.
    """
    for port in range(first, first + 100):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(('127.0.0.1', port))
            listener.listen()
        except (OSError, OverflowError):  # taken, not ours to take, or beyond the last one there is
            listener.close()
        else:
            return listener
    raise SystemExit(f'No port from {first} to {first + 99} can be had. Give another one with --port.')


async def serve(listener: socket.socket, count: int, speed: float) -> None:
    """Serve a class until it is cancelled: then the students stop first, so that all they sent is in the state."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    url = f'http://127.0.0.1:{listener.getsockname()[1]}'
    runner = web.AppRunner(make_app(), access_log=None)
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        print(WELCOME.format(count=count, url=url, state=STATE.absolute()), flush=True)
        await students.write(url, count, speed=speed)
    finally:
        await runner.cleanup()


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(
        'demo.sh [FOLDER]', description='A class that writes, and the server that it writes to.'
    )
    students.add_options(parser)
    parser.add_argument('--port', type=int, default=FIRST_PORT, help=f'the first port to try ({FIRST_PORT})')
    arguments = parser.parse_args()
    logging.basicConfig(format='%(levelname)s %(message)s')
    try:
        asyncio.run(serve(listen(arguments.port), arguments.students, arguments.speed))
    except asyncio.CancelledError:
        pass
    except students.ServerGone as error:
        sys.exit(str(error))
    print(f'\nStopped. The next start shows what is kept in {STATE.absolute()} again.')


if __name__ == '__main__':
    main()
