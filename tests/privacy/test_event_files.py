"""A student's lines in study logs and failed events: overwritten where they are, and nothing else is touched."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from learning_observer_kvs import failed_events
from learning_observer_kvs.cli.main import main
from learning_observer_kvs.errors import EventFileError
from learning_observer_kvs.identifiers import Ids
from learning_observer_kvs.privacy import event_files
from learning_observer_kvs.privacy.erasure import erase
from learning_observer_kvs.privacy.exporting import export
from learning_observer_kvs.privacy.search import find
from learning_observer_kvs.replay import study_log
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS

BOB = Ids(['bob', 'bob@x.example'])


def line(student: str, **client: Any) -> bytes:
    auth = {'safe_user_id': student}
    return study_log.format_line({'client': client, 'metadata': {'auth': auth}}, '2026-01-01')


def log_of(path: Path, *lines: bytes) -> Path:
    path.write_bytes(gzip.compress(b''.join(lines)) if path.suffix == '.gz' else b''.join(lines))
    return path


def content(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == '.gz' else path.read_bytes()


names = pytest.mark.parametrize('name', ['a.study.log', 'a.study.log.gz'])


@names
def test_lines_of_a_student_are_gone_and_all_others_are_as_they_were(tmp_path: Path, name: str) -> None:
    mine, others = line('bob', s='My essay'), [line('eve', n=1), line('bobby', n=2), b'not an event\n']
    log = log_of(tmp_path / name, mine, others[0], others[1], mine, others[2])
    log.chmod(0o640)
    before = log.stat()
    assert event_files.find(log, BOB) is not None
    assert event_files.erase(log, BOB) == 2
    assert b'essay' not in content(log)
    assert [found for found in content(log).splitlines(keepends=True) if found.strip()] == others
    assert log.stat().st_mode == before.st_mode
    assert event_files.find(log, BOB) is None
    assert event_files.erase(log, BOB) == 0


def test_a_program_that_appends_to_the_file_meanwhile_loses_nothing(tmp_path: Path) -> None:
    log = log_of(tmp_path / 'a.study.log', line('bob'), line('eve'))
    with log.open('ab', buffering=0) as appending:
        assert event_files.erase(log, BOB) == 1
        appending.write(line('ann'))
    assert [event['metadata']['auth']['safe_user_id'] for _, event in study_log.read(log)] == ['eve', 'ann']


@names
def test_a_log_of_the_student_alone_is_removed(tmp_path: Path, name: str) -> None:
    log = log_of(tmp_path / name, line('bob'), b'\n', line('bob%40x.example'))
    assert event_files.erase(log, BOB) == 2
    assert not log.exists()


def test_events_tell_what_else_the_student_is_called(tmp_path: Path) -> None:
    auth = {'safe_user_id': 'bob', 'user_id': '1047', 'email': 'BOB@x.example'}
    other = {'safe_user_id': 'eve', 'user_id': '1048'}
    lines = [study_log.format_line({'client': {'auth': each}}, 'now') for each in (auth, other)]
    found: set[str] = set()
    event_files.find(log_of(tmp_path / 'a.study.log', *lines), BOB, found.update)
    failed = failed_events.record({'client': {'auth': auth}}, OSError(), reducer='r', keys=['k'], folder=tmp_path)
    event_files.find(failed, Ids(['1047']), found.update)
    assert found == {'1047', 'bob', 'BOB@x.example'}


def test_failed_events_are_the_students_by_their_keys_or_by_the_event(tmp_path: Path) -> None:
    for keys, event in (
        (['Internal,m.r,STUDENT:bob'], {'client': {'s': 'secret one'}}),
        (['Internal,m.r,CLASS:c'], {'client': {'auth': {'user_id': 'bob@x.example'}, 's': 'secret two'}}),
        (['Internal,m.r,STUDENT:bob'], {1, 2}),
        (['Internal,m.r,STUDENT:eve'], {'client': {}}),
    ):
        path = failed_events.record(event, OSError('x'), reducer='m.r', keys=keys, folder=tmp_path)
    assert event_files.erase(path, BOB) == 3
    assert b'secret' not in path.read_bytes()
    assert [found.keys for found in failed_events.read(path) if isinstance(found, failed_events.FailedEvent)] == [
        ('Internal,m.r,STUDENT:eve',)
    ]
    failed_events.record(
        {'client': {}}, OSError('x'), reducer='m.r', keys=['Internal,m.r,STUDENT:bob'], folder=tmp_path
    )
    assert event_files.erase(path, Ids(['eve'])) == 1
    assert event_files.erase(path, BOB) == 1
    assert path.read_bytes() == b''  # it is there for those that append to it


def test_an_error_file_of_the_student_is_removed_and_that_of_another_is_not(tmp_path: Path) -> None:
    for name, student in (('critical-error-1.tb', 'bob'), ('critical-error-2.tb', 'eve')):
        event = {'client': {}, 'metadata': {'auth': {'safe_user_id': student}}}
        (tmp_path / name).write_text(json.dumps(event) + '\nTraceback:\nValueError\n')
        event_files.erase(tmp_path / name, BOB)
    assert [path.name for path in tmp_path.iterdir()] == ['critical-error-2.tb']


@pytest.mark.parametrize(
    ('name', 'text', 'parts'),
    [
        ('a.study.log', line('eve', peer='bob'), [(1,)]),
        ('a.study.log', b'{"torn": "bob\n', [(1,)]),
        ('notes.txt', b'first\nabout bob, and bobby\n', [(2,)]),
        ('critical-error-1.tb', b'not an event of bob', [()]),
        ('bob.study.log', line('eve'), [()]),
        ('bob-64-x-46-example.txt', b'', [()]),
    ],
)
def test_what_no_rule_is_known_for_is_found_and_left(
    tmp_path: Path, name: str, text: bytes, parts: list[tuple[int, ...]]
) -> None:
    (tmp_path / name).write_bytes(text)
    [path] = event_files.below([tmp_path])
    found = event_files.find(path, BOB)
    assert found is not None
    assert [(part.path, part.rule) for part in found.parts] == [(part, None) for part in parts]
    assert event_files.erase(path, BOB) == 0
    assert path.read_bytes() == text


@pytest.mark.parametrize('text', [b'bobby and xbob', b''])
def test_a_part_of_a_word_in_another_file_is_not_the_student(tmp_path: Path, text: bytes) -> None:
    (tmp_path / 'bobby.txt').write_bytes(text)
    assert event_files.find(tmp_path / 'bobby.txt', BOB) is None


def test_a_damaged_file_is_an_error_and_not_without_the_student(tmp_path: Path) -> None:
    log = log_of(tmp_path / 'a.study.log.gz', line('bob') * 500)
    log.write_bytes(log.read_bytes()[:-30])
    with pytest.raises(EventFileError, match='cannot be read'):
        event_files.find(log, BOB)
    with pytest.raises(EventFileError):
        event_files.erase(log, BOB)
    assert len(list(tmp_path.iterdir())) == 1


async def test_links_that_lead_out_of_the_folders_are_named_and_everything_else_is_searched(tmp_path: Path) -> None:
    logs, elsewhere = tmp_path / 'logs', tmp_path / 'elsewhere'
    logs.mkdir()
    elsewhere.mkdir()
    log_of(elsewhere / 'a.study.log', line('bob'))
    log_of(logs / 'z.study.log', line('bob'))
    (logs / 'folder').symlink_to(elsewhere)
    (logs / 'file.study.log').symlink_to(elsewhere / 'a.study.log')
    (logs / 'nowhere').symlink_to(tmp_path / 'missing')
    (logs / 'latest.study.log').symlink_to('z.study.log')
    missed: list[str] = []
    found = [place.name async for place in find({}, BOB, folders=[logs], on_missed=missed.append)]
    assert found == [str(logs / 'z.study.log')]
    assert [text.split(' is a link to ')[0] for text in missed] == [
        str(logs / name) for name in ('file.study.log', 'folder', 'nowhere')
    ]
    exported = await export({}, BOB, folders=[logs], not_reached=['the archive'])
    assert exported.not_reached == ['the archive', *missed]
    receipt = await erase({}, BOB, who='a test', folders=[logs], not_reached=['the archive'])
    assert receipt.is_complete
    assert receipt.not_reached == ['the archive', *missed]
    assert (elsewhere / 'a.study.log').read_bytes() == line('bob')
    missed.clear()
    found = [place.name async for place in find({}, BOB, folders=[logs, elsewhere], on_missed=missed.append)]
    assert found == [str(elsewhere / 'a.study.log')]
    assert len(missed) == 1  # the one that leads nowhere


def test_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert list(event_files.below([tmp_path / 'missing'])) == []


def test_a_link_that_is_given_itself_is_followed(tmp_path: Path) -> None:
    (tmp_path / 'logs').mkdir()
    log = log_of(tmp_path / 'logs' / 'a.study.log', line('bob'))
    for name, target in (('folder', 'logs'), ('file', log)):
        (tmp_path / name).symlink_to(target)
        [path] = event_files.below([tmp_path / name])
        assert event_files.find(path, BOB) is not None


def test_the_commands_go_on_at_a_link_and_name_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path('creds.yaml').write_text('kvs: {default: {type: sqlite, path: s}}\nprivacy: {study_logs: logs}')
    Path('logs').mkdir()
    log_of(Path('logs/z.study.log'), line('bob'))
    Path('logs/old').symlink_to('/elsewhere')
    assert CliRunner().invoke(main, ['set', 'k', '1']).exit_code == 0
    for words in (['find-student', 'bob'], ['export-student', 'bob'], ['erase-student', 'bob', '--yes']):
        for options in (['--json'], []) if words[0] == 'find-student' else ([],):
            result = CliRunner().invoke(main, [*words, *options])
            assert result.exit_code == 0, result.output
            assert 'logs/old is a link to /elsewhere' in result.output
    assert 'logs/old is a link' in Path('student-data.json').read_text()
    [receipt] = Path().glob('erasure-*.json')
    assert 'logs/old is a link' in receipt.read_text()


async def test_a_link_among_the_files_of_a_store_is_named(tmp_path: Path) -> None:
    missed: list[str] = []
    async with FilesystemKVS(tmp_path / 'files') as store:
        await store.set('k', 1)
        (tmp_path / 'files' / '_link').symlink_to('/elsewhere')
        assert [place async for place in find({'default': store}, BOB, on_missed=missed.append)] == []
    assert [Path(text.split(' is a link')[0]).name for text in missed] == ['_link']


@pytest.mark.parametrize('pack', [bz2.compress, lzma.compress])
async def test_a_file_that_cannot_be_unpacked_is_named_and_everything_else_is_searched(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    (tmp_path / 'a.study.log.old').write_bytes(pack(line('bob')))
    (tmp_path / 'b.study.log.1').write_bytes(gzip.compress(line('bob')))
    missed: list[str] = []
    found = [place.name async for place in find({}, BOB, folders=[tmp_path], on_missed=missed.append)]
    assert str(tmp_path / 'b.study.log.1') in found
    assert [text.partition(' is compressed')[0] for text in missed] == [str(tmp_path / 'a.study.log.old')]


@pytest.mark.parametrize('given', ['ls-José', 'ls-Jos%C3%A9', 'ls-Jose\u0301'])
@pytest.mark.parametrize(
    'form', ['ls-José', 'ls-Jos%C3%A9', 'ls-Jos%c3%a9', 'ls-Jos\\u00e9', 'ls-Jose\u0301', 'ls-45-José']
)
def test_in_a_torn_line_an_id_is_found_in_each_of_its_forms(tmp_path: Path, given: str, form: str) -> None:
    (tmp_path / 'a.study.log').write_bytes(f'{{"torn": "{form}'.encode())
    assert event_files.find(tmp_path / 'a.study.log', Ids([given])) is not None


async def test_a_file_that_looks_like_a_key_of_a_store_and_is_not_is_searched_too(tmp_path: Path) -> None:
    async with FilesystemKVS(tmp_path / 'files') as store:
        await store.set('k', 1)
        for name in ('Internal-44-m-46-r-44-STUDENT-58-bob-064-x', '_notes'):
            (tmp_path / 'files' / name).mkdir() if name[0] == '_' else (tmp_path / 'files' / name).write_text('1')
        (tmp_path / 'files' / '_notes' / 'x').write_text('"bob"')
        found = [place async for place in find({'default': store}, BOB)]
    assert [(Path(place.location).name, place.store) for place in found] == [('x', None)]
