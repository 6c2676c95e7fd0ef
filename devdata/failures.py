"""Events that a reducer failed on, kept as study logs: one directory for each reducer, one file for each student.

When the reducer is fixed, ``lo-kvs replay`` feeds them to it again. Reducers that processed the event are not in that
directory, so no event is counted twice.
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
    """A directory of failed events, which is made when there is one.

    Args:
        directory: its path.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory.absolute()

    def keep(self, reducer: Pipeline, student: str, event: Mapping[str, Any], error: Exception) -> None:
        """Append an event to the study log of a reducer's failures, and log an error.

        It writes in the event loop, because failures are rare.

        Args:
            reducer: the reducer that failed.
            student: the id of the event's student.
            event: the event.
            error: what the reducer or its store raised.

        Raises:
            OSError: the file cannot be written.
        """
        path = self._directory / fully_qualified_function_name(reducer) / file_name(student)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open('ab') as file:
            file.write(study_log.format_line(event, datetime.now(UTC).isoformat()))
        log.error(
            'The reducer %s:%s failed on an event of %s. The event is kept in %s. When the reducer is fixed, run '
            'lo-kvs replay %s --reducer %s:%s --config creds.yaml and remove the file.',
            *(reducer.__module__, reducer.__qualname__, student, path),
            *(path.parent, reducer.__module__, reducer.__qualname__),
            exc_info=error,
        )


def file_name(student: str) -> str:
    """Return the name of a student's file.

    Args:
        student: the student's id, any text.

    Returns:
        A name of bounded length, readable where the id is, which no other student has on any file system.
    """
    readable = quote(student, safe='', errors='replace')[:80]
    digest = hashlib.sha256(student.encode('utf-8', 'surrogatepass')).hexdigest()[:12]
    return f'{readable}-{digest}.study.log'
