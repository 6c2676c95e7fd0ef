"""Fixtures of the tests of the integration."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.runtime_host import Host


@pytest.fixture
def host(tmp_path: Path, installed: Path) -> Host:
    """The host beside the tests, with this package installed, in an empty working directory."""
    return Host(tmp_path, installed)
