"""The writing sessions that tests replay: a folder of real ones where the environment names it, else the sample."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ.get('LO_KVS_SESSIONS') or Path(__file__).parent.parent.parent / 'devdata' / 'sample')


def expected() -> dict[str, dict[str, Any]]:
    """For each file of the folder the student, the document, and the text that must stand at the end."""
    found: dict[str, dict[str, Any]] = json.loads((FOLDER / 'expected.json').read_text())
    return found


def texts(entry: dict[str, Any]) -> dict[str, str]:
    """The expected text of each document of a session."""
    return entry.get('documents') or {entry['doc_id']: entry['text']}
