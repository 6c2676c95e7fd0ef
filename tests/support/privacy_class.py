"""A class of thirty students whose data lies wherever Learning Observer keeps some, and a server that buffers."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from learning_observer_kvs import failed_events
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.replay import study_log
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stream_analytics.fields import EventField, KeyField, Scope
from learning_observer_kvs.stream_analytics.helpers import kvs_pipeline

NAMES = [
    *('Ada', 'Ben', 'Chloé', 'Dmitri', 'Eve', 'Fatima', 'Gus', 'Håkon', 'Ines', 'José', 'Kim', 'Luz', 'Mia', 'Noor'),
    *('Ola', 'Pía', 'Quinn', 'Rosa', 'Søren', 'Tâm', 'Uma', 'Vera', 'Wen', 'Xena', 'Yusuf', 'Zoë', 'Anouk', 'Björn'),
    *('Cem', 'Dana'),
]
STUDENTS = [f'ls-{quote(name)}' for name in NAMES]
"""As they are in keys: percent-encoded."""

GONE = 'ls-Jos%C3%A9'
ADDRESS = 'jose.ruiz@school.example'
GOOGLE_ID = '104729000000000000009'
TRACES = [b'ls-Jos', b'ls-45-Jos', b'jose.ruiz', b'jose-46-ruiz', GOOGLE_ID.encode()]
"""What is left of the student in any encoding, and of no other."""

INTERVAL = 0.3


def address_of(student: str) -> str:
    return ADDRESS if student == GONE else f'{quote(student[3:]).lower()}@school.example'


def google_id(student: str) -> str:
    return f'104729{STUDENTS.index(student):015}'


@kvs_pipeline(
    null_state={'text': ''},
    scope=Scope([KeyField.STUDENT, EventField('doc_id')]),
    module_override='writing',
    qualname_override='essay',
)
async def essay(event: Any, state: Any) -> Any:
    """Everything that was written: the old texts of a state are long, too."""
    state['text'] += event['client']['s']
    return state, {'words': len(state['text'].split()), 'who': event['metadata']['auth']['safe_user_id']}


def event(student: str, number: int, at: float) -> dict[str, Any]:
    auth = {'user_id': google_id(student), 'safe_user_id': student, 'email': address_of(student)}
    text = f'My name is {student}, line {number}. ' * 40
    client = {'event': 'keystroke', 's': text, 'doc_id': f'doc-of-{STUDENTS.index(student)}', 'auth': auth}
    return {'client': client, 'server': {'time': at}, 'metadata': {'auth': auth}}


async def process(router: KVSRouter, student: str, numbers: range, at: float) -> None:
    for number in numbers:
        found = event(student, number, at + number)
        process_event = await essay(found['metadata'], router=router)
        await process_event(found, {'doc_id': found['client']['doc_id']})


async def fill(folder: Path, router: KVSRouter, at: float) -> None:
    """Write whatever there may be about each student, into stores and files."""
    logs, failed = folder / 'logs', folder / 'failed'
    logs.mkdir()
    for student in STUDENTS:
        await process(router, student, range(3), at)
        lines = b''.join(study_log.format_line(event(student, number, at + number), 'now') for number in range(3))
        name = f'2026-{STUDENTS.index(student)}.study.log'
        if STUDENTS.index(student) % 2:
            (logs / f'{name}.gz').write_bytes(gzip.compress(lines))
        else:
            (logs / name).write_bytes(lines)
        failed_events.record(
            event(student, 9, at),
            OSError('no room'),
            reducer='writing.essay',
            keys=[f'Internal,writing.essay,STUDENT:{student}'],
            folder=failed,
            at=datetime.fromtimestamp(at, UTC),
        )
    everyone = [event(student, 5, at) for student in STUDENTS]
    for name, opened in (('class.study.log', open), ('class.study.log.gz', gzip.open)):
        with opened(logs / name, 'wb') as file:
            file.write(b''.join(study_log.format_line(found, 'now') for found in everyone))
    (failed / 'critical-error-1.tb').write_text(json.dumps(event(GONE, 1, at)) + '\nTraceback:\nValueError: no\n')
    roster = [
        {'userId': google_id(one), 'profile': {'id': google_id(one), 'emailAddress': address_of(one)}, 'id': one}
        for one in STUDENTS
    ]
    entries: dict[str, Any] = {
        'roster:7b': {'course': '7b', 'students': roster},
        'members:7b': STUDENTS,
        **{f'email-studentID-mapping:{address_of(one)}': one for one in STUDENTS},
        **{f'google_stored_auth:{google_id(one)}': {'Authorization': f'Bearer {one}'} for one in STUDENTS},
        **{
            json.dumps(['writing.summary', {'student': one, 'essay': f'I am {one}'}]): {'summary': one}
            for one in STUDENTS
        },
    }
    for key, value in entries.items():  # one by one: in a cluster they are in different slots
        await router().set(key, value)


async def others(store: Store) -> dict[str, bytes | None]:
    """The bytes of each key of the others, and of what they share without the student's own item."""
    keys = [key for key in await store.keys() if not any(trace.decode() in key for trace in TRACES)]
    keys = [key for key in keys if key not in ('roster:7b', 'members:7b')]
    return dict(zip(keys, await store.read_bytes(keys), strict=True))


def traces_in(folder: Path) -> list[str]:
    """Where something is left of the student: as ``grep -r`` finds it, in compressed files too, and in names."""
    found = [str(path) for path in sorted(folder.rglob('*')) if any(trace in os.fsencode(path) for trace in TRACES)]
    for path in folder.rglob('*.gz'):
        found += [f'{path}: {trace!r}' for trace in TRACES if trace in gzip.decompress(path.read_bytes())]
    words = [word for trace in TRACES for word in ('-e', trace.decode())]
    grep = ['grep', '-r', '-a', '-l', '-F', *words, str(folder)]  # read here it would take SQLite's locks away
    return found + subprocess.run(grep, capture_output=True, text=True, check=False).stdout.splitlines()


SERVER = """
import asyncio, sys, time
from tests.support import privacy_class as c
from learning_observer_kvs.kvs import KVSRouter

async def main():
    async with KVSRouter.from_settings('creds.yaml') as router, router().changes():  # for a dashboard
        await c.process(router, c.GONE, range(10, 14), float(sys.argv[1]))
        await c.process(router, c.STUDENTS[0], range(10, 14), float(sys.argv[1]))
        print('ready', flush=True)
        while (line := await asyncio.to_thread(sys.stdin.readline)):
            await c.process(router, c.GONE, range(20, 21), time.time())
            await router().flush()
            print('done', flush=True)

asyncio.run(main())
"""


async def started(folder: Path, at: float) -> asyncio.subprocess.Process:
    """Start the server, which keeps events of the student and of another; a line makes the student return."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, '-W', 'error', '-c', SERVER, str(at)),
        cwd=folder,
        env=os.environ | {'PYTHONPATH': str(Path(__file__).parent.parent.parent)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b'ready\n'
    return process
