"""The sample of writing sessions: the generator makes it again to the byte, and it holds what real sessions hold."""

from __future__ import annotations

import gzip
import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from devdata.essays import ESSAYS
from devdata.sessions import Session, sample, units, write_sample
from learning_observer_kvs.replay import files, study_log

SAMPLE = Path(__file__).parent.parent.parent / 'devdata' / 'sample'
FILES = sorted(path.name for path in SAMPLE.iterdir())


@pytest.fixture(scope='module')
def sessions() -> dict[str, Session]:
    return sample(4, seed=1)


@pytest.fixture(scope='module')
def written(sessions: dict[str, Session], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('sample')
    write_sample(folder, sessions)
    return folder


def content(path: Path) -> bytes:
    """What a file holds; how tightly it is packed differs between versions of zlib."""
    return gzip.decompress(path.read_bytes()) if path.suffix == '.gz' else path.read_bytes()


@pytest.mark.parametrize('name', FILES)
def test_the_generator_makes_the_sample_again_to_the_byte(name: str, written: Path) -> None:
    assert sorted(path.name for path in written.iterdir()) == FILES
    assert content(written / name) == content(SAMPLE / name)


def test_another_seed_makes_other_sessions(sessions: dict[str, Session]) -> None:
    for name, session in sample(4, seed=2).items():
        assert session.texts.keys().isdisjoint(sessions[name].texts)
        assert session.events != sessions[name].events


def test_each_kind_of_event_occurs(sessions: dict[str, Session]) -> None:
    kinds = Counter(event['client']['event'] for session in sessions.values() for event in session.events)
    assert kinds.keys() == {
        *('google_docs_save', 'document_history', 'keystroke', 'mouseclick', 'visibility', 'attention'),
    }
    commands = Counter(command['ty'] for session in sessions.values() for command in commands_of(session))
    assert commands.keys() >= {'is', 'ds', 'mlti'}


def commands_of(session: Session) -> list[dict[str, Any]]:
    saves = [event['client'] for event in session.events if event['client']['event'] == 'google_docs_save']
    return [command for save in saves for bundle in save['bundles'] for command in bundle['commands']]


def test_sessions_hold_what_real_ones_hold(sessions: dict[str, Session]) -> None:
    texts = [text for session in sessions.values() for text in session.texts.values()]
    assert any(len(session.texts) > 1 for session in sessions.values()), 'a second document'
    assert any(not text.isascii() for text in texts), 'accents'
    assert any(units(text) > len(text) for text in texts), 'emoji'
    for session in sessions.values():
        times = [event['client']['timestamp'] for event in session.events]
        assert times == sorted(times)
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert max(gaps) > 5_000, 'a pause'
        assert sum(command['ty'] == 'ds' for command in commands_of(session)) > 5, 'corrections'


def test_every_line_of_the_sample_is_an_event_in_the_runtimes_shape() -> None:
    for path in files.find([SAMPLE]).study_logs:
        for number, event in study_log.read(path):
            client = event['client']
            assert client['auth']['safe_user_id'] == event['metadata']['auth']['safe_user_id'], number
            assert client['object']['id'] == client['doc_id']
            assert client['timestamp'] == client['metadata']['ts'] == round(event['server']['time'] * 1000)


def test_the_expected_texts_are_those_the_students_meant_but_for_their_afterthoughts() -> None:
    expected = json.loads((SAMPLE / 'expected.json').read_text())
    for entry, essay in zip(expected.values(), ESSAYS, strict=False):
        written = entry['text'].split()
        for word in ' '.join(essay.paragraphs).split():
            assert word in written


def test_no_two_students_of_a_class_of_twelve_write_the_same_essay() -> None:
    titles = [essay.title for essay in ESSAYS]
    assert len(titles) == len(set(titles)) >= 12
