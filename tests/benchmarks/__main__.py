"""``python -m tests.benchmarks``: measures, and prints Markdown."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from tests.benchmarks import machine, results
from tests.benchmarks.against import Failed, against
from tests.benchmarks.environment import environment
from tests.benchmarks.interval import MIN_PAIRS
from tests.benchmarks.load import SIZES
from tests.benchmarks.measure import BACKENDS, PLANS, Plan, Selection
from tests.benchmarks.results import Say, Table

PAIRED = {
    'one': 'reducers:one',
    'class': 'reducers:many',
    'queued': 'reducers:queued',
    'upstream': 'upstream:upstream',
    'distant': 'upstream:distant',
    'sessions': 'sessions:sessions',
    'browsing': 'browsing:browsing',
}
"""Cases that compare stores with a base: module and function in ``cases``. A case is imported when it is measured,
because an older package may lack what another case needs."""

CASES = PAIRED | {'readers': 'readers:readers', 'keys': 'keys:scans', 'growth': 'growth:growth'}

PROFILED = ('one', 'class', 'queued', 'upstream')


@click.command()
@click.argument('cases', nargs=-1, type=click.Choice(list(CASES)))
@click.option('--quick', 'plan_name', flag_value='quick', help='Two sizes, one repeat: for a first look.')
@click.option('--full', 'plan_name', flag_value='full', help='A million keys, whole sessions, five repeats.')
@click.option('--tiny', 'plan_name', flag_value='tiny', hidden=True)
@click.option('--backend', 'backends', multiple=True, type=click.Choice(BACKENDS), help='This backend alone.')
@click.option('--size', 'sizes', multiple=True, type=click.Choice(list(SIZES)), help='States of this size alone.')
@click.option(
    '--pairs',
    type=click.IntRange(min=MIN_PAIRS),
    help='Measure base and stores so many times in turn; print the median ratio with its interval of 95 %.',
)
@click.option(
    '--against',
    'checkout',
    type=click.Path(path_type=Path, exists=True, file_okay=False, resolve_path=True),
    help='With --pairs: compare the stores with those of another checkout of this package.',
)
@click.option('--ours', 'ours_alone', is_flag=True, hidden=True)
@click.option('--json', 'json_file', type=click.Path(path_type=Path), help='Also write every figure to this file.')
@click.option('--page', type=click.Path(path_type=Path, exists=True), help='Also put the tables in this page.')
@click.option('--profile', 'profiled', type=click.Choice(PROFILED), help='Where the time goes in this case, instead.')
@click.option('--calm', is_flag=True, help='With a garbage collector that looks at fewer objects less often, for all.')
def main(
    cases: Sequence[str],
    plan_name: str | None,
    backends: Sequence[str],
    sizes: Sequence[str],
    pairs: int | None,
    checkout: Path | None,
    ours_alone: bool,
    json_file: Path | None,
    page: Path | None,
    profiled: str | None,
    calm: bool,
) -> None:
    """Measure CASES (all, if none is named) and print the tables as Markdown; the progress goes to stderr."""
    started = time.monotonic()

    def say(line: str) -> None:
        print(f'{time.monotonic() - started:6.0f} s  {line}', file=sys.stderr, flush=True)

    plan_name = plan_name or 'default'
    plan = PLANS[plan_name]
    plan = replace(plan, backends=backends or plan.backends, sizes=sizes or plan.sizes)
    described = machine.description()
    tables: list[Table] = []
    failure: Failed | None = None
    if checkout is not None:
        if pairs is None:
            raise click.UsageError('--against needs --pairs.')
        if page is not None or profiled:
            raise click.UsageError('--against makes neither a page nor a profile.')
        options = [] if plan_name == 'default' else [f'--{plan_name}']
        options += [part for name in backends for part in ('--backend', name)]
        options += [part for label in sizes for part in ('--size', label)]
        try:
            tables.extend(against(checkout, cases or list(CASES), pairs, options + ['--calm'] * calm, say))
        except Failed as error:
            failure = error
    else:
        if pairs is not None:
            if profiled or not set(cases) <= set(PAIRED):
                raise click.UsageError(f'--pairs is for cases with a base: {", ".join(PAIRED)}.')
            plan = replace(plan, repeats=pairs, selection=Selection.PAIRS)
            cases = cases or list(PAIRED)
        if ours_alone:
            plan = replace(plan, repeats=1, selection=Selection.OURS)
        tables = _measured(plan, cases or list(CASES), profiled, say, calm=calm)
    described['measured in'] = f'{time.monotonic() - started:.0f} s, plan `{plan_name}`' + (
        f', {pairs} pairs' if pairs else ''
    )
    text = results.markdown(described, tables)
    print(text)
    if json_file is not None:
        results.write_json(json_file, described, tables)
    if page is not None:
        results.put_in_page(page, 'profile' if profiled else 'pairs' if pairs else 'figures', text)
    if failure is not None:
        raise click.ClickException(f'The run ended early: {failure}')


def _measured(plan: Plan, cases: Sequence[str], profiled: str | None, say: Say, *, calm: bool) -> list[Table]:
    if calm:
        machine.calm_collector()
    with environment(plan, say) as surroundings:
        if profiled:
            found: list[Table] = importlib.import_module('tests.benchmarks.profiler').profile(surroundings, profiled)
            return found
        found = []
        for case in cases:
            module, _, function = CASES[case].partition(':')
            found += getattr(importlib.import_module(f'tests.benchmarks.cases.{module}'), function)(surroundings)
        return found


if __name__ == '__main__':
    main()
