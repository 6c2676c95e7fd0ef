"""A small class that writes, as study logs: for tests of reducers and dashboards. Nothing in it is of a person."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from learning_observer_kvs import json_codec

BEGAN = 1_700_000_000
"""When the class begins, in seconds since the epoch."""

TEXTS = (
    'The bell rings at eight. Half of the class is asleep.\nSchool should begin later.',
    'Our river is slow and brown, but in spring it takes the bridge with it.',
    'Dogs bark. Cats do not.',
)
"""What the students write."""

TYPED = 5
"""How many characters are saved at a time."""


class SampleStudent(NamedTuple):
    """A student of the sample class.

    Attributes:
        student: the student, as in keys.
        document: the document, as in keys.
        text: the text of the document at the end.
        events: the student's events, in order, as reducers get them.
    """

    student: str
    document: str
    text: str
    events: list[dict[str, Any]]


def sample_class(students: int = len(TEXTS)) -> list[SampleStudent]:
    """Return a class whose students each write a document; the same each time.

    Each begins with an event ``attention``. Then come events ``google_docs_save``, with five characters each.

    Args:
        students: how many; those after the third write what the first ones do, in documents of their own.
    """
    made = []
    for number in range(1, students + 1):
        text = TEXTS[(number - 1) % len(TEXTS)]
        student, document = f'ls-sample-{number:02}', f'sample-document-{number:02}'
        made.append(SampleStudent(student, document, text, list(_events(student, document, text))))
    return made


def write_study_logs(students: list[SampleStudent], folder: Path) -> list[Path]:
    """Write a study log for each student, as a server does.

    Args:
        students: the students.
        folder: where to; it is made if it is missing.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for each in students:
        lines = [json_codec.encode(event) + f'\t{event["server"]["time"]}\n'.encode() for event in each.events]
        files.append(folder / f'{each.student}.study.log')
        files[-1].write_bytes(b''.join(lines))
    return files


def _events(student: str, document: str, text: str) -> Iterator[dict[str, Any]]:
    yield _event(student, document, 0, 'attention', {'type': 'focusin'})
    for number, start in enumerate(range(0, len(text), TYPED), 1):
        command = {'ty': 'is', 'ibi': start + 1, 's': text[start : start + TYPED]}
        saved = {'rev': number, 'bundles': [{'commands': [command]}]}
        yield _event(student, document, number, 'google_docs_save', saved)


def _event(student: str, document: str, second: int, name: str, more: dict[str, Any]) -> dict[str, Any]:
    auth = {'sec': 'none', 'user_id': student, 'safe_user_id': student, 'providence': 'sample'}
    source = 'org.mitros.writing_analytics'
    client = {
        'event': name,
        'source': source,
        'timestamp': (BEGAN + second) * 1000,
        'doc_id': document,
        'object': {'type': 'document', 'title': 'Sample', 'id': document},
        'auth': auth,
        **more,
    }
    return {'client': client, 'server': {'time': float(BEGAN + second)}, 'metadata': {'source': source, 'auth': auth}}
