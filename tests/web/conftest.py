"""A Redis server for pages of its keys, the settings of pages, and a browser's side of the demo server."""

import pytest

from learning_observer_kvs.debug import answers
from tests.support.checks import patient_checks
from tests.support.debug_pages import refused, settings
from tests.support.demo import browser
from tests.support.redis_fixtures import redis, redis_server

__all__ = ['browser', 'patient_checks', 'redis', 'redis_server', 'refused', 'settings']


@pytest.fixture(autouse=True)
def patient_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages have a minute where a test gives them no less, however busy the machine is."""
    monkeypatch.setattr(answers, 'PAGE_SECONDS', 60.0)
