"""The public names of the package: what ``import learning_observer_kvs`` gives."""

from __future__ import annotations

import pydoc

import pytest

import learning_observer_kvs
from learning_observer_kvs import errors, kvs, plugin
from learning_observer_kvs.stores import base


def test_every_public_name_is_there() -> None:
    assert [name for name in learning_observer_kvs.__all__ if not hasattr(learning_observer_kvs, name)] == []
    assert len(set(learning_observer_kvs.__all__)) == len(learning_observer_kvs.__all__)


@pytest.mark.parametrize(
    ('name', 'module'),
    [
        ('KVS', kvs),
        ('KVSRouter', kvs),
        ('Store', base),
        ('MISSING', base),
        ('KVS_KEY', plugin),
        ('AUTHORIZE_KEY', plugin),
        ('setup', plugin),
        ('startup_hook', plugin),
    ],
)
def test_a_public_name_is_the_object_of_its_module(name: str, module: object) -> None:
    assert name in learning_observer_kvs.__all__
    assert getattr(learning_observer_kvs, name) is getattr(module, name)


def error_classes() -> list[type[errors.KVSError]]:
    return [found for found in vars(errors).values() if isinstance(found, type) and issubclass(found, errors.KVSError)]


@pytest.mark.parametrize('error', error_classes(), ids=lambda error: error.__name__)
def test_every_error_is_public_and_drawn_in_the_tree(error: type[errors.KVSError]) -> None:
    assert getattr(learning_observer_kvs, error.__name__) is error
    assert error.__name__ in learning_observer_kvs.__all__
    drawn = [line.lstrip(' ├└│─').split(' ')[0] for line in (errors.__doc__ or '').splitlines()]
    assert drawn.count(error.__name__) == 1


def test_help_shows_an_example_and_the_public_names() -> None:
    text = pydoc.plain(pydoc.render_doc(learning_observer_kvs))
    assert "learning_observer_kvs.setup(app, 'creds.yaml', authorize=is_admin)" in text
    for name in set(learning_observer_kvs.__all__) - {'__version__'}:
        assert name in text
