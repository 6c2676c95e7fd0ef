"""A student's events in study logs, files of failed events, and other files beside them.

Lines of a student are overwritten with spaces where they are: the server may have the file open and go on at its end,
and nothing of them is left on the disk. Readers of events skip blank lines. A file that holds nothing else is removed.
"""

from __future__ import annotations

import fcntl
import functools
import gzip
import json
import os
import re
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.parse import quote

from learning_observer_kvs import failed_events, json_codec
from learning_observer_kvs.erasure_rules import Part, Rule
from learning_observer_kvs.errors import CorruptValue, EventFileError
from learning_observer_kvs.identifiers import Ids, canonical, file_name_form
from learning_observer_kvs.privacy.places import Place
from learning_observer_kvs.private_files import PRIVATE, create
from learning_observer_kvs.replay import error_file, study_log
from learning_observer_kvs.replay.events import student_ids

Kind = Literal['study log', 'failed events', 'error file', 'other']

_GZIP = b'\x1f\x8b'
_UNREADABLE = {
    b'BZh': 'bzip2',
    b'\xfd7zXZ': 'xz',
    b'\x28\xb5\x2f\xfd': 'zstd',
    b'\x04\x22\x4d\x18': 'lz4',
    b'PK\x03\x04': 'zip',
    b'7z\xbc\xaf\x27\x1c': '7z',
}
"""How compressed files begin in which nothing is found."""

_FILE_ESCAPE = re.compile(r'-([0-9]{1,5})-')
_NAME_ENDS = re.compile(r'[._\s]+')
ABSENT: Literal['absent'] = 'absent'

Judgement: TypeAlias = Rule | Literal['absent'] | None
"""How a line is erased; ``None`` if no rule is known; ``absent`` if it does not name the student."""


def below(
    folders: Iterable[str | os.PathLike[str]], on_missed: Callable[[str], None] = lambda text: None
) -> Iterator[Path]:
    """Yield the regular files of folders, with those in folders below; links in them are not followed.

    Args:
        folders: the folders; one need not be there. A file stands for itself. One that is a link is followed.
        on_missed: called with a sentence about each link that leads out of them.

    Yields:
        The files, each once.

    Raises:
        EventFileError: a folder cannot be read.
    """
    seen: set[str] = set()
    given = [os.path.realpath(folder) if os.path.isfile(folder) else os.path.abspath(folder) for folder in folders]
    real = [os.path.realpath(folder) for folder in given]
    for folder in given:
        for name in [folder] if os.path.isfile(folder) else _files_of(folder):
            if os.path.islink(name):
                if not any(_is_within(os.path.realpath(name), each) for each in real):
                    on_missed(not_followed(name))
            elif name not in seen and os.path.isfile(name):
                seen.add(name)
                yield Path(name)


def not_followed(link: str) -> str:
    """Return what is said about a link.

    Args:
        link: its path.
    """
    return f'{link} is a link to {os.readlink(link)}: name that among the folders, if it is to be searched.'


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip('/') + '/')


def _files_of(folder: str) -> Iterator[str]:
    """Everything in a folder and those below that is not itself a folder; links to folders, too."""
    for above, folders, names in os.walk(folder, onerror=failed_events.raise_unreadable):
        folders.sort()
        linked = [name for name in folders if os.path.islink(os.path.join(above, name))]
        yield from (os.path.join(above, name) for name in sorted([*names, *linked]))


def kind_of(path: Path) -> Kind:
    """Return what kind of file this is, by its name.

    Args:
        path: the file.
    """
    if path.name.endswith(study_log.SUFFIXES):
        return 'study log'
    if path.match(failed_events.PATTERN):
        return 'failed events'
    return 'error file' if path.match(error_file.PATTERN) else 'other'


