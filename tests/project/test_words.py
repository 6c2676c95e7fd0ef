"""One word for one thing: names and texts of the package use the words of the glossary, not those they replaced."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

from tests.project.sources import MODULES, ROOT, each, parsed

REPLACED_NAMES = {
    'fold folds folded folding': 'reduce, process, ReducerWorker',
    'gatherer carry carries carried': 'WriteQueue, write_batch',
    'lane lanes': 'queue',
    'guess guesses': 'cached, StateCache',
    'tell tells told': 'on_done, on_batch_done',
    'room rests due': 'capacity, idle, flush_requested',
    'renew renews': 'refresh',
    'patience': 'retry timeout',
    'physical': 'redis key',
    'examine finding findings': 'health check, Problem',
    'fault faults cure cures mend mends': 'message, hint, fix',
    'twin twins': 'counterpart',
    'walk walks portion portions': 'scan, chunk',
    'spoil spoils spoiled': 'corrupt',
    'lasting': 'persistent',
    'unmapped': 'keys that are not mapped to slots',
    'door doors floor house astray': 'integration, layer, package',
    'whoever nobody somebody': 'caller, process',
}
"""Words that no name is made of any more, and what is said instead."""

REPLACED_CLASSES = {
    'Folder': 'Directory',
    'Line': 'PinnedConnection',
    'Nodes': 'ClusterClient',
    'Reading': 'RedisReader',
    'Writing': 'RedisWriter',
}
"""Whole names; as parts of others these words have their ordinary meaning."""

REPLACED_TEXTS = {
    r'folds?|folded|folding': 'reduce, process',
    r'gatherers?': 'write queue',
    r'lanes?': 'queue',
    r'guess(es)?': 'cached text',
    r'patience': 'retry timeout',
    r'put off|puts off': 'buffered, pending, write-behind',
    r'half done': 'journal pending',
    r'cures?|mends?|mended': 'hint, fix',
    r'twins?': 'counterpart',
    r'portions?|walks?': 'chunk, scan',
    r'spoil(s|ed)?': 'corrupt',
    r'unmapped': 'not mapped',
    r'renews?|renewed': 'refresh',
    r'whoever|nobody|somebody': 'caller, process, no caller',
    r'doors?|house|rooms?|floors?': 'integration, package, module, layer',
    r'(is|are) told': 'gets an error, is reported',
    r'(?<!there )is no(?! longer| more| such)': 'is not a',
}
"""The same for docstrings, comments and messages, as patterns of whole words."""

SAMPLES = {'learning_observer_kvs/testing/keys.py', 'learning_observer_kvs/testing/values.py'}
"""Files whose strings are sample data."""


def given_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The names that a module gives, with their lines; those it uses were given elsewhere, or by other packages."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name


def words_of(name: str) -> list[str]:
    """The words of an identifier: ``_fold_OKAndFoldAgain`` has fold, ok, and, fold, again."""
    return [word.lower() for word in re.findall(r'[A-Z]+(?![a-z])|[A-Z]?[a-z]+', name)]


def test_an_identifier_is_split_into_its_words() -> None:
    assert words_of('_fold_OKAndFoldAgain2') == ['fold', 'ok', 'and', 'fold', 'again']
    assert words_of('MAX_LANES') == ['max', 'lanes']
    assert words_of('folderol') == ['folderol']


@each(MODULES)
def test_names_use_the_words_of_the_glossary(path: Path) -> None:
    instead = {
        word: words for replaced, words in REPLACED_NAMES.items() for word in replaced.split()
    } | REPLACED_CLASSES
    found = {
        f'{path.name}:{line} {name}: instead of "{word}": {instead[word]}'
        for line, name in [*given_names(parsed(path)), (1, path.stem)]
        for word in (name, *words_of(name))
        if word in instead
    }
    assert not found, '\n'.join(sorted(found))


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """The comments and the strings of a module, docstrings among them, with their lines."""
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    if str(path.relative_to(ROOT)) in SAMPLES:
        return
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from enumerate(node.value.splitlines(), node.lineno)


@each(MODULES)
def test_texts_use_the_words_of_the_glossary(path: Path) -> None:
    found = {
        f'{path.name}:{line} "{match.group()}", instead: {words}'
        for line, text in texts(path)
        for pattern, words in REPLACED_TEXTS.items()
        for match in re.finditer(rf'\b(?:{pattern})\b', text, re.IGNORECASE)
    }
    assert not found, '\n'.join(sorted(found))
