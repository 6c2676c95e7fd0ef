"""Simulated writing sessions, as a server would have recorded them; the same seed gives the same bytes.

    python -m devdata.sessions --students 4 --out devdata/sample

A student opens an essay, types it letter by letter, pauses, makes mistakes and corrects them, goes back to insert a
word, deletes a sentence and writes it again, pastes, leaves the page, and writes notes in a second document.
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
START_TIME = 1_700_000_000_000
"""When sessions begin, in milliseconds of Unix time."""


class Session:
    """A session that is being simulated.

    Args:
        student: the student's safe id.
        seed: of the random choices.

    Attributes:
        student: the student's safe id.
        random: makes the random choices.
        now: the time in the session, in milliseconds of Unix time.
        events: the events so far, as a reducer receives them.
        texts: the current text of each document by its id.
    """

    def __init__(self, student: str, seed: int) -> None:
        self.student = student
        self.random = random.Random(seed)
        self.now = START_TIME + self.random.randrange(60_000)
        self.events: list[dict[str, Any]] = []
        self.texts: dict[str, str] = {}
        self._titles: dict[str, str] = {}
        self._revision = 0
        self._open = ''

    def open(self, title: str, past: str = '') -> str:
        """Open a new document.

        Args:
            title: its title.
            past: the text that it has already.

        Returns:
            Its id.
        """
        doc_id = ''.join(self.random.choices(string.ascii_letters + string.digits, k=28))
        self._titles[doc_id], self.texts[doc_id], self._open = title, '', doc_id
        if past:
            half = len(past) // 2
            changes = [[{'ty': 'is', 'ibi': 1, 's': past[:half]}, self.now, self.student, 1]]
            position = units(past[:half]) + 1
            changes.append([{'ty': 'mlti', 'mts': [{'ty': 'is', 'ibi': position, 's': past[half:]}]}, self.now, '', 2])
            self.texts[doc_id] = past
            self.emit('document_history', history={'changelog': changes})
        return doc_id

    def switch(self, doc_id: str) -> None:
        """Go to another open document.

        Args:
            doc_id: its id.
        """
        self._open = doc_id
        self.emit('attention', type='focusin')
        self.wait(400, 3000)

    def emit(self, kind: str, **parts: Any) -> None:
        """Add an event.

        Args:
            kind: the value of ``event`` in its client part.
            parts: more of the client part.
        """
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
        """Let time pass.

        Args:
            least: milliseconds.
            most: milliseconds.
        """
        self.now += self.random.randint(least, most)

    def save(self, *commands: dict[str, Any]) -> None:
        """Change the open document, and add the event of it.

        Args:
            commands: as :func:`~devdata.reducers.apply_commands` takes them.
        """
        self._revision += 1
        self.texts[self._open] = apply_commands(self.texts[self._open], commands)
        self.emit('google_docs_save', rev=self._revision, bundles=[{'commands': list(commands)}])

    def insert(self, at: int, text: str) -> None:
        """Insert a text.

        Args:
            at: the position in characters, from 0.
            text: the text.
        """
        self.save({'ty': 'is', 'ibi': units(self.texts[self._open][:at]) + 1, 's': text})

    def delete(self, first: int, end: int) -> None:
        """Delete characters.

        Args:
            first: the position of the first one, from 0.
            end: the position after the last one.
        """
        text = self.texts[self._open]
        self.save({'ty': 'ds', 'si': units(text[:first]) + 1, 'ei': units(text[:end])})

    def type(self, text: str, at: int | None = None) -> None:
        """Type a text, in small bursts, with mistakes and pauses.

        Args:
            text: the text.
            at: the position in characters, from 0; by default the end.
        """
        position = len(self.texts[self._open]) if at is None else at
        rest = text
        while rest:
            burst, rest = (cut := self._burst(rest)), rest[len(cut) :]
            if burst.isalpha() and self.random.random() < 0.05:
                wrong = self.random.choice('aeinrst') * self.random.randint(1, 2)
                self.insert(position, wrong)
                self.wait(150, 900)
                self.emit('keystroke', keystroke={'key': 'Backspace'})
                self.delete(position, position + len(wrong))
                self.wait(80, 300)
            if self.random.random() < 0.08:
                self.emit('keystroke', keystroke={'key': burst[0]})
            self.insert(position, burst)
            position += len(burst)
            self.wait(60, 260)
            if burst.endswith('.'):
                self.wait(700, 6000)

    def _burst(self, rest: str) -> str:
        """One to three characters: what was typed between two saves of the editor."""
        return rest[: self.random.choices((1, 2, 3), (6, 3, 1))[0]]

    def look_away(self) -> None:
        """Leave the page for a while."""
        self.emit('visibility', state='hidden')
        self.wait(5_000, 150_000)
        self.emit('visibility', state='visible')
        self.emit('mouseclick', button=0)
        self.wait(300, 1500)

    def insert_a_word(self, word: str) -> None:
        """Go back into the text and insert a word between two others.

        Args:
            word: the word.
        """
        text = self.texts[self._open]
        gaps = [position for position, letter in enumerate(text) if letter == ' ']
        if gaps:
            self.emit('mouseclick', button=0)
            self.wait(400, 2000)
            self.type(' ' + word, self.random.choice(gaps))

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
        """Insert a longer text at the end at once, with the commands of a paste.

        Args:
            text: the text.
        """
        at = units(self.texts[self._open]) + 1
        style = {'ty': 'as', 'st': 'text', 'si': at, 'ei': at + units(text) - 1}
        self.save({'ty': 'mlti', 'mts': [{'ty': 'is', 'ibi': at, 's': text}, style]})
        self.wait(500, 2000)


def units(text: str) -> int:
    """Return the length of a text as browsers count it.

    Args:
        text: any text.

    Returns:
        Its length in UTF-16 units.
    """
    return len(text.encode('utf-16-le')) // 2


def write_session(student: str, seed: int, essay: Essay, *, with_notes: bool = False) -> Session:
    """Simulate a student who writes an essay from beginning to end.

    Args:
        student: the student's safe id.
        seed: of the random choices.
        essay: what the student writes.
        with_notes: whether the student also writes in a second document.

    Returns:
        The session.
    """
    session = Session(student, seed)
    notes = ''
    if with_notes:
        notes = session.open(NOTES.title, past=NOTES.paragraphs[0] + '\n')
        session.wait(2000, 8000)
    document = session.open(essay.title)
    session.emit('attention', type='focusin')
    for number, paragraph in enumerate(essay.paragraphs):
        if number:
            session.type('\n')
        if number == 1 and with_notes:
            session.switch(notes)
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
            session.insert_a_word(session.random.choice(essay.afterthoughts))
        else:
            session.write_a_sentence_again()
    return session


def sample(students: int, seed: int) -> dict[str, Session]:
    """Simulate a class; every third student writes notes, every fourth file is compressed.

    Args:
        students: how many students.
        seed: of the random choices.

    Returns:
        The sessions by file name.
    """
    found = {}
    for number in range(students):
        student = f'ls-student-{number + 1:02d}'
        essay = ESSAYS[number % len(ESSAYS)]
        name = f'{student}.study.log' + ('.gz' if number % 4 == 3 else '')
        found[name] = write_session(student, seed * 1000 + number, essay, with_notes=number % 3 == 0)
    return found


def log_bytes(session: Session) -> bytes:
    """Format a session as a study log.

    Args:
        session: the session.

    Returns:
        The study log, not compressed.
    """
    return b''.join(
        study_log.format_line(event, datetime.fromtimestamp(event['server']['time'], UTC).isoformat())
        for event in session.events
    )


def expected(session: Session) -> dict[str, Any]:
    """Return what the reducers must compute of a session.

    Args:
        session: the session.

    Returns:
        The student, the essay's document and text, the number of events, and the text of every document.
    """
    doc_id = list(session.texts)[-1]
    return {
        'student': session.student,
        'doc_id': doc_id,
        'events': len(session.events),
        'text': session.texts[doc_id],
        'documents': session.texts,
    }


def write_sample(folder: Path, sessions: dict[str, Session]) -> None:
    """Write study logs and ``expected.json``.

    Args:
        folder: the directory; it is made if need be.
        sessions: by file name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, session in sessions.items():
        (folder / name).write_bytes(_packed(log_bytes(session)) if name.endswith('.gz') else log_bytes(session))
    entries = {name: expected(session) for name, session in sessions.items()}
    (folder / 'expected.json').write_text(json.dumps(entries, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')


def _packed(data: bytes) -> bytes:
    """Compressed without a time stamp, so that the bytes are the same each time."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode='wb', mtime=0) as file:
        file.write(data)
    return packed.getvalue()


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description='Make simulated writing sessions.')
    parser.add_argument('--students', type=int, default=4)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--out', type=Path, default=Path('devdata/sample'))
    arguments = parser.parse_args()
    write_sample(arguments.out, sample(arguments.students, arguments.seed))
