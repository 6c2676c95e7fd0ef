"""SQLite files as other programs use them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any


def sql(path: Path, *statements: str) -> list[Any]:
    """Execute statements as another program would; the rows of the last one."""
    rows: list[Any] = []
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as connection:
        for statement in statements:
            rows = connection.execute(statement).fetchall()
    return rows
