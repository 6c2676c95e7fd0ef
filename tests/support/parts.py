"""Parts of the machine that a test needs and that not every machine has."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(part: str) -> NoReturn:
    """Skip the test for want of a part; where ``CI`` is set, which is to run every test, fail it."""
    if os.environ.get('CI'):
        pytest.fail(f'{part}; with CI set this is an error', pytrace=False)
    pytest.skip(part)
