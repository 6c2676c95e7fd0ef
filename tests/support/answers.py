"""Answers that a test writes down, for what stands in for a server."""

from __future__ import annotations

import asyncio
from typing import Any

NEVER = object()
"""In the place of an answer: none comes."""


async def answer(found: Any) -> Any:
    """Return what is written down; an exception is raised, and after ``NEVER`` nothing comes."""
    if found is NEVER:
        await asyncio.get_running_loop().create_future()
    if isinstance(found, BaseException):
        raise found
    return found
