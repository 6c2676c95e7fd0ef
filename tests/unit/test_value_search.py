"""A text is found wherever it is in a value, however the value is written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from learning_observer_kvs.debug.masking import Mask
from learning_observer_kvs.debug.values import search as value_search
from learning_observer_kvs.debug.values.nodes import root_of
from learning_observer_kvs.debug.values.search import matches

VALUE = {'a/b': ['x', {'Name "é"': 'line\nbreak', 'deep': [[['needle \\ N\u212aeedle']]]}], 'n': [1234.5, True, None]}


def found(text: bytes, wanted: str) -> list[tuple[str | int, ...]]:
    places, is_complete = matches(root_of('k', text, Mask()), wanted, Mask())
    assert is_complete
    return [place.path for place in places]


DEEP = ('a/b', 1, 'deep', 0, 0, 0)


@pytest.mark.parametrize(
    ('wanted', 'paths'),
    [
        ('NEEDLE', [DEEP]),
        ('nkee', [DEEP]),
        ('\\', [DEEP]),
        ('A/B', [('a/b',)]),
        ('line\nb', [('a/b', 1, 'Name "é"')]),
        ('"é"', [('a/b', 1, 'Name "é"')]),
        ('É', [('a/b', 1, 'Name "é"')]),
        ('4.5', [('n', 0)]),
        ('tru', [('n', 1)]),
        ('null', [('n', 2)]),
        ('nothing of it', []),
    ],
)
@pytest.mark.parametrize('is_ascii', [True, False])
def test_a_text_is_found_however_it_is_written(wanted: str, paths: Any, is_ascii: bool) -> None:
    text = json.dumps(VALUE, ensure_ascii=is_ascii).encode()
    assert found(text, wanted) == paths
    assert found(text.replace(b'needle', b'n\\u0065edle'), wanted) == paths


def test_what_does_not_have_the_text_is_not_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.dumps({'chars': [[number, 'x'] for number in range(10_000)]}).encode()
    root = root_of('k', text, Mask())

    def items(*_: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(value_search.json_codec, 'items', items)  # type: ignore[attr-defined]
    assert matches(root, 'zebra', Mask()) == ([], True)
