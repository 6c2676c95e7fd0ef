"""Events that a reducer failed on, kept as study logs: one folder a reducer, one file a student.

``lo-kvs replay`` feeds them again once the reducer is mended. Reducers that took the event are not in that folder, so
nothing is counted twice.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from learning_observer_kvs.replay import study_log
from learning_observer_kvs.stream_analytics.helpers import Pipeline, fully_qualified_function_name

log = logging.getLogger(__name__)


class Failures:
    """The folder of such events; made when there is one.

    Args:
        folder: where it is.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()

    def keep(self, reducer: Pipeline, student: str, event: Mapping[str, Any], error: Exception) -> None:
        """Add an event to the study log of a reducer's failures, and say so in the server's log.

        It is on its way to the disk before this returns; it is called so rarely that the loop may wait for it.
        """
        path = self._folder / fully_qualified_function_name(reducer) / file_name(student)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open('ab') as file:
            file.write(study_log.format_line(event, datetime.now(UTC).isoformat()))
        log.error(
            'The reducer %s:%s failed on an event of %s. The event is kept in %s. When the reducer is mended: '
            'lo-kvs replay %s --reducer %s:%s --config creds.yaml, and remove the file.',
            *(reducer.__module__, reducer.__qualname__, student, path),
            *(path.parent, reducer.__module__, reducer.__qualname__),
            exc_info=error,
        )


def file_name(student: str) -> str:
    """A name that is readable where the student's is, of bounded length, and no other student's on any file system."""
    readable = quote(student, safe='', errors='replace')[:80]
    digest = hashlib.sha256(student.encode('utf-8', 'surrogatepass')).hexdigest()[:12]
    return f'{readable}-{digest}.study.log'
