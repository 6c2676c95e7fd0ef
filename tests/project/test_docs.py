"""The documentation holds together: links, and examples that are files and are shown whole."""

from __future__ import annotations

import re
from pathlib import Path

from tests.project.documentation import (
    EXAMPLES,
    FILE_LANGUAGES,
    PAGES,
    ROOT,
    blocks,
    each_page,
    example_names,
    examples_of,
)
from tests.support.screenshots import MAX_BYTES, PICTURES, SHOTS


def links(page: Path) -> list[str]:
    """The targets of the links of a page to files."""
    return [target for target in re.findall(r'\]\(([^)]+)\)', page.read_text()) if '://' not in target]


@each_page()
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in links(page):
        file, _, anchor = target.partition('#')
        there = page.parent / file if file else page
        assert there.exists(), target
        headings = re.findall(r'^#+ (.+)$', there.read_text(), re.M) if anchor else []
        anchors = [re.sub(r'[^\w -]', '', heading).lower().replace(' ', '-') for heading in headings]
        assert not anchor or anchor in anchors, target


@each_page()
def test_every_row_stands_in_a_table(page: Path) -> None:
    text = re.sub(r'^ *```.*?^ *```$', '', page.read_text(), flags=re.M | re.S)
    for table in re.findall(r'(?:^\|.*\n?)+', text, re.M):
        assert re.match(r'\|.*\n\|[-| ]+\n', table), table[:100]


def test_the_readme_links_to_every_page_and_the_list_of_decisions_to_every_decision() -> None:
    listed = {
        (page.parent / target.partition('#')[0]).resolve()
        for page in (ROOT / 'README.md', ROOT / 'docs/decisions/index.md')
        for target in links(page)
    }
    assert [page for page in PAGES if page not in listed and page != ROOT / 'README.md'] == []


@each_page()
def test_every_example_is_a_file_which_the_page_names_before_it_and_shows_whole(page: Path) -> None:
    for block in blocks(page):
        if block.language in FILE_LANGUAGES:
            named = [name for name in example_names(page) if f'`{name}`' in block.before]
            texts = [(examples_of(page) / name).read_text() for name in named]
            assert block.text in texts, f'a {block.language} example after: {block.before}'


@each_page()
def test_a_page_shows_every_file_of_its_examples(page: Path) -> None:
    shown = [block.text for block in blocks(page)]
    for name in example_names(page):
        assert (examples_of(page) / name).read_text() in shown, name


def test_all_examples_belong_to_a_page() -> None:
    assert {path.parent for path in EXAMPLES.rglob('*') if path.is_file() and '__pycache__' not in path.parts} <= {
        examples_of(page) for page in PAGES
    }


def test_decisions_are_numbered_dated_and_have_the_alternatives_that_lost() -> None:
    pages = sorted(ROOT.glob('docs/decisions/0*.md'))
    assert len({page.name[:5] for page in pages}) == len(pages)
    for page in pages:
        text = page.read_text()
        assert re.match(rf'# {page.name[:4]}\. .+\n\nDate: \d{{4}}-\d\d-\d\d\n', text)
        assert re.findall('^## (.+)$', text, re.M) == ['Context', 'Decision', 'Consequences', 'Alternatives']
        assert text.rpartition('## Alternatives\n\n')[2].startswith('- ')


def test_every_picture_is_shown_small_and_taken_by_the_command() -> None:
    shown = {(page.parent / target).resolve() for page in PAGES for target in links(page) if target.endswith('.png')}
    assert shown == set(ROOT.glob('docs/**/*.png')) == {PICTURES / f'{name}.png' for name in SHOTS}
    assert [path.name for path in shown if path.stat().st_size > MAX_BYTES] == []
