"""The benchmarks still run: each case with tiny sizes, and nothing is asserted about time."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from redis import Redis

from learning_observer_kvs import json_codec
from tests.benchmarks import results
from tests.benchmarks.__main__ import CASES, PROFILED, main
from tests.benchmarks.distance import Distance
from tests.benchmarks.interval import MIN_PAIRS, median_interval
from tests.benchmarks.load import EVENTS, SIZES, new_state, upstream_state_of, write
from tests.support.redis_server import RedisServer

PAGE = Path(__file__).parent.parent.parent / 'docs' / 'reference' / 'performance.md'

PACKAGE = Path(json_codec.__file__).parent


@pytest.fixture(autouse=True)
def _objects_of_the_run() -> Iterator[None]:
    """Keep what the run of the tests has made out of the collections of garbage before each measurement."""
    gc.freeze()
    yield
    gc.unfreeze()


def run(*arguments: str) -> str:
    result = CliRunner().invoke(main, ['--tiny', *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def rejected(*arguments: str) -> str:
    result = CliRunner().invoke(main, ['--tiny', *arguments])
    assert result.exit_code == 2
    return result.output


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


def test_tables_replace_earlier_ones_in_the_page(tmp_path: Path) -> None:
    page = tmp_path / 'page.md'
    page.write_text('before\n<!-- figures -->\nold\n<!-- end of figures -->\nafter\n')
    results.put_in_page(page, 'figures', 'new\n')
    assert page.read_text() == 'before\n<!-- figures -->\n\nnew\n\n<!-- end of figures -->\nafter\n'


def test_a_page_without_a_section_for_figures_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / 'page.md'
    page.write_text('nothing')
    with pytest.raises(ValueError, match='has no section for figures'):
        results.put_in_page(page, 'figures', 'new')
    assert page.read_text() == 'nothing'


@pytest.mark.parametrize('section', ['figures', 'pairs', 'profile'])
def test_the_reference_has_a_section_for_each_kind_of_tables(section: str) -> None:
    assert f'<!-- {section} -->\n' in PAGE.read_text()
    assert f'<!-- end of {section} -->\n' in PAGE.read_text()


@pytest.mark.parametrize('case', ['one', 'upstream', 'sessions'])
def test_pairs_have_a_ratio_with_its_interval(case: str, tmp_path: Path) -> None:
    file = tmp_path / 'figures.json'
    run(case, '--pairs', '6', '--backend', 'redis', '--json', str(file))
    rows = [row for table in json.loads(file.read_text())['tables'] for row in table['rows']]
    pairs = [row for row in rows if 'interval' in row]
    assert {row['contender'] for row in pairs} >= {'**redis**', '**redis**, `flush_interval`'}
    for row in pairs:
        assert len(row['pairs']) == len(row['rates']) == 6
        assert row['interval'][0] <= row['ratio'] <= row['interval'][1]


def test_pairs_are_of_the_base_and_the_stores_of_this_package() -> None:
    assert 'limit:' not in run('one', '--pairs', '6', '--backend', 'stub')


def test_pairs_need_a_base() -> None:
    assert '--pairs is for cases with a base' in rejected('keys', '--pairs', '6')


def test_fewer_pairs_than_an_interval_takes_are_rejected() -> None:
    assert f'x>={MIN_PAIRS}' in rejected('one', '--pairs', str(MIN_PAIRS - 1))


def test_another_checkout_is_compared_in_pairs(tmp_path: Path) -> None:
    (tmp_path / 'learning_observer_kvs').symlink_to(PACKAGE)
    file = tmp_path / 'figures.json'
    run('one', '--backend', 'stub', '--pairs', '6', '--against', str(tmp_path), '--json', str(file))
    [table] = json.loads(file.read_text())['tables']
    [row] = table['rows']
    assert row['of'] == ['One student in sequence: stub', '0.3 KB', '**stub**', 'events_per_second']
    assert len(row['here']) == len(row['there']) == 6
    assert row['interval'][0] <= row['ratio'] <= row['interval'][1]


def test_a_case_that_another_checkout_does_not_know_is_left_out(tmp_path: Path) -> None:
    (tmp_path / 'learning_observer_kvs').mkdir()
    (tmp_path / 'learning_observer_kvs' / '__init__.py').touch()
    result = CliRunner().invoke(main, ['--tiny', 'one', 'class', '--pairs', '6', '--against', str(tmp_path)])
    assert result.exit_code == 0
    for case in ('one', 'class'):
        assert (
            f"Left out: {case}, in which the other checkout fails: ModuleNotFoundError: No module named 'learning_"
            in (result.stderr)
        )


def test_another_checkout_needs_pairs(tmp_path: Path) -> None:
    assert '--against needs --pairs' in rejected('--against', str(tmp_path))


def test_another_checkout_is_not_for_the_page(tmp_path: Path) -> None:
    assert 'neither a page' in rejected('--against', str(tmp_path), '--pairs', '6', '--page', str(PAGE))


@pytest.mark.parametrize(('count', 'rank'), [(6, 1), (9, 2), (10, 2), (20, 6), (30, 10), (100, 40)])
def test_the_interval_of_a_median_is_that_of_the_tables(count: int, rank: int) -> None:
    values = [float(value) for value in range(1, count + 1)]
    assert median_interval(values[::-1]) == (rank, count + 1 - rank)


def test_a_median_of_few_values_has_no_interval() -> None:
    with pytest.raises(ValueError, match='it takes 6'):
        median_interval([1.0] * 5)


def test_a_distance_delays_each_command_and_throttles_none() -> None:
    with (
        RedisServer() as server,
        Distance(server.port, 20) as distance,
        Redis(host='127.0.0.1', port=distance.port) as client,
    ):
        client.ping()
        started = time.perf_counter()
        client.set('key', b'x' * 1_000_000)
        one = time.perf_counter() - started
        started = time.perf_counter()
        with client.pipeline(transaction=False) as many:
            for number in range(50):
                many.set(f'key{number}', number)
            many.execute()
        fifty = time.perf_counter() - started
        assert client.get('key49') == b'49'
    assert one >= 0.04
    assert 0.04 <= fifty < 50 * 0.04


def test_reducers_as_upstream_return_one_object_twice() -> None:
    state = upstream_state_of('0.3 KB')
    internal, external = state.reduce(EVENTS[0], state.null_state())
    assert internal is external
    assert len({state.keys('ann', reducer) for reducer in range(len(state.reducers))}) == 13


@pytest.mark.parametrize('case', PROFILED)
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
