"""Makes writing sessions as a server would have recorded them: the same ones for the same seed, to the byte.

    python -m devdata.sessions --students 4 --out devdata/sample

A student opens an essay, types it letter by letter, pauses, makes mistakes and mends them, goes back to insert a word,
deletes a sentence and writes it again, pastes, looks away, and keeps notes in a second document.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import random
import string
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from devdata.essays import ESSAYS, NOTES, Essay
from devdata.reducers import apply_commands
from learning_observer_kvs.replay import study_log

SOURCE = 'org.mitros.writing_analytics'
BEGINNING = 1_700_000_000_000
"""When the first session begins: milliseconds of Unix time."""


class Session:
    """A session while it is written.

    Args:
        student: the safe id.
        seed: whatever is left to chance comes from it.

    Attributes:
        events: as a reducer receives them.
        texts: the text of each document as it stands now.
    """

    def __init__(self, student: str, seed: int) -> None:
        self.student = student
        self.chance = random.Random(seed)
        self.now = BEGINNING + self.chance.randrange(60_000)
        self.events: list[dict[str, Any]] = []
        self.texts: dict[str, str] = {}
        self._titles: dict[str, str] = {}
        self._revision = 0
        self._open = ''

    def open(self, title: str, past: str = '') -> str:
        """Open a new document, with the text it has already; its id."""
        doc_id = ''.join(self.chance.choices(string.ascii_letters + string.digits, k=28))
        self._titles[doc_id], self.texts[doc_id], self._open = title, '', doc_id
        if past:
            half = len(past) // 2
            changes = [[{'ty': 'is', 'ibi': 1, 's': past[:half]}, self.now, self.student, 1]]
            place = units(past[:half]) + 1
            changes.append([{'ty': 'mlti', 'mts': [{'ty': 'is', 'ibi': place, 's': past[half:]}]}, self.now, '', 2])
            self.texts[doc_id] = past
            self.emit('document_history', history={'changelog': changes})
        return doc_id

    def switch(self, doc_id: str) -> None:
        """Go to another document that is open."""
        self._open = doc_id
        self.emit('attention', type='focusin')
        self.wait(400, 3000)

    def emit(self, kind: str, **parts: Any) -> None:
        """Send an event."""
        doc_id = self._open
        auth = {'sec': 'none', 'user_id': self.student, 'providence': 'sample', 'safe_user_id': self.student}
        client = {
            'event': kind,
            'source': SOURCE,
            'version': '1.0.0',
            'timestamp': self.now,
            'metadata': {'ts': self.now},
            'doc_id': doc_id,
            'tab_id': 't.0',
            'url': f'https://docs.google.com/document/d/{doc_id}/edit',
            'object': {'type': 'document', 'title': self._titles[doc_id], 'id': doc_id},
            'auth': auth,
            **parts,
        }
        server = {'time': self.now / 1000, 'origin': '', 'agent': '', 'ip': '', 'executable': 'aio_webapp'}
        self.events.append({'client': client, 'server': server, 'metadata': {'source': SOURCE, 'auth': auth}})

    def wait(self, least: int, most: int) -> None:
        """Let milliseconds pass."""
        self.now += self.chance.randint(least, most)

    def save(self, *commands: dict[str, Any]) -> None:
        """Send commands that change the open document."""
        self._revision += 1
        self.texts[self._open] = apply_commands(self.texts[self._open], commands)
        self.emit('google_docs_save', rev=self._revision, bundles=[{'commands': list(commands)}])

    def insert(self, at: int, text: str) -> None:
        """Put a text in at a place, counted in characters from 0."""
        self.save({'ty': 'is', 'ibi': units(self.texts[self._open][:at]) + 1, 's': text})

    def delete(self, first: int, end: int) -> None:
        """Delete the characters from ``first`` to before ``end``."""
        text = self.texts[self._open]
        self.save({'ty': 'ds', 'si': units(text[:first]) + 1, 'ei': units(text[:end])})

    def type(self, text: str, at: int | None = None) -> None:
        """Type a text, at the end if no place is given: in small bursts, with mistakes and pauses."""
        place = len(self.texts[self._open]) if at is None else at
        rest = text
        while rest:
            burst, rest = (cut := self._burst(rest)), rest[len(cut) :]
            if burst.isalpha() and self.chance.random() < 0.05:
                wrong = self.chance.choice('aeinrst') * self.chance.randint(1, 2)
                self.insert(place, wrong)
                self.wait(150, 900)
                self.emit('keystroke', keystroke={'key': 'Backspace'})
                self.delete(place, place + len(wrong))
                self.wait(80, 300)
            if self.chance.random() < 0.08:
                self.emit('keystroke', keystroke={'key': burst[0]})
            self.insert(place, burst)
            place += len(burst)
            self.wait(60, 260)
            if burst.endswith('.'):
                self.wait(700, 6000)

    def _burst(self, rest: str) -> str:
        """One to three characters; a save of the editor holds what was typed since the last."""
        return rest[: self.chance.choices((1, 2, 3), (6, 3, 1))[0]]

    def look_away(self) -> None:
        """Leave the page for a while."""
        self.emit('visibility', state='hidden')
        self.wait(5_000, 150_000)
        self.emit('visibility', state='visible')
        self.emit('mouseclick', button=0)
        self.wait(300, 1500)

    def insert_a_word(self, word: str) -> None:
        """Go back into the text and put a word in between two others."""
        text = self.texts[self._open]
        gaps = [place for place, letter in enumerate(text) if letter == ' ']
        if gaps:
            self.emit('mouseclick', button=0)
            self.wait(400, 2000)
            self.type(' ' + word, self.chance.choice(gaps))

    def write_a_sentence_again(self) -> None:
        """Delete the last sentence and type it once more."""
        text = self.texts[self._open]
        first = text.rstrip('. \n').rfind('. ') + 2
        if first > 1:
            sentence = text[first:]
            self.wait(2000, 9000)
            self.delete(first, len(text))
            self.type(sentence)

    def paste(self, text: str) -> None:
        """Put a longer text in at once, with the commands of a paste."""
        at = units(self.texts[self._open]) + 1
        style = {'ty': 'as', 'st': 'text', 'si': at, 'ei': at + units(text) - 1}
        self.save({'ty': 'mlti', 'mts': [{'ty': 'is', 'ibi': at, 's': text}, style]})
        self.wait(500, 2000)


def units(text: str) -> int:
    """The length of a text as browsers count it, in UTF-16 units."""
    return len(text.encode('utf-16-le')) // 2


def write_session(student: str, seed: int, essay: Essay, *, with_notes: bool = False) -> Session:
    """A student writes an essay from beginning to end."""
    session = Session(student, seed)
    session_of_notes = ''
    if with_notes:
        session_of_notes = session.open(NOTES.title, past=NOTES.paragraphs[0] + '\n')
        session.wait(2000, 8000)
    document = session.open(essay.title)
    session.emit('attention', type='focusin')
    for number, paragraph in enumerate(essay.paragraphs):
        if number:
            session.type('\n')
        if number == 1 and with_notes:
            session.switch(session_of_notes)
            session.type(NOTES.paragraphs[1])
            session.switch(document)
        if number == len(essay.paragraphs) - 1:
            cut = paragraph.rfind(' ', 0, len(paragraph) // 3)
            session.paste(paragraph[:cut])
            session.type(paragraph[cut:])
        else:
            session.type(paragraph)
        if number % 2 == 0:
            session.look_away()
            session.insert_a_word(session.chance.choice(essay.afterthoughts))
        else:
            session.write_a_sentence_again()
    return session


def sample(students: int, seed: int) -> dict[str, Session]:
    """Sessions by file name; every third student keeps notes, every fourth file is compressed."""
    found = {}
    for number in range(students):
        student = f'ls-student-{number + 1:02d}'
        essay = ESSAYS[number % len(ESSAYS)]
        name = f'{student}.study.log' + ('.gz' if number % 4 == 3 else '')
        found[name] = write_session(student, seed * 1000 + number, essay, with_notes=number % 3 == 0)
    return found


def log_bytes(session: Session) -> bytes:
    """The session as a study log."""
    return b''.join(
        study_log.format_line(event, datetime.fromtimestamp(event['server']['time'], UTC).isoformat())
        for event in session.events
    )


def expected(session: Session) -> dict[str, Any]:
    """What must stand at the end: of the essay, and of every document."""
    doc_id = list(session.texts)[-1]
    return {
        'student': session.student,
        'doc_id': doc_id,
        'events': len(session.events),
        'text': session.texts[doc_id],
        'documents': session.texts,
    }


def write_sample(folder: Path, sessions: dict[str, Session]) -> None:
    """Write study logs and ``expected.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, session in sessions.items():
        (folder / name).write_bytes(_packed(log_bytes(session)) if name.endswith('.gz') else log_bytes(session))
    what = {name: expected(session) for name, session in sessions.items()}
    (folder / 'expected.json').write_text(json.dumps(what, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')


def _packed(data: bytes) -> bytes:
    """Compressed without a time, so that it is the same each time."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode='wb', mtime=0) as file:
        file.write(data)
    return packed.getvalue()


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description='Make writing sessions.')
    parser.add_argument('--students', type=int, default=4)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--out', type=Path, default=Path('devdata/sample'))
    arguments = parser.parse_args()
    write_sample(arguments.out, sample(arguments.students, arguments.seed))
