"""``python -m tests.benchmarks``: measures, and prints Markdown."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from tests.benchmarks import machine, peers, results
from tests.benchmarks.cases import dashboard, growth, keys, reducers, sessions
from tests.benchmarks.environment import Environment, environment
from tests.benchmarks.measure import PLANS
from tests.benchmarks.profiler import LOADS, profile
from tests.benchmarks.results import Table

CASES: dict[str, Callable[[Environment], list[Table]]] = {
    'one': reducers.one,
    'class': reducers.many,
    'queued': reducers.queued,
    'dashboard': dashboard.dashboard,
    'keys': keys.walks,
    'sessions': sessions.sessions,
    'growth': growth.growth,
}


@click.command()
@click.argument('cases', nargs=-1, type=click.Choice(list(CASES)))
@click.option('--quick', 'plan', flag_value='quick', help='Under 90 seconds, one repeat: for a first look.')
@click.option('--full', 'plan', flag_value='full', help='A million keys, whole sessions, five repeats.')
@click.option('--tiny', 'plan', flag_value='tiny', hidden=True)
@click.option('--json', 'json_file', type=click.Path(path_type=Path), help='Also write every figure there.')
@click.option('--page', type=click.Path(path_type=Path, exists=True), help='Also put the tables in this page.')
@click.option(
    '--profile', 'profiled', type=click.Choice(list(LOADS)), help='Where the time goes in this case, instead.'
)
@click.option('--calm', is_flag=True, help='With a garbage collector that looks at fewer objects less often, for all.')
def main(
    cases: Sequence[str],
    plan: str | None,
    json_file: Path | None,
    page: Path | None,
    profiled: str | None,
    calm: bool,
) -> None:
    """Measure CASES (all, if none is named) and print the tables as Markdown; how far it is goes to stderr."""
    started = time.monotonic()

    def say(line: str) -> None:
        print(f'{time.monotonic() - started:6.0f} s  {line}', file=sys.stderr, flush=True)

    for kind in (peers.Aiocache, peers.Cashews, peers.PyKeyValue, peers.Diskcache):
        if not peers.installed(kind):
            say(f'Left out: {kind.package}. "pip install .[benchmark]" installs it.')
    if calm:
        machine.calm_collector()
    tables: list[Table] = []
    described = machine.description()
    with environment(PLANS[plan or 'default'], say) as surroundings:
        if profiled:
            tables += profile(surroundings, profiled)
        else:
            for case in cases or CASES:
                tables += CASES[case](surroundings)
    described['measured in'] = f'{time.monotonic() - started:.0f} s, plan `{plan or "default"}`'
    text = results.markdown(described, tables)
    print(text)
    if json_file is not None:
        results.write_json(json_file, described, tables)
    if page is not None:
        results.put_in_page(page, 'profile' if profiled else 'figures', text)


if __name__ == '__main__':
    main()
