"""A real Chromium for the tests of pages."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, ConsoleMessage, Page, Request, async_playwright, expect

QUIET = [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
]


expect.set_options(timeout=20_000)
"""Milliseconds until a page that does not come to show something is taken to be wrong; machines may be busy."""


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Starts it and ends it.

    Raises:
        RuntimeError: there is no ``chromium``.
    """
    program = shutil.which('chromium')
    if program is None:
        raise RuntimeError('chromium was not found on the path; "sh tests/run.sh" installs it.')
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=QUIET)
        try:
            yield browser
        finally:
            await browser.close()


async def press_and_load(page: Page, key: str) -> None:
    """Press a key that leads to another page, and wait until that page is loaded.

    A page shows its text before its scripts have run: they would not hear a key that is pressed as soon as the text is
    there.
    """
    async with page.expect_navigation():
        await page.keyboard.press(key)


@asynccontextmanager
async def faultless_page() -> AsyncIterator[Page]:
    """A page of a real browser in which nothing may fail, and which asks no other host.

    Raises:
        AssertionError: at the end, if something did.
    """
    errors: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        # A page of an error is one that failed to load; whether it should be an error, its test knows.
        if message.type == 'error' and message.location['url'] != page.url:
            errors.append(message.text)

    def asked(request: Request) -> None:
        if not request.url.startswith(('http://127.0.0.1:', 'data:')):
            errors.append(request.url)

    async with chromium() as browser:
        page = await browser.new_page()
        page.on('console', heard)
        page.on('pageerror', lambda error: errors.append(str(error)))
        page.on('request', asked)
        yield page
        assert errors == []
