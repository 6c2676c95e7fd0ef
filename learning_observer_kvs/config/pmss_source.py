"""Settings from PMSS: ``.pmss`` files, and the settings object of a program that uses PMSS.

Every value in such a file is text. Rules are read if their selector consists of types alone: ``kvs default`` for a
store, ``redis_connection``, ``kvs_debug``, ``privacy``, ``retention`` and ``config``.
The package ``pmss`` is imported only to read a file; a
settings object is read ruleset by ruleset, because it cannot list the stores.
"""

from __future__ import annotations

import importlib
import io
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from typing import Any, Protocol

from learning_observer_kvs.config.raw_text import RawText
from learning_observer_kvs.config.source import Layer, SettingPath, dotted, read_text, unreadable
from learning_observer_kvs.problems import CATALOGUE, Problem

DEPTHS = {'kvs': 3, 'redis_connection': 2, 'kvs_debug': 2, 'privacy': 2, 'retention': 2, 'config': 2}
"""The blocks that are read, and the length of the path of a value in each."""


class PmssSettings(Protocol):
    """What is read of :class:`pmss.Settings`: ``ruleset.rulesets``, whose ``results`` are by leaf, then by selector."""

    ruleset: Any


def read_file(name: str) -> Layer:
    """Read the settings of a ``.pmss`` file.

    Args:
        name: its path.

    Returns:
        The settings with their lines; each value is a ``RawText``, or ``None``.

    Raises:
        StartupCheck: it cannot be read, is not PMSS, or the package ``pmss`` is not installed.
    """
    text = _without_block_comments(read_text(name))
    for number, line in enumerate(text.splitlines(), 1):
        if '://' in line and line.index('//') == line.index('://') + 1:
            raise unreadable(
                f'{name}:{number}',
                'has a URL, and in PMSS // begins a comment',
                'Write the URL in the YAML file, or in an environment variable that is used as ${NAME}.',
            )
    plain = re.sub('//.*', '', text)
    rules = _parse(name, plain) if plain.strip() else {}
    return _layer(name, rules, _lines_of(plain))


def read_object(settings: PmssSettings) -> Iterator[Layer | str]:
    """Read the settings of a settings object.

    Args:
        settings: what the program has made with PMSS.

    Yields:
        One layer for each of its rulesets, those that win first; for a YAML file that it has read, the file's name.
    """
    yield from _rulesets(settings.ruleset)


def _rulesets(ruleset: Any) -> Iterator[Layer | str]:
    for inner in getattr(ruleset, 'rulesets', ()):
        yield from _rulesets(inner)
    results = getattr(ruleset, 'results', None)
    if not isinstance(results, Mapping):
        return  # variables of the environment: they have no selectors
    name = str(getattr(ruleset, 'filename', None) or 'PMSS')
    yield name if name.endswith(('.yaml', '.yml')) else _layer(name, results, {})


def _parse(name: str, text: str) -> Mapping[str, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            loadfile, lexer = importlib.import_module('pmss.loadfile'), importlib.import_module('pmss.pmsslex').lexer
    except ImportError as error:
        message = f'needs the package pmss, which cannot be imported ({error})'
        raise unreadable(name, message, "Install it: pip install 'learning_observer_kvs[pmss]'.") from None
    printed = io.StringIO()  # its parser prints what it cannot parse, passwords too
    with redirect_stdout(printed), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        lexer.begin('INITIAL')  # a file that was not PMSS leaves it in the middle of a value
        try:
            rules: Mapping[str, Any] = loadfile.load_pmss_string(text, provenance=name)
        except Exception:  # its parser raises errors of many types
            printed.write('error')
    if printed.getvalue():
        hint = 'Look for a ; after every value, for { and }, and for names of anything but letters, digits and _.'
        raise unreadable(name, 'is not PMSS', hint)
    return rules


_QUOTED = re.compile(r'"[^"]*"|\'[^\']*\'')


def _layer(name: str, rules: Mapping[str, Any], lines: Mapping[SettingPath, int]) -> Layer:
    data: dict[str, Any] = {}
    locations: dict[SettingPath, str] = {}
    problems: list[Problem] = []
    for leaf, values in rules.items():
        for selector, value in values.items():
            path = (*_types(selector), leaf)
            if DEPTHS.get(path[0]) != len(path):
                continue
            inner = data
            for part in path[:-1]:
                inner = inner.setdefault(part, {})
            inner[leaf] = None if value == 'None' else RawText.of(value) if isinstance(value, str) else value
            locations[path] = f'{name}:{lines[path]}' if path in lines else name
            if isinstance(value, str) and _QUOTED.fullmatch(value):
                message, hint = 'is in quotes, which are part of a value in PMSS', CATALOGUE['KVS.W021'][1]
                problems.append(Problem('KVS.W021', locations[path], dotted(path), message, hint))
    return Layer(data, name, locations, problems)


def _types(selector: Any) -> tuple[str, ...]:
    """Return the types that a selector consists of; nothing if it has any other part."""
    parts = getattr(selector, 'selectors', None) or [selector]
    types = tuple(getattr(part, 'element_type', None) for part in parts)
    return types if all(isinstance(word, str) for word in types) else ()  # type: ignore[return-value]


def _without_block_comments(text: str) -> str:
    return re.sub(r'/\*.*?\*/', lambda comment: '\n' * comment[0].count('\n'), text, flags=re.DOTALL)


_TOKEN = re.compile(r'\s*(?:(?P<close>\})|(?P<selector>[^{}:;]*)\{|(?P<name>\w+)\s*:[^;]*;)')


def _lines_of(text: str) -> dict[SettingPath, int]:
    """Return the line on which each value begins, as far as it can be found; of text that the parser accepts."""
    found: dict[SettingPath, int] = {}
    inside: list[list[str]] = []
    position = 0
    while token := _TOKEN.match(text, position):
        if token['close']:
            inside.pop()
        elif token['selector'] is not None:
            inside.append(token['selector'].split())
        else:
            path = (*(word for words in inside for word in words), token['name'])
            found[path] = text.count('\n', 0, token.start('name')) + 1
        position = token.end()
    return found
