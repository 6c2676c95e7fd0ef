"""The files that ``lo-kvs replay`` reads, told apart by their names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from learning_observer_kvs import failed_events
from learning_observer_kvs.errors import EventFileError
from learning_observer_kvs.replay import error_file, study_log


class Files(NamedTuple):
    """Files of events.

    Attributes:
        study_logs: files of all events of a connection.
        failures: files of events that failed, of this package and of the Learning Observer server.
    """

    study_logs: list[Path]
    failures: list[Path]


def find(paths: Iterable[Path]) -> Files:
    """Find files of events.

    Args:
        paths: files, and directories, which are searched with all below them. A file that is named is a study log,
            unless its name says that it holds failed events.

    Returns:
        The files, each once, those of a directory sorted.

    Raises:
        EventFileError: a path is neither a file nor a directory, or there is not a single such file.
    """
    files = Files([], [])
    found = {path.resolve(): path for given in paths for path in _below(given)}
    for path in found.values():
        (files.failures if _holds_failures(path) else files.study_logs).append(path)
    if not found:
        raise EventFileError(
            f'No file of events was found. The names of study logs end in {" or ".join(study_log.SUFFIXES)}; files of '
            f'failed events are {failed_events.PATTERN} and {error_file.PATTERN}.'
        )
    return files


def _below(path: Path) -> Iterator[Path]:
    if path.is_dir():
        inside = sorted(inner for inner in path.rglob('*') if inner.is_file())
        yield from (inner for inner in inside if inner.name.endswith(study_log.SUFFIXES) or _holds_failures(inner))
    elif path.is_file():
        yield path
    elif path.exists():
        raise EventFileError(f'{path} is not a file. A file is read twice: save what comes through a pipe.')
    else:
        raise EventFileError(f'{path}: there is no such file or directory.')


def _holds_failures(path: Path) -> bool:
    return path.match(failed_events.PATTERN) or path.match(error_file.PATTERN)
