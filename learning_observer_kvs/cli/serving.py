"""The server of ``lo-kvs serve``."""

from __future__ import annotations

import asyncio
import errno
import os
import re

import click
from aiohttp import web

from learning_observer_kvs import kvs, plugin, settings
from learning_observer_kvs.cli.common import Stores, echo_json, place, where
from learning_observer_kvs.collector import calm_collector
from learning_observer_kvs.debug.access import is_local
from learning_observer_kvs.errors import StartupFailed, StoreMissing

HOST = '127.0.0.1'


def serve(port: int, config: tuple[str, ...], as_json: bool) -> None:
    """Serve the pages of the stores that are there, until Ctrl-C.

    Args:
        port: the port; 0 takes a free one.
        config: the paths of the settings.
        as_json: whether to print the address as JSON.

    Raises:
        StartupCheck: the settings are wrong.
        StoreMissing: no store is there.
        SystemExit: with 1, if the stores or the port cannot be used.
    """
    loaded = settings.load_settings(config)
    stores = Stores(kvs.checked(loaded))
    asyncio.run(_leave_out_missing(stores))
    app = web.Application()
    plugin.setup(app, authorize=_local, router=stores.router)
    app.cleanup_ctx.append(calm_collector)
    app.router.add_get('/', _redirect)

    def announce(text: str) -> None:
        if not as_json:
            click.echo(text)
        elif found := re.search(r'http://\S+', text):
            shown = [place(stores.router[name]) for name in stores.router.names()]
            echo_json({'url': found[0], 'stores': shown}, indent=None)

    try:
        web.run_app(app, host=HOST, port=port, print=announce, access_log=None)
    except StartupFailed as failure:  # its message has been printed
        raise SystemExit(failure.code) from None
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        click.echo(f'Port {port} cannot be used: {os.strerror(error.errno)}. Give another one with --port.', err=True)
        raise SystemExit(1) from None


async def _leave_out_missing(stores: Stores) -> None:
    """Remove the stores that are not there, and name all; raise if none is left."""
    missing: list[StoreMissing] = []
    async with stores.router:
        for name in stores.router.names():
            try:
                store = await stores.existing(name)
            except StoreMissing as error:
                stores.router.remove_item(name)
                missing.append(error)
                click.echo(f'{error} It is left out.', err=True)
            else:
                click.echo(f'Showing {where(store)}.', err=True)
    if not stores.router.names():
        raise StoreMissing('There is no store to show.')


def _local(request: web.Request, action: str, store: str, key: str | None) -> bool:
    return is_local(request)


async def _redirect(request: web.Request) -> web.Response:
    raise web.HTTPFound('/debug/kvs')
