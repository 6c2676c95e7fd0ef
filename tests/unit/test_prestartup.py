"""Start-up checks and init functions."""

from __future__ import annotations

import pytest

from learning_observer_kvs import prestartup
from learning_observer_kvs.prestartup import (
    StartupCheck,
    register_init_function,
    register_startup_check,
    run_startup_checks_and_init,
    startup_checks_and_init,
)


@pytest.fixture(autouse=True)
def _nothing_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prestartup, 'STARTUP_CHECKS', [])
    monkeypatch.setattr(prestartup, 'INIT_FUNCTIONS', [])


async def test_checks_run_in_order_then_init_functions_plain_or_coroutine() -> None:
    ran = []

    @register_init_function
    def init() -> None:
        ran.append('init')

    @register_startup_check
    def plain() -> bool:
        ran.append('plain')
        return True

    @register_startup_check
    async def coroutine() -> None:
        ran.append('coroutine')

    assert register_startup_check(plain) is plain
    await run_startup_checks_and_init()
    assert ran == ['plain', 'coroutine', 'init']


async def test_an_init_function_runs_once_however_often_it_is_registered_and_may_be_a_coroutine() -> None:
    ran = []

    async def init() -> None:
        ran.append('init')

    assert register_init_function(init) is register_init_function(init) is init
    await run_startup_checks_and_init()
    assert ran == ['init']


async def test_the_failure_of_a_single_check_is_raised_itself_and_no_init_function_runs() -> None:
    failed = StartupCheck('the only error', problems=[1])

    @register_startup_check
    async def check() -> None:
        raise failed

    @register_init_function
    def init() -> None:
        raise AssertionError('init functions wait for the checks')

    with pytest.raises(StartupCheck) as failure:
        await run_startup_checks_and_init()
    assert failure.value is failed


async def test_all_checks_run_and_all_failures_are_reported_together() -> None:
    @register_startup_check
    def first() -> None:
        raise StartupCheck('the first error', problems=[1])

    @register_startup_check
    async def second() -> None:
        raise StartupCheck('the second error', problems=[2])

    @register_init_function
    def init() -> None:
        raise AssertionError('init functions wait for the checks')

    with pytest.raises(StartupCheck, match=r'(?s)the first error.*the second error') as failure:
        await run_startup_checks_and_init()
    assert failure.value.problems == (1, 2)
    assert not isinstance(failure.value, SystemExit)


def test_a_script_runs_checks_and_init_functions_without_a_loop() -> None:
    ran = []
    register_startup_check(lambda: ran.append(1))
    startup_checks_and_init()
    assert ran == [1]


async def test_inside_a_loop_the_synchronous_function_names_what_to_await() -> None:
    with pytest.raises(RuntimeError, match='await prestartup'):
        startup_checks_and_init()


async def test_an_error_in_a_check_itself_is_raised_as_it_is() -> None:
    @register_startup_check
    def broken() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await run_startup_checks_and_init()
