"""The demo: a server and a simulated class of students who write; ``sh devdata/demo.sh`` starts it.

    python -m devdata.demo

The state is kept in ``.lo_kvs`` in the working directory; the next start shows it again.
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
A simulated class of {count} students is writing.

  Class page  {url}/
  All keys    {url}/debug/kvs
  State in    {state}

Ctrl-C stops it."""


def listen(first: int = FIRST_PORT) -> socket.socket:
    """Listen on a port of the loopback interface, or on the next free one.

    Args:
        first: the first port to try.

    Returns:
        The listening socket.

    Raises:
        SystemExit: none of a hundred ports can be used.
    """
    for port in range(first, first + 100):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(('127.0.0.1', port))
            listener.listen()
        except (OSError, OverflowError):  # in use, not permitted, or greater than the largest port
            listener.close()
        else:
            return listener
    raise SystemExit(f'No port from {first} to {first + 99} can be used. Give another one with --port.')


async def serve(listener: socket.socket, count: int, speed: float) -> None:
    """Serve a class until the task is cancelled; the students stop before the server, so that no event is lost.

    Args:
        listener: the socket to serve on.
        count: how many students write.
        speed: 2 for students twice as fast as people.

    Raises:
        ServerGone: a student's connection failed.
    """
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
        'demo.sh [DIRECTORY]', description='A server, and a simulated class of students who write.'
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
    print(f'\nStopped. The state is kept in {STATE.absolute()}; the next start shows it again.')


if __name__ == '__main__':
    main()
