"""What a student is given: everything, of values shared with others only their own item, readable without a program."""

from __future__ import annotations

import json
import os
import stat
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from learning_observer_kvs import failed_events
from learning_observer_kvs.cli.main import main
from learning_observer_kvs.errors import DumpFileError
from learning_observer_kvs.identifiers import Ids
from learning_observer_kvs.privacy.exporting import Export, document, export, write
from learning_observer_kvs.privacy.page import POLICY, page
from learning_observer_kvs.replay import study_log
from learning_observer_kvs.stores.memory import InMemoryKVS
from learning_observer_kvs.stores.sqlite.store import SQLiteKVS
from tests.support.disks import files_of_at_most

EVIL = '</span><script>alert(1)</script><img src=x onerror=alert(2)>"\''
INTERNAL = 'Internal,m.r,EventField.doc_id:1AbC,STUDENT:ls-7'
EXTERNAL = 'External,m.r,EventField.doc_id:1AbC,STUDENT:ls-7'


def event(student: str) -> dict[str, Any]:
    return {'client': {'event': 'x', 'essay': EVIL}, 'metadata': {'auth': {'safe_user_id': student}}}


async def exported(tmp_path: Path) -> Export:
    (tmp_path / 'logs').mkdir()
    lines = [study_log.format_line(event(student), 'now') for student in ('ls-7', 'mia', 'ls-7')]
    (tmp_path / 'logs' / 'a.study.log').write_bytes(b''.join(lines))
    failed_events.record(event('ls-7'), OSError('x'), reducer='m.r', keys=[INTERNAL], folder=tmp_path / 'failed')
    async with SQLiteKVS(tmp_path / 's') as store:
        cache = InMemoryKVS()
        await store.multiset(
            {
                INTERNAL: {'text': EVIL, EVIL: [1, {}, None, True]},
                EXTERNAL: {'words': 3},
                'Internal,m.r,STUDENT:mia': {'text': 'of mia'},
                'roster:7': {'students': [{'id': 'ls-7', 'email': 'jo@x'}, {'id': 'mia', 'email': 'mia@x'}]},
            }
        )
        await cache.set('["f", "ls-7"]', 'computed')
        return await export(
            {'default': store, 'memoization': cache}, Ids(['ls-7']), folders=[tmp_path / 'logs', tmp_path / 'failed']
        )


async def test_an_export_has_every_state_with_its_reducer_document_and_time(tmp_path: Path) -> None:
    found = json.loads(document(await exported(tmp_path)))
    states = {state['state']: state for state in found['states']}
    assert states['internal']['value'] == {'text': EVIL, EVIL: [1, {}, None, True]}
    assert states['external']['value'] == {'words': 3}
    assert states['external']['reducer'] == 'm.r'
    assert states['external']['fields'] == {'EventField.doc_id': '1AbC', 'STUDENT': 'ls-7'}
    assert all(state['written'] is not None for state in states.values())


async def test_an_export_has_the_item_of_the_student_and_nothing_of_others(tmp_path: Path) -> None:
    found = await exported(tmp_path)
    entries = {(entry['key'], entry['path']): entry['value'] for entry in found.entries}
    assert entries == {
        ('roster:7', 'students[0]'): {'id': 'ls-7', 'email': 'jo@x'},
        ('["f", "ls-7"]', ''): 'computed',
    }
    assert found.possible_aliases == ['jo@x']
    assert {Path(path).name[:8]: len(events) for path, events in found.events.items()} == {'a.study.': 2, 'failed-e': 1}
    assert b'mia' not in document(found)
    assert b'mia' not in page(found)


@pytest.mark.parametrize(
    'later', [None, {'students': []}, {'students': [{'id': 'mia', 'essay': 'of mia'}]}, {'students': ['mia', 'ls-7']}]
)
async def test_a_value_that_changes_while_it_is_exported_gives_nothing_of_another(
    monkeypatch: pytest.MonkeyPatch, later: Any
) -> None:
    store = InMemoryKVS()
    await store.set('roster:7', {'students': [{'id': 'ls-7'}, {'id': 'mia'}]})
    await store.set(INTERNAL, {'text': 'x'})
    read = store.read_until

    async def read_until(*arguments: Any) -> Any:
        found = await read(*arguments)
        monkeypatch.undo()
        await store.remove(INTERNAL)
        await (store.remove('roster:7') if later is None else store.set('roster:7', later))
        return found

    monkeypatch.setattr(store, 'read_until', read_until)
    found = await export({'default': store}, Ids(['ls-7']))
    assert found.states == []
    assert [entry['value'] for entry in found.entries] == (['ls-7'] if 'ls-7' in str(later) else [])


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ''

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


