"""``lo-kvs serve``."""

from __future__ import annotations

import errno
import os

import click
from aiohttp import web

from learning_observer_kvs import plugin
from learning_observer_kvs.cli.common import config_option
from learning_observer_kvs.debug.access import is_local
from learning_observer_kvs.errors import StartupFailed

HOST = '127.0.0.1'


@click.command('serve')
@click.option(
    '--port', '-p', default=8890, show_default=True, type=click.IntRange(0, 65535), help='The port; 0 takes a free one.'
)
@config_option
def command(port: int, config: tuple[str, ...]) -> None:
    """Serve /debug/kvs to this machine alone, until Ctrl-C.

    Every user of this machine can read it.

    \b
    Example:
      lo-kvs serve --config devdata/creds.yaml
    """
    app = web.Application()
    plugin.setup(app, config, authorize=_local)
    app.router.add_get('/', _redirect)
    try:
        web.run_app(app, host=HOST, port=port, print=click.echo, access_log=None)
    except StartupFailed as failure:  # its message has been printed
        raise SystemExit(failure.code) from None
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        click.echo(f'Port {port} cannot be used: {os.strerror(error.errno)}. Give another one with --port.', err=True)
        raise SystemExit(1) from None


def _local(request: web.Request, action: str, store: str, key: str | None) -> bool:
    return is_local(request)


async def _redirect(request: web.Request) -> web.Response:
    raise web.HTTPFound('/debug/kvs')
