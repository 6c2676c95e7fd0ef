"""Keys as file names: the exact names, their bounds, and the files of keys that have no readable one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning_observer_kvs import json_codec
from learning_observer_kvs.stores.filesystem.names import (
    DIGESTS,
    MAX_NAME,
    MAX_PATH,
    FileNames,
    is_digest,
    resembles_key,
    unwrap,
    wrap,
    wrapped_key,
)
from tests.support.generated import CHARACTERS, TEXT

any_key = st.text(CHARACTERS, min_size=1)


@pytest.mark.parametrize(
    ('key', 'flat', 'nested'),
    [
        ('a', 'a', 'a'),
        ('a,b:c', 'a-44-b-58-c', 'a-44-b-58-c'),
        ('a-b', 'a-45-b', 'a-45-b'),
        ('²℘', '²℘', '²℘'),
        ('\0', '-0-', '-0-'),
        ('\U0010ffff', '-1114111-', '-1114111-'),
        ('\ue000', '-57344-', '-57344-'),
        ('é', 'é', 'é'),
        ('a/b', 'a-47-b', '_a/b'),
        ('/b', '-47-b', '_/b'),
        ('a/_b', 'a-47-_b', '_a/-95-b'),
        ('_a', '_a', '-95-a'),
        ('a/b/c', 'a-47-b-47-c', '_a/_b/c'),
    ],
)
def test_names_are_those_of_the_store_of_learning_observer(key: str, flat: str, nested: str) -> None:
    for subdirs, path in ((False, flat), (True, nested)):
        names = FileNames(subdirs)
        assert names.path_of(key) == path
        assert names.key_of(path) == key


@pytest.mark.parametrize('key', ['', 'a/', '\u1100\u1161', '\u212b'])
def test_keys_without_a_readable_name_have_a_digest(key: str) -> None:
    assert is_digest(FileNames(subdirs=True).path_of(key))


@pytest.mark.parametrize(
    'path',
    [
        'a-',
        'a-4',
        '-97-',
        '-044-',
        '-44',
        'a--',
        'a-b-',
        '.a',
        'a b',
        '-55296-',
        '-57343-',
        '-1114112-',
        'a/b',
        '',
        'x-97-',
        'a-44-.b',
        'x-95-',
    ],
)
def test_a_file_that_no_key_is_written_to_has_no_key(path: str) -> None:
    assert FileNames(subdirs=False).key_of(path) is None


@pytest.mark.parametrize('path', ['_a', 'a/b', '_a/_b', '_a/', '_a/-97-', '_a-/b'])
def test_a_file_in_a_subdirectory_that_no_key_is_written_to_has_no_key(path: str) -> None:
    assert FileNames(subdirs=True).key_of(path) is None


def test_where_case_does_not_count_only_lower_case_ascii_is_readable() -> None:
    names = FileNames(subdirs=True, case_sensitive=False)
    assert names.path_of('a/b,c') == '_a/b-44-c'
    assert names.key_of('_a/b-44-c') == 'a/b,c'
    for key in ('A', 'a/B', 'B/a', 'é', 'ß'):
        assert is_digest(names.path_of(key))
        for subdirs in (False, True):
            path = FileNames(subdirs).path_of(key)
            assert FileNames(subdirs, case_sensitive=False).key_of(path) is None


def test_the_bounds_of_names_stay_as_they_are_for_another_bound_would_not_find_the_files_there_are() -> None:
    assert (MAX_NAME, MAX_PATH) == (240, 1024)


@pytest.mark.parametrize('character', ['x', 'é'])
def test_a_name_of_the_greatest_length_is_readable_and_a_longer_one_is_not(character: str) -> None:
    size = len(character.encode())
    for names in (FileNames(subdirs=False), FileNames(subdirs=True)):
        longest = character * (MAX_NAME // size)
        assert names.path_of(longest) == longest
        assert names.key_of(longest) == longest
        assert is_digest(names.path_of(longest + character))
        assert names.key_of(longest + character) is None
    directory = character * ((MAX_NAME - 1) // size)
    assert FileNames(subdirs=True).path_of(directory + '/a') == f'_{directory}/a'
    assert is_digest(FileNames(subdirs=True).path_of(f'{directory}{character}/a'))


def test_a_path_of_the_greatest_length_is_readable_and_a_longer_one_is_not() -> None:
    names = FileNames(subdirs=True)
    above = '_' + 'x' * 99 + '/'
    key = above.replace('_', '') * (MAX_PATH // 101)
    rest = 'y' * (MAX_PATH % 101)
    assert len(names.path_of(key + rest)) == MAX_PATH
    assert not is_digest(names.path_of(key + rest))
    assert is_digest(names.path_of(key + rest + 'y'))


@given(key=any_key, value=st.none() | st.integers() | TEXT | st.lists(st.integers()))
def test_the_file_of_a_digest_gives_its_key_and_its_value_back(key: str, value: json_codec.JSON) -> None:
    text = json_codec.indented(json_codec.encode(value))
    content = wrap(key, text)
    assert wrapped_key(content[: content.index(b'\n') + 1]) == key
    assert unwrap(key, content) == text
    assert unwrap(key + 'x', content) is None
    assert json_codec.decode(content) == {'key': key, 'value': value}


@pytest.mark.parametrize(
    'line',
    [
        b'',
        b'{"key": "a"',
        b'{"key": "a"\n',
        b'{"key": "a",',
        b'"key": "a",\n',
        b'{"key": 5,\n',
        b'{"key": a,\n',
        b'{"kex": "a",\n',
        b'{"key": "a";\n',
    ],
)
def test_a_first_line_in_another_form_gives_no_key(line: bytes) -> None:
    assert wrapped_key(line) is None


@pytest.mark.parametrize(
    ('content', 'text'),
    [
        (b'{"value":1,"key":"a"}', b'1\n'),
        (b'{\n  "key": "a",\n  "value": [1]\n}\n', b'[\n    1\n]\n'),
        (b'{"key": "a",\n"value": 1', None),
        (b'{"key": "a",\n"value": 1}', b'1\n'),
        (b'1}\n', None),
        (b'{"key": "b", "value": 1}', None),
        (b'{"key": "a", "value": 1, "more": 2}', None),
        (b'{"key": "a"}', None),
        (b'["key", "value"]', None),
        (b'{"key": "a", "value": 1e999}', None),
        (b'', None),
    ],
)
def test_the_file_of_a_digest_may_be_edited_and_is_rejected_if_it_is_not_complete_or_of_another_key(
    content: bytes, text: bytes | None
) -> None:
    assert unwrap('a', content) == (None if text is None else json_codec.indented(text))


def test_a_value_comes_back_from_the_file_of_a_digest_with_every_byte_that_was_written() -> None:
    assert unwrap('a', wrap('a', b'{"a":1}\n')) == b'{"a":1}\n'


@pytest.mark.parametrize(
    ('path', 'does'),
    [
        ('1', True),
        ('_a-44-b', True),
        ('²', True),
        ('\udc80\udcff', True),
        ('\udc80', True),
        ('_d/x', True),
        ('_d/_e/x', True),
        ('d/x', False),
        ('_d/e/x', False),
        ('_d e/x', False),
        ('a.b', False),
        ('a-b', False),
        ('.a', False),
    ],
)
def test_letters_digits_underscores_and_escapes_look_like_a_key(path: str, does: bool) -> None:
    assert resembles_key(path) is does


def test_only_a_name_of_64_hexadecimal_digits_below_the_directory_of_digests_is_a_digest() -> None:
    assert DIGESTS == '.lo_kvs/keys'
    assert is_digest(DIGESTS + '/' + '0a' * 32)
    for path in ('0a' * 32, f'{DIGESTS}/{"0a" * 31}', f'{DIGESTS}/{"0A" * 32}', f'x{DIGESTS}/{"0a" * 32}'):
        assert not is_digest(path)
        assert not is_digest(DIGESTS.replace('.', 'x') + '/' + '0a' * 32)


@pytest.mark.parametrize(
    ('prefix', 'flat', 'nested'),
    [
        ('', ('',), ('',)),
        ('a', ('a',), ('a', '_a')),
        ('a/', ('a-47-',), ('_a/',)),
        ('_a', ('_a',), ('-95-a', '__a')),
        ('a/b', ('a-47-b',), ('_a/b', '_a/_b')),
        ('a/b/', ('a-47-b-47-',), ('_a/_b/',)),
    ],
)
def test_the_path_prefixes_of_a_prefix_are_as_narrow_as_they_can_be(
    prefix: str, flat: tuple[str, ...], nested: tuple[str, ...]
) -> None:
    assert FileNames(subdirs=False).path_prefixes(prefix) == flat
    assert FileNames(subdirs=True).path_prefixes(prefix) == nested
