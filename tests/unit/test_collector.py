"""The garbage collector of a server, and what events leave to it."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from aiohttp import web

from learning_observer_kvs import calm_collector
from learning_observer_kvs.collector import FROZEN_BY_PYTHON


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()
    gc.enable()


async def test_while_an_application_runs_the_collector_leaves_out_what_was_there_at_its_start() -> None:
    before = gc.get_threshold()
    app = web.Application()
    app.cleanup_ctx.append(calm_collector)
    runner = web.AppRunner(app)
    await runner.setup()
    assert gc.get_freeze_count() > FROZEN_BY_PYTHON
    assert gc.get_threshold() == (5000, *before[1:])
    await runner.cleanup()
    assert gc.get_freeze_count() == 0
    assert gc.get_threshold() == before


@pytest.mark.parametrize(
    'decide', [lambda: gc.set_threshold(20_000, 20, 50), gc.freeze, gc.disable], ids=['thresholds', 'frozen', 'off']
)
async def test_a_process_that_has_decided_about_its_collector_is_left_as_it_is(decide: object) -> None:
    assert callable(decide)
    decide()
    before = gc.get_threshold(), gc.get_freeze_count(), gc.isenabled()
    context = calm_collector(web.Application())
    await anext(context)
    assert (gc.get_threshold(), gc.get_freeze_count(), gc.isenabled()) == before
    with pytest.raises(StopAsyncIteration):
        await anext(context)
    assert (gc.get_threshold(), gc.get_freeze_count(), gc.isenabled()) == before
