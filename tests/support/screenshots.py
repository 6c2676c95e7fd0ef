"""Takes the pictures of the documentation, of the server and the class whose pages the tests judge.

python -m tests.support.screenshots
"""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal, NamedTuple

import aiohttp
from aiohttp.test_utils import TestServer
from playwright.async_api import Page, expect

from learning_observer_kvs import KVS_KEY
from tests.support.browser import chromium
from tests.support.demo import END, sent, typed
from tests.support.png import smaller
from tests.support.school import STUDENT, class_of, keep_others, make_school, pages, write

PICTURES = Path(__file__).resolve().parent.parent.parent / 'docs' / 'pictures'

MAX_BYTES = 120_000
"""The most bytes of a picture, so that a checkout stays small."""

NEUTRAL = """names => {
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    for (const [name, shown] of Object.entries(names)) {
      texts.currentNode.data = texts.currentNode.data.replaceAll(name, shown);
    }
  }
}"""
"""Puts names that say nothing in the place of those of the machine on which the pictures were taken."""

Prepare = Callable[[Page, TestServer], Awaitable[None]]

CLASS = class_of(12)


async def _as_it_is(page: Page, server: TestServer) -> None:
    """Take the page as it comes."""


async def _class_writes(page: Page, server: TestServer) -> None:
    """Have the class write while it is shown, and then to the end."""
    await expect(page.get_by_text('live', exact=True)).to_be_visible()
    await write(server.app[KVS_KEY], CLASS, end=0.7)
    await expect(page.locator('.card')).to_have_count(len(CLASS))


async def _student_writes(page: Page, server: TestServer) -> None:
    """Have the student write while the value is shown."""
    await expect(page.get_by_role('status')).to_have_text('Live')
    async with aiohttp.ClientSession() as browser:
        await sent(server, browser, typed('A', student=STUDENT), END)
    await expect(page.locator('#versions .difference').first).to_be_visible()
    await page.locator('.lit').first.hover()


class Shot(NamedTuple):
    """A picture: the page that it shows, by its name, in a window of what size, and what is done before."""

    page: str
    width: int
    height: int
    scheme: Literal['light', 'dark'] = 'light'
    prepare: Prepare = _as_it_is


SHOTS = {
    'class-page': Shot('class page of the demo', 1240, 600, prepare=_class_writes),
    'stores': Shot('stores', 1280, 360),
    'keys': Shot('keys, inside values', 1280, 360),
    'student': Shot('student', 1280, 360),
    'value': Shot('counts', 1280, 750, 'dark', _student_writes),
}


async def take(folder: Path) -> None:
    """Take every picture.

    Args:
        folder: where the pictures are written.
    """
    with tempfile.TemporaryDirectory() as state:
        server = TestServer(make_school(Path(state)))
        async with server, chromium() as browser:
            router = server.app[KVS_KEY]
            names = {state: '/srv/learning-observer', f'on {socket.gethostname()}': 'on school-1'}
            addresses = {'class page of the demo': str(server.make_url('/'))}
            for name, shot in SHOTS.items():
                page = await browser.new_page(
                    viewport={'width': shot.width, 'height': shot.height},
                    color_scheme=shot.scheme,
                    reduced_motion='reduce',
                )
                await page.goto(addresses[shot.page])
                await shot.prepare(page, server)
                await page.evaluate(NEUTRAL, names)
                height = await page.evaluate('document.documentElement.scrollHeight')
                await page.set_viewport_size({'width': shot.width, 'height': max(height, shot.height)})
                (folder / f'{name}.png').write_bytes(smaller(await page.screenshot(full_page=True)))
                await page.close()
                if shot.prepare is _class_writes:
                    await write(router, CLASS, begin=0.7)
                    await keep_others(router)
                    addresses = {found.name: found.url(server.make_url('/')) for found in await pages(router)}


if __name__ == '__main__':
    PICTURES.mkdir(exist_ok=True)
    asyncio.run(take(PICTURES))
