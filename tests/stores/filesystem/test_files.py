"""Requests that are written together, what the log of changes gets of them, and directories that were replaced."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs import json_codec
from learning_observer_kvs.errors import StoreUnavailable, WriteUnclear
from learning_observer_kvs.stores.filesystem import files as files_module
from learning_observer_kvs.stores.filesystem.directory import ChangeStep, Directory
from learning_observer_kvs.stores.filesystem.files import MAX_INDENTED, Files
from learning_observer_kvs.stores.filesystem.lock import LockHeld
from learning_observer_kvs.stores.filesystem.names import META_DIR
from learning_observer_kvs.stores.write_request import WriteRequest
from tests.support.files import open_files, plant, spares, tree

LONG = 'x' * 300
"""A key without a readable name."""


@pytest.fixture
def files(directory: Directory) -> Iterator[Files]:
    files = Files(directory, subdirs=False)
    yield files
    files.close()


def request(
    writes: dict[str, bytes | None], expected: dict[str, bytes | None] | None = None, *, clear: bool = False
) -> WriteRequest:
    return WriteRequest(writes, expected or {}, lambda outcome: None, clear=clear)


def results(files: Files, *requests: WriteRequest) -> list[object]:
    files.write(requests)
    assert [one.error for one in requests] == [None] * len(requests)
    return [one.result for one in requests]


# Requests that are written together


@pytest.mark.parametrize('key', ['k', LONG])
def test_each_request_of_a_batch_finds_what_those_before_it_write(files: Files, key: str) -> None:
    assert results(
        files,
        request({key: b'1'}, {key: None}),
        request({key: b'[2]'}, {key: b'1'}),
        request({key: b'3'}, {key: b'1'}),
        request({key: b'4'}, {key: None}),
        request({'other': b'1'}, {key: b'[2]'}),
    ) == [True, True, False, False, True]
    assert files.read([key, 'other']) == [json_codec.indented(b'[2]'), b'1\n']
    assert results(
        files,
        request({key: None}),
        request({key: None}),
        request({key: b'5'}, {key: None}),
        request({key: None}),
        request({key: b'6'}, {key: b'5'}),
        request({'none': None}),
    ) == [True, False, True, True, False, False]
    assert files.read([key, 'other']) == [None, b'1\n']


def test_a_request_is_left_out_if_any_of_its_conditions_does_not_hold(files: Files) -> None:
    results(files, request({'a': b'1', 'b': b'{"n":2}'}))
    texts: list[dict[str, bytes | None]] = [
        {'a': b'1', 'b': b'2'},
        {'b': b'2', 'a': b'1'},
        {'a': b'1', 'b': None},
        {'a': b'1', 'c': b'1'},
        {'c': None, 'a': None},
    ]
    for expected in texts:
        assert results(files, request({'c': b'3'}, expected)) == [False]
    for key in ('a', 'b', 'c'):
        assert results(files, request({'d': b'3'}, {key: b'"other"'})) == [False]
    assert files.read(['c', 'd']) == [None, None]
    assert results(files, request({'c': b'3'}, {'a': b'1', 'b': b'{"n":2}', 'c': None})) == [True]
    assert results(files, request({}, {'a': b'1', 'c': b'3'}), request({}, {'a': b'2'})) == [True, False]


def test_a_request_with_a_condition_changes_something_though_what_it_removes_is_not_there(files: Files) -> None:
    assert results(files, request({'a': None}, {'a': None}), request({'a': None, 'b': None})) == [True, False]
    results(files, request({'b': b'1'}))
    assert results(files, request({'a': None, 'b': None})) == [True]


def test_a_file_is_read_once_for_all_conditions_of_a_batch(
    files: Files, directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    results(files, request({'a': b'1'}))
    read = []

    def noting_read(path: str) -> bytes | None:
        read.append(path)
        return Directory.read(directory, path)

    monkeypatch.setattr(directory, 'read', noting_read)
    results(files, *(request({'b': b'%d' % number}, {'a': b'1'}) for number in range(3)))
    assert read.count('a') == 1


def test_what_is_written_after_everything_was_removed_stays(files: Files, root: Path) -> None:
    plant(root, {'foreign file': 'x'})
    results(files, request({'a': b'1', LONG: b'1'}))
    assert results(
        files, request({'b': b'1'}), request({}, clear=True), request({'c': b'1'}), request({}, {'a': None})
    ) == [True, True, True, True]
    assert files.scan('', None, 9, time.monotonic()) == (['c'], None)
    assert tree(root) == {'c': b'1\n', 'foreign file': b'x'}


def test_of_a_batch_whose_outcome_is_unclear_every_request_that_changes_something_says_so(
    files: Files, directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise WriteUnclear('perhaps')

    monkeypatch.setattr(directory, 'change', fail)
    refused = request({'a': b'1'}, {'a': b'2'})
    changing = [request({'a': b'1'}), request({'b': b'1'}), request({}, clear=True)]
    files.write([refused, *changing])
    assert (refused.error, refused.result) == (None, False)
    assert [str(one.error) for one in changing] == ['perhaps'] * 3


def test_requests_that_wait_for_a_lock_in_vain_fail_together_and_nothing_was_written(files: Files, root: Path) -> None:
    results(files, request({'a': b'1'}))
    requests = [request({'a': b'2'}), request({'b': b'2'})]
    with Directory(str(root)).write_locked():
        files.write(requests)
        with pytest.raises(LockHeld):
            files.write_at_once(requests)
    for one in requests:
        assert isinstance(one.error, LockHeld)
        assert one.error.retry
        assert 'Nothing was written' in str(one.error)
    assert files.read(['a', 'b']) == [b'1\n', None]


# Texts


def test_a_text_is_indented_up_to_a_size(files: Files, root: Path) -> None:
    longest = b'["%s"]' % (b'x' * (MAX_INDENTED - 4))
    results(files, request({'a': longest, 'b': longest.replace(b'x', b'xx', 1)}))
    assert (root / 'a').read_bytes() == json_codec.indented(longest)
    assert (root / 'b').read_bytes() == longest.replace(b'x', b'xx', 1) + b'\n'


def test_the_texts_that_are_kept_with_their_indented_form_are_bounded(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_module, 'MAX_RECENT', 300)  # five of these
    indented: list[bytes] = []
    indent = json_codec.indented

    def noting(text: bytes) -> bytes:
        indented.append(text)
        return indent(text)

    monkeypatch.setattr(json_codec, 'indented', noting)
    texts = [b'"a text of twenty-one %03d"' % number for number in range(100)]

    def is_kept(text: bytes) -> bool:
        before = len(indented)
        results(files, request({'k': text}))
        return len(indented) == before

    for number, text in enumerate(texts[:50]):  # a state is compared with once, and is not needed any more
        results(files, request({'k': text}, {'k': texts[number - 1] if number else None}))
    assert indented == texts[:50]
    assert results(files, request({'k': None}, {'k': texts[49]})) == [True]
    for first in (50, 60):
        assert not any(is_kept(text) for text in texts[first : first + 5])
        assert is_kept(texts[first])
    assert not any(is_kept(text) for text in texts[70:80])
    assert [is_kept(text) for text in texts[75:80]] == [True] * 5
    assert not is_kept(texts[74])
    assert not is_kept(b'"%s"' % (b'x' * 120))
    assert not is_kept(texts[79])


# What the log of changes gets


def test_the_log_of_changes_has_the_keys_that_are_written_and_no_others(files: Files) -> None:
    with files.changing() as directory:
        position = directory.change_file.register('r')

    def logged() -> list[str] | None:
        nonlocal position
        with files.changing() as directory:
            found = directory.change_file.read('r', position)
        assert found is not None
        position = found[0]
        return None if found[2] is None else list(found[2])

    results(
        files,
        request({'a': b'1', LONG: b'1'}),
        request({'refused': b'1'}, {'refused': b'2'}),
        request({'not there': None}),
        request({'b': b'1'}),
    )
    assert logged() == ['a', LONG, 'b']
    assert files.commit_hidden('record', b'{}', None)
    assert not files.commit_hidden('record', b'[]', None)
    assert files.commit_hidden('record', b'{}', b'{}')
    assert logged() == []
    results(files, request({'a': None}), request({'not there': None}))
    assert logged() == ['a']
    results(files, request({'c': b'1'}), request({}, clear=True), request({'d': b'1'}))
    assert logged() is None


def test_a_directory_is_unchanged_until_something_is_changed_or_left_halfway(
    files: Files, directory: Directory
) -> None:
    results(files, request({'a': b'1', 'b': b'1'}))
    count = directory.lock.count()
    assert files.is_unchanged(count) is True
    results(files, request({'a': b'2'}))
    assert files.is_unchanged(count) is False
    assert files.is_unchanged(directory.lock.count()) is True


def test_what_is_left_of_earlier_contents_is_removed(files: Files, root: Path) -> None:
    with files.changing() as directory:
        directory.change_file.register('r')
    for number in range(3):
        results(files, request({'a': b'%d' % number}))
    assert spares(root)
    files.scrub()
    assert set(os.listdir(root)) == {META_DIR, 'a'}
    assert os.listdir(root / META_DIR) == ['lock']


# Listing


def test_a_page_is_not_filled_with_keys_of_other_prefixes(files: Files) -> None:
    results(files, request({f'{letter}{number}': b'1' for letter in 'abc' for number in range(9)}))
    assert files.scan('b', None, 5, time.monotonic()) == (['b0', 'b1', 'b2', 'b3', 'b4'], 'b4')


def test_a_key_that_is_removed_while_it_is_listed_is_left_out(
    files: Files, directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    results(files, request({LONG: b'1', 'k': b'1'}))
    monkeypatch.setattr(directory, 'read_first_line', lambda path: None)
    assert files.scan('', None, 9, time.monotonic()) == (['k'], None)


# Directories that were replaced


CALLS: dict[str, Callable[[Files], object]] = {
    'read': lambda files: files.read(['a']),
    'read several': lambda files: files.read(['a', 'b']),
    'describe': lambda files: files.describe('a'),
    'probe': Files.probe,
    'scan': lambda files: files.scan('', None, 9, time.monotonic()),
    'unrecognized': lambda files: files.unrecognized(9),
    'is unchanged': lambda files: files.is_unchanged(b''),
    'scrub': Files.scrub,
    'read a record': lambda files: files.read_hidden('record'),
    'write a record': lambda files: files.commit_hidden('record', b'{}', None),
    'write': lambda files: files.write([request({'a': b'2'})]),
    'write at once': lambda files: files.write_at_once([request({'a': b'2'})]),
}


def replace(root: Path) -> None:
    """Move a directory away, and put another store in its place."""
    root.rename(root.with_name('moved'))
    plant(root, {'a': '3', f'{META_DIR}/lock': ''})


@pytest.mark.parametrize('call', CALLS.values(), ids=CALLS)
def test_no_call_uses_a_directory_that_another_one_took_the_place_of(
    files: Files, root: Path, call: Callable[[Files], object]
) -> None:
    results(files, request({'a': b'1'}))
    replace(root)
    with pytest.raises(StoreUnavailable, match='replaced'):
        call(files)
    assert tree(root) == {'a': b'3'}
    assert os.listdir(root / META_DIR) == ['lock']
    assert tree(root.with_name('moved')) == {'a': b'1\n'}


@pytest.mark.parametrize('fails', [False, True])
@pytest.mark.parametrize(
    ('call', 'during'), [(CALLS['read'], 'read_one'), (CALLS['write a record'], 'change'), (CALLS['write'], 'change')]
)
def test_a_call_during_which_a_directory_is_replaced_says_so(
    files: Files,
    directory: Directory,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[[Files], object],
    during: str,
    fails: bool,
) -> None:
    results(files, request({'a': b'1'}))
    method = getattr(directory, during)

    def replace_and_go_on(*arguments: Any, **options: Any) -> object:
        replace(root)
        if fails:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return method(*arguments, **options)

    monkeypatch.setattr(directory, during, replace_and_go_on)
    if call is CALLS['write'] and not fails:
        one = request({'a': b'2'})
        files.write([one])
        assert isinstance(one.error, WriteUnclear)
    else:
        with pytest.raises(StoreUnavailable, match='replaced'):
            call(files)


def test_a_lock_that_is_replaced_during_the_first_write_is_noticed(
    files: Files, directory: Directory, root: Path
) -> None:
    def replace_lock(step: ChangeStep) -> None:
        if step == 'rename':
            lock = root / META_DIR / 'lock'
            lock.rename(root / META_DIR / 'old')
            lock.touch()

    directory.before_step = replace_lock
    one = request({'a': b'1'})
    files.write([one])
    assert isinstance(one.error, WriteUnclear)


def test_a_store_that_is_closed_has_nothing_open(directory: Directory, root: Path) -> None:
    before = len(open_files())
    files = Files(directory, subdirs=False)
    results(files, request({'a': b'1', 'b': b'1'}))
    files.close()
    assert len(open_files()) == before
