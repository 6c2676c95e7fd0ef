"""Settings from PMSS: ``.pmss`` files, and the settings object of a program that uses PMSS.

Everything in such a file is text. Of its rules those are ours whose selector is nothing but types: ``kvs default`` for
a store, ``redis_connection``, ``kvs_debug`` and ``config``. The package ``pmss`` is imported for a file only; of a
settings object the rulesets are walked, for it cannot tell which stores there are.
"""

from __future__ import annotations

import importlib
import io
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from typing import Any, NamedTuple, Protocol

from learning_observer_kvs.config.files import read_text, unreadable
from learning_observer_kvs.config.redaction import Text
from learning_observer_kvs.config.yaml_source import Path

DEPTHS = {'kvs': 3, 'redis_connection': 2, 'kvs_debug': 2, 'config': 2}
"""The blocks that may be there, and how long the path of a value in them is."""


class PmssSettings(Protocol):
    """What :class:`pmss.Settings` has: ``ruleset.rulesets``, each with ``results`` = ``{leaf: {selector: value}}``."""

    ruleset: Any


class Layer(NamedTuple):
    """Settings of one file or ruleset: nested, where each value is written, and the name of it all."""

    data: dict[str, Any]
    locations: dict[Path, str]
    name: str


def read_file(name: str) -> Layer:
    """The settings of a ``.pmss`` file.

    Raises:
        StartupCheck: it cannot be read, is not PMSS, or the package ``pmss`` is not there.
    """
    text = _without_block_comments(read_text(name))
    for number, line in enumerate(text.splitlines(), 1):
        if '://' in line and line.index('//') == line.index('://') + 1:
            raise unreadable(
                f'{name}:{number}',
                'has a URL, and PMSS takes // for the beginning of a comment',
                'Write the URL in the YAML file, or take it from the environment with ${NAME}.',
            )
    plain = re.sub('//.*', '', text)
    rules = _parsed(name, plain) if plain.strip() else {}
    return _layer(name, rules, _lines(plain))


def read_object(settings: PmssSettings) -> Iterator[Layer | str]:
    """The settings of a settings object, first the ones that win; of a YAML file that it has read the name."""
    yield from _rulesets(settings.ruleset)


def _rulesets(ruleset: Any) -> Iterator[Layer | str]:
    for inner in getattr(ruleset, 'rulesets', ()):
        yield from _rulesets(inner)
    results = getattr(ruleset, 'results', None)
    if not isinstance(results, Mapping):
        return  # variables of the environment: they have no selectors
    name = str(getattr(ruleset, 'filename', None) or 'PMSS')
    yield name if name.endswith(('.yaml', '.yml')) else _layer(name, results, {})


def _parsed(name: str, text: str) -> Mapping[str, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            loadfile, lexer = importlib.import_module('pmss.loadfile'), importlib.import_module('pmss.pmsslex').lexer
    except ImportError as error:
        message = f'needs the package pmss, which cannot be imported ({error})'
        raise unreadable(name, message, "Install it: pip install 'learning_observer_kvs[pmss]'.") from None
    said = io.StringIO()  # it prints what it stumbles over, passwords too
    with redirect_stdout(said), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        lexer.begin('INITIAL')  # a file that was no PMSS leaves it in the middle of a value
        try:
            rules: Mapping[str, Any] = loadfile.load_pmss_string(text, provenance=name, print_debug=False)
        except Exception:  # whatever its parser makes of a fault
            said.write('fault')
    if said.getvalue():
        hint = 'Look for a ; after every value, for { and }, and for names of anything but letters, digits and _.'
        raise unreadable(name, 'is not PMSS', hint)
    return rules


def _layer(name: str, rules: Mapping[str, Any], lines: Mapping[Path, int]) -> Layer:
    data: dict[str, Any] = {}
    locations: dict[Path, str] = {}
    for leaf, values in rules.items():
        for selector, value in values.items():
            path = (*_types(selector), leaf)
            if DEPTHS.get(path[0]) != len(path):
                continue
            inner = data
            for depth, step in enumerate(path[:-1], 1):
                inner = inner.setdefault(step, {})
                locations.setdefault(path[:depth], name)
            inner[leaf] = None if value == 'None' else Text.of(value) if isinstance(value, str) else value
            locations[path] = f'{name}:{lines[path]}' if path in lines else name
    return Layer(data, locations, name)


def _types(selector: Any) -> tuple[str, ...]:
    """The types that a selector is made of; nothing if it is made of anything else, too."""
    parts = getattr(selector, 'selectors', None) or [selector]
    types = tuple(getattr(part, 'element_type', None) for part in parts)
    return types if all(isinstance(word, str) for word in types) else ()  # type: ignore[return-value]


def _without_block_comments(text: str) -> str:
    return re.sub(r'/\*.*?\*/', lambda comment: '\n' * comment[0].count('\n'), text, flags=re.DOTALL)


_PIECE = re.compile(r'\s*(?:(?P<close>\})|(?P<selector>[^{}:;]*)\{|(?P<name>\w+)\s*:[^;]*;)')


def _lines(text: str) -> dict[Path, int]:
    """The line that each value begins on; of what is not read that way nothing."""
    found: dict[Path, int] = {}
    inside: list[list[str]] = []
    position = 0
    while piece := _PIECE.match(text, position):
        if piece['close']:
            if not inside:
                break
            inside.pop()
        elif piece['selector'] is not None:
            inside.append(piece['selector'].split())
        else:
            path = (*(word for words in inside for word in words), piece['name'])
            found[path] = text.count('\n', 0, piece.start('name')) + 1
        position = piece.end()
    return found