def find(
    path: Path,
    ids: Ids,
    aliases: Callable[[Iterable[str]], None] = lambda found: None,
    on_missed: Callable[[str], None] = lambda text: None,
) -> Place | None:
    """Find the events of a student in a file, and whatever else of it names the student.

    Args:
        path: the file.
        ids: the student's.
        aliases: called with what events of the student call the student besides.
        on_missed: called with a sentence where nothing in the file can be found.

    Returns:
        The place; ``None`` if nothing in it names the student.

    Raises:
        EventFileError: it cannot be read.
    """
    parts: list[Part] = []
    is_alone = True
    kind = kind_of(path)
    if kind == 'error file':
        if (rule := _rule_of_error_file(path, ids, on_missed)) != ABSENT:
            return Place(str(path), (Part((), rule),))
    else:
        for number, line in enumerate(_lines(path, on_missed), 1):
            rule = rule_of_line(line, kind, ids)
            if rule != ABSENT:
                parts.append(Part((number,), rule))
            if rule == 'event':
                parsed = _parsed(line, kind) or {}
                known = {*student_ids(parsed), *student_ids(parsed.get('event'))}
                aliases({text for text in known if text.strip() and text not in ids})
            is_alone = is_alone and (rule == 'event' or not line.strip())
    if _names(path.name, ids) and not (parts and is_alone):
        parts.insert(0, Part((), None))
    return Place(str(path), tuple(parts)) if parts else None


def events_of(path: Path, ids: Ids) -> Iterator[Any]:
    """Yield the events of a student in a file, as they are.

    Args:
        path: the file.
        ids: the student's.

    Raises:
        EventFileError: it cannot be read.
    """
    kind = kind_of(path)
    if kind == 'error file':
        if _rule_of_error_file(path, ids) == 'error file':
            yield error_file.read(path).event
        return
    for line in _lines(path):
        if rule_of_line(line, kind, ids) == 'event':
            yield _parsed(line, kind)


def erase(path: Path, ids: Ids) -> int:
    """Take the events of a student out of a file.

    Args:
        path: the file.
        ids: the student's.

    Returns:
        How many there were.

    Raises:
        EventFileError: the file cannot be read, or changed.
    """
    kind = kind_of(path)
    try:
        if kind == 'other':
            return 0
        if kind == 'error file':
            if _rule_of_error_file(path, ids) != 'error file':
                return 0
            path.unlink()
            return 1
        return _rewrite(path, ids) if path.suffix == '.gz' else _overwrite(path, kind, ids)
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise EventFileError(f'{path} cannot be changed: {error.strerror or error}.') from None


def _overwrite(path: Path, kind: Kind, ids: Ids) -> int:
    """Overwrite the lines of a student with spaces; a file without any other ends empty, or is removed."""
    with open(path, 'r+b', opener=_no_link) as file:
        if kind == 'failed events':
            fcntl.flock(file, fcntl.LOCK_EX)  # as those who append to it do
        start, found, others = 0, [], False
        for line in file:
            if rule_of_line(line, kind, ids) == 'event':
                found.append((start, len(line.rstrip(b'\n'))))
            else:
                others = others or bool(line.strip())
            start += len(line)
        for position, size in found:
            os.pwrite(file.fileno(), b' ' * size, position)
        if found:
            os.fsync(file.fileno())
            if not others and kind == 'failed events':
                os.ftruncate(file.fileno(), 0)  # another process may be about to append to it
            elif not others:
                path.unlink()
    return len(found)


def _rewrite(path: Path, ids: Ids) -> int:
    """Write a compressed file anew without the lines of a student; nothing appends to such a file."""
    unfinished = path.with_name(f'.{path.name[:100]}.{os.getpid()}.new')
    count, others = 0, False
    number = create(str(unfinished), PRIVATE, str(path))
    try:
        with os.fdopen(number, 'wb') as plain, gzip.GzipFile('', 'wb', fileobj=plain, mtime=0) as target:
            for line in _lines(path):
                if rule_of_line(line, 'study log', ids) == 'event':
                    count += 1
                else:
                    target.write(line)
                    others = others or bool(line.strip())
        if not count:
            return 0
        if others:
            with open(unfinished, 'rb') as written:
                os.fsync(written.fileno())
            os.replace(unfinished, path)
        else:
            path.unlink()
        return count
    finally:
        with suppress(FileNotFoundError):
            unfinished.unlink()


