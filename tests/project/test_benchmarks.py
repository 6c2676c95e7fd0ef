"""The benchmarks still run: each case with tiny sizes, and nothing is asserted about time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from learning_observer_kvs import json_codec
from tests.benchmarks import results
from tests.benchmarks.__main__ import CASES, main
from tests.benchmarks.load import EVENTS, SIZES, new_state, write
from tests.benchmarks.profiler import LOADS

PAGE = Path(__file__).parent.parent.parent / 'docs' / 'reference' / 'performance.md'


def run(*arguments: str) -> str:
    result = CliRunner().invoke(main, ['--tiny', *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize('case', CASES)
def test_a_case_ends_in_tables_of_equally_long_rows(case: str, tmp_path: Path) -> None:
    printed = run(case, '--json', str(tmp_path / 'figures.json'))
    rows = [line.count('|') for table in printed.split('###')[1:] for line in table.splitlines() if line[:1] == '|']
    assert rows
    for table in printed.split('###')[1:]:
        assert len({line.count('|') for line in table.splitlines() if line.startswith('|')}) == 1
    figures: dict[str, Any] = json.loads((tmp_path / 'figures.json').read_text())
    assert figures['machine']['Python']
    assert all(table['rows'] for table in figures['tables'])


@pytest.mark.parametrize('case', CASES)
def test_a_case_is_in_the_reference(case: str) -> None:
    assert f'| `{case}` |' in PAGE.read_text()


@pytest.mark.parametrize('option', [option.opts[0] for option in main.params if not getattr(option, 'hidden', False)])
def test_an_option_is_in_the_reference(option: str) -> None:
    assert option == 'cases' or option in PAGE.read_text()


def test_tables_take_the_place_of_earlier_ones_in_the_page(tmp_path: Path) -> None:
    page = tmp_path / 'page.md'
    page.write_text('before\n<!-- figures -->\nold\n<!-- end of figures -->\nafter\n')
    results.put_in_page(page, 'figures', 'new\n')
    assert page.read_text() == 'before\n<!-- figures -->\n\nnew\n\n<!-- end of figures -->\nafter\n'


def test_a_page_without_a_place_for_figures_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / 'page.md'
    page.write_text('nothing')
    with pytest.raises(ValueError, match='has no place for figures'):
        results.put_in_page(page, 'figures', 'new')
    assert page.read_text() == 'nothing'


@pytest.mark.parametrize('case', LOADS)
def test_a_profile_says_what_share_of_an_event_is_ours(case: str) -> None:
    assert '| ours |' in run('--profile', case)


@pytest.mark.parametrize('label', SIZES)
def test_states_keep_their_size_and_change_with_every_event(label: str) -> None:
    state: Any = new_state(SIZES[label])
    texts = []
    for event in EVENTS[:50]:
        state, _ = write(event, state)
        texts.append(json_codec.encode(state))
    assert len(set(texts)) == len(texts)
    assert all(abs(len(text) - SIZES[label]) < 0.2 * SIZES[label] for text in texts)
