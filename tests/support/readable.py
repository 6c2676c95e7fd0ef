"""Whether a page can be read: judged by axe-core, and by the boxes of its texts."""

from __future__ import annotations

from importlib.resources import files

from playwright.async_api import Page

AXE = (files('axe_playwright_python') / 'axe.min.js').read_text(encoding='utf-8')

COLOURS = ['color-contrast', 'link-in-text-block']
"""The rules of axe-core whose outcome depends on whether a page is light or dark."""

VIOLATIONS = """async (only) => (await axe.run({ resultTypes: ['violations'], preload: false, ...only })).violations
  .map((found) => `${found.id}: ${found.nodes.map((node) => node.html).join(' ').slice(0, 400)}`)"""

TEXTS = """({ isWhole, isPaper }) => {
  const faults = [], shown = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode, element = text.parentElement;
    if (!text.data.trim() || !element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    const range = document.createRange();
    range.selectNodeContents(text);
    let boxes = [...range.getClientRects()].filter((box) => box.width > 1 && box.height > 1);
    let isCut = false;
    for (let each = element; each !== document.body; each = each.parentElement) {
      const style = getComputedStyle(each);
      if (style.clipPath !== 'none' || (!isWhole && /fixed|sticky/.test(style.position))) boxes = [];
      if (style.overflowX === 'visible') continue;
      const frame = each.getBoundingClientRect();
      const scrolls = !isPaper && /auto|scroll/.test(style.overflowX + style.overflowY);
      boxes = boxes.flatMap((box) => {
        const [left, right] = [Math.max(box.left, frame.left), Math.min(box.right, frame.right)];
        const [top, bottom] = [Math.max(box.top, frame.top), Math.min(box.bottom, frame.bottom)];
        if (!scrolls && (box.right - right > 1 || box.bottom - bottom > 1)) isCut = true;
        return right > left && bottom > top ? [{ left, right, top, bottom }] : [];
      });
    }
    const words = text.data.trim().slice(0, 60);
    const selector = "[title], a[href], button, summary, tr:has(a.open), .card:has(button.open)";
    const whole = !isPaper && element.closest(selector);
    if (isCut && !whole) faults.push(`cut: ${words}`);
    boxes.forEach((box) => shown.push({ text, words, box }));
  }
  shown.sort((one, other) => one.box.top - other.box.top);
  shown.forEach((one, at) => {
    for (const other of shown.slice(at + 1)) {
      if (other.box.top > one.box.bottom) break;
      const width = Math.min(one.box.right, other.box.right) - Math.max(one.box.left, other.box.left);
      const height = Math.min(one.box.bottom, other.box.bottom) - other.box.top;
      if (one.text !== other.text && width > 2 && height > 3) faults.push(`covered: ${one.words} | ${other.words}`);
    }
  });
  const width = document.documentElement.scrollWidth;
  if (width > innerWidth) faults.push(`wider than the window: ${width}`);
  return faults;
}"""
"""Texts that are cut where nothing leads to the whole of them, or that cover one another; a page that is too wide.

What is cut on purpose has a title, or is in something that opens the whole; on paper nothing is cut. Where the window
shows the whole page, what stays in it while one scrolls covers nothing either."""

FOCUSED = """() => {
  const element = document.activeElement;
  if (element === document.body) return null;
  const style = getComputedStyle(element);
  const isSeen = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0;
  return [element.outerHTML.slice(0, 100), isSeen];
}"""


async def faults_of(page: Page) -> list[str]:
    """Return what keeps people from reading a page, as it stands in its window; none where all is well."""
    return [*await violations(page), *await hidden_in_window(page)]


async def violations(page: Page, *rules: str) -> list[str]:
    """Return where a page breaks rules of axe-core; none where all is well.

    Args:
        page: the page, as it stands in its window.
        rules: the rules; by default all.
    """
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(AXE)
    await _settled(page)
    found: list[str] = await page.evaluate(VIOLATIONS, {'runOnly': rules} if rules else {})
    return found


async def hidden_in_window(page: Page) -> list[str]:
    """Return which texts of a page are cut or covered in its window; none where all is well."""
    await _settled(page)
    found: list[str] = await page.evaluate(TEXTS, {'isWhole': False, 'isPaper': False})
    return found


async def _settled(page: Page) -> None:
    """Wait until what was changed of a window is drawn."""
    await page.evaluate('new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))')


async def hidden_in_whole(page: Page, *, on_paper: bool) -> list[str]:
    """Return which texts are cut or covered where all of a page is seen at once; none where all is well.

    Args:
        page: the page; its window becomes as high as the page.
        on_paper: whether it is printed; else it is a picture of the page.
    """
    await page.emulate_media(media='print' if on_paper else 'screen')
    height = await page.evaluate('document.documentElement.scrollHeight')
    await page.set_viewport_size({'width': 1000, 'height': height})
    found: list[str] = await page.evaluate(TEXTS, {'isWhole': True, 'isPaper': on_paper})
    return found


async def hidden_focus(page: Page, presses: int) -> list[str]:
    """Go through a page with the Tab key.

    Args:
        page: the page.
        presses: how often the key is pressed.

    Returns:
        What has the focus and does not show it.
    """
    hidden = []
    for _ in range(presses):
        await page.keyboard.press('Tab')
        focused = await page.evaluate(FOCUSED)
        if focused and not focused[1]:
            hidden.append(focused[0])
    return hidden