def rule_of_line(line: bytes, kind: Kind, ids: Ids) -> Judgement:
    """Judge a line of a file of events.

    Args:
        line: the line.
        kind: of its file.
        ids: the student's.

    Returns:
        The rule ``event`` if it is an event of the student.
    """
    if not ids.may_be_in(line):
        return ABSENT
    parsed = None if kind == 'other' else _parsed(line, kind)
    if parsed is None:
        return None if _written_in(line, ids) else ABSENT
    if _is_of(parsed, ids):
        return 'event'
    if next(ids.in_value(parsed), None) is not None:
        return None
    return None if isinstance(parsed.get('not_json'), str) and _written_in(line, ids) else ABSENT


def _is_of(parsed: dict[str, Any], ids: Ids) -> bool:
    keys = parsed.get('keys')
    if isinstance(keys, list) and any(isinstance(key, str) and ids.is_student_of(key) for key in keys):
        return True
    return any(text in ids for event in (parsed, parsed.get('event')) for text in student_ids(event))


def _parsed(line: bytes, kind: Kind) -> dict[str, Any] | None:
    text = line
    if kind == 'study log':
        text = line.rpartition(b'\t')[0] or line
    try:
        found = json_codec.decode(text)
    except CorruptValue:
        return None
    return found if isinstance(found, dict) else None


def _rule_of_error_file(path: Path, ids: Ids, on_missed: Callable[[str], None] = lambda text: None) -> Judgement:
    text = b''.join(_lines(path, on_missed))
    if not ids.may_be_in(text):
        return ABSENT
    try:
        event = error_file.read(path).event
    except EventFileError:
        return None if _written_in(text, ids) else ABSENT
    if any(found in ids for found in student_ids(event)):
        return 'error file'
    return None if next(ids.in_value(event), None) is not None or _written_in(text, ids) else ABSENT


def _lines(path: Path, on_missed: Callable[[str], None] = lambda text: None) -> Iterator[bytes]:
    """The lines of a file, unpacked if it is compressed by gzip, whatever its name is."""
    try:
        with open(path, 'rb', opener=_no_link) as file:
            start = file.peek(8)
            for beginning, name in _UNREADABLE.items():
                if start.startswith(beginning):
                    on_missed(f'{path} is compressed ({name}): unpack it, and search that.')
            yield from gzip.GzipFile(fileobj=file) if start.startswith(_GZIP) else file
    except FileNotFoundError:
        return
    except (OSError, EOFError, zlib.error) as error:
        raise EventFileError(
            f'{path} cannot be read: {error}. Repair it, or move it away and look at it there.'
        ) from None


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)


def _names(name: str, ids: Ids) -> bool:
    """Whether the name of a file is, or has between its dots, one of the ids."""
    for suffix in (*study_log.SUFFIXES, Path(name).suffix):
        if suffix and name.endswith(suffix):
            name = name.removesuffix(suffix)
            break
    if any(text in ids or ids.is_file_name(text) for text in (name, *_NAME_ENDS.split(name))):
        return True
    return ids.are_in_key(_FILE_ESCAPE.sub(_file_character, name))


def _file_character(match: re.Match[str]) -> str:
    code = int(match[1])
    return chr(code) if code < 0xD800 else match[0]


def _written_in(text: bytes, ids: Ids) -> bool:
    """Whether an id, in one of its usual forms, stands in a text that is not JSON, between other characters."""
    return _pattern_of(ids.given).search(text) is not None


@functools.lru_cache(maxsize=16)  # for each line of a file
def _pattern_of(ids: tuple[str, ...]) -> re.Pattern[bytes]:
    plain = {form for given in ids for form in (given, canonical(given))}
    forms: set[bytes] = set()
    for given in plain | {unicodedata.normalize('NFD', form) for form in plain}:
        forms |= {json_codec.encode(given)[1:-1], json.dumps(given)[1:-1].encode(), file_name_form(given).encode()}
        forms |= {quote(given, safe=safe).encode() for safe in ('', '@')}
    either = b'|'.join(map(re.escape, forms))
    return re.compile(rb'(?<![A-Za-z0-9])(?:' + either + rb')(?![A-Za-z0-9])', re.IGNORECASE)