async def test_the_page_shows_everything_and_has_no_script_whatever_a_student_wrote(tmp_path: Path) -> None:
    found = await exported(tmp_path)
    found.student = found.made = EVIL
    found.not_reached = found.aliases = [EVIL]
    html = page(found).decode()
    tags = Tags()
    tags.feed(html)
    assert not tags.tags & {'script', 'img', 'iframe', 'link', 'object', 'form', 'a', 'base'}
    assert not [name for name in tags.attributes if name.startswith('on') or name in ('src', 'href', 'style')]
    assert POLICY.replace("'", '&#x27;') in html
    assert html.index('Content-Security-Policy') < html.index('<title>')
    assert tags.text.count(EVIL) >= 7
    assert 'EventField.doc_id' in tags.text


async def test_the_page_of_a_value_as_deep_as_values_may_be(tmp_path: Path) -> None:
    value: Any = 'end'
    for _ in range(250):
        value = [value]
    made = page(
        Export('a', [], 'now', entries=[{'store': 's', 'key': 'k', 'path': '', 'written': None, 'value': value}])
    )
    assert made.count(b'<ol>') == 250


def test_the_files_are_for_their_owner_alone_and_replace_none(tmp_path: Path) -> None:
    write({tmp_path / 'a.json': b'1'})
    assert stat.S_IMODE((tmp_path / 'a.json').stat().st_mode) == 0o600
    with pytest.raises(DumpFileError, match='Give another path'):
        write({tmp_path / 'b.json': b'2', tmp_path / 'a.json': b'2'})
    assert (tmp_path / 'a.json').read_bytes() == b'1'
    assert os.listdir(tmp_path) == ['a.json']


def test_a_disk_without_space_leaves_none_of_the_files(tmp_path: Path) -> None:
    with files_of_at_most(1000), pytest.raises(DumpFileError, match=r'b\.html cannot be written: File too large'):
        write({tmp_path / 'b.json': b'1', tmp_path / 'b.html': b'x' * 2000})
    assert os.listdir(tmp_path) == []


@pytest.fixture
def _bob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path('creds.yaml').write_text('kvs: {default: {type: filesystem, path: f}}')
    assert CliRunner().invoke(main, ['set', 'Internal,m.r,STUDENT:bob', '1']).exit_code == 0
    Path('ex').mkdir()


@pytest.mark.usefixtures('_bob')
@pytest.mark.parametrize('name', ['b.html', 'b.json'])
def test_the_command_leaves_no_file_where_a_link_that_leads_nowhere_is_in_the_place_of_one(name: str) -> None:
    Path('ex', name).symlink_to('none')
    done = CliRunner().invoke(main, ['export-student', 'bob', '--to', 'ex/b.json'])
    assert done.exit_code == 2
    assert f'ex/{name} is there' in done.stderr
    assert os.listdir('ex') == [name]


@pytest.mark.usefixtures('_bob')
@pytest.mark.parametrize('folder', ['.', '/', 'ex', 'ex/', '..', 'ex/.'])
def test_the_command_does_not_take_a_folder_for_a_file(folder: str) -> None:
    done = CliRunner().invoke(main, ['export-student', 'bob', '--to', folder])
    assert done.exit_code == 2
    assert 'Invalid value for --to' in done.stderr
    assert sorted(os.listdir()) == ['creds.yaml', 'ex', 'f']


def test_the_command_writes_both_files_and_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path('creds.yaml').write_text('kvs: {default: {type: filesystem, path: f}, cache: {type: stub}}')
    run = CliRunner().invoke
    assert run(main, ['set', 'Internal,m.r,STUDENT:ls-7', '1']).exit_code == 0
    result = run(main, ['export-student', 'ls-7', '--to', 'out.json'])
    assert result.exit_code == 0, result.output
    assert result.stdout == f'{tmp_path}/out.json\n{tmp_path}/out.html\n'
    assert "Not searched: Store 'cache'" in result.stderr
    assert json.loads(Path('out.json').read_text())['states'][0]['value'] == 1
    assert run(main, ['export-student', 'ls-7', '--to', 'out.json']).exit_code == 2
    nothing = run(main, ['export-student', 'ls-8', '--to', 'other.json', '--json'])
    assert (nothing.exit_code, json.loads(nothing.stdout)['files']) == (1, [])
    assert not Path('other.json').exists()
    assert run(main, ['export-student', ' ']).exit_code == 2
