"""The parts of a value, for pages that show what is open of it: of the rest nothing is decoded or sent.

Each part is masked as it would be inside the whole value, by its own name and by those of all that it is in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

from learning_observer_kvs import json_codec
from learning_observer_kvs.config.redaction import REDACTED
from learning_observer_kvs.debug.json_text import as_json
from learning_observer_kvs.debug.masking import Mask
from learning_observer_kvs.debug.paths import Path, Step, shown
from learning_observer_kvs.debug.views import NotFound

Kind = Literal['object', 'list', 'text', 'number', 'boolean', 'null']

CONTAINERS = ('object', 'list')

CHILDREN = 100
"""How many items of an object or a list are sent at once."""

ROWS = 400
"""About how many nodes are sent with the one that was asked for; a text counts once more for each 100 characters."""

DEPTH = 12
"""How many levels are sent with it."""

TEXT_CHARACTERS = 4000
"""How many characters of a text are sent among others; of one that is asked for alone ``PIECE_CHARACTERS``."""

PIECE_CHARACTERS = 1 << 16

LONGEST_NAME = 2000
"""How many characters of the name of a field are sent. What has a longer one cannot be asked for by the pages."""

DIGITS = 1 << 14
"""About how many characters the numbers have that are sent at once: each is turned into text again."""

COUNTED_BYTES = 1 << 20
"""The largest object or list whose items are counted while it is closed."""

PREVIEW_CHARACTERS = 80
"""How many characters of the items of a collapsed object or list are shown."""


@dataclass(slots=True)
class Node:
    """A part of a value.

    Attributes:
        step: its name in its object, or its position in its list; ``None`` for the value itself.
        kind: what it is; of what is masked ``text``.
        text: its JSON text, which stays in the process that takes the value apart.
        is_hidden: whether it is masked.
        size: how many items or characters it has; ``None`` for other kinds, and for what is too large to be counted.
        value: the number, the truth value, or so much of the text as is sent.
        start: the first item or character that is sent.
        next_start: the first one after those that are sent; ``None`` where there are no more.
        children: the items that are sent; ``None`` where none are.
        mark: how it differs from what it is compared with: ``changed``, ``only`` where that has no such part, or
            nothing.
        byte_count: how many bytes its JSON text has.
        name_is_cut: whether ``step`` is the beginning of its name alone, so that nothing inside of it is sent.
        token: a number, truth value or ``null`` as it is stored.
    """

    step: Step | None
    kind: Kind
    text: bytes
    is_hidden: bool = False
    size: int | None = None
    value: Any = None
    start: int = 0
    next_start: int | None = None
    children: list[Node] | None = field(default=None)
    mark: str = ''
    byte_count: int = 0
    name_is_cut: bool = False
    token: str = ''

    def __post_init__(self) -> None:
        self.byte_count = len(self.text)
        if self.kind in ('number', 'boolean', 'null'):
            self.token = self.text[:1000].decode('utf-8', 'replace')

    def __getstate__(self) -> tuple[None, dict[str, Any]]:
        return None, {name: getattr(self, name) for name in self.__slots__} | {'text': b''}

    def as_json(self) -> dict[str, Any]:
        """Return what is sent, with the children."""
        return {
            'name': self.step,
            'name_is_cut': self.name_is_cut,
            'kind': self.kind,
            'size': self.size,
            'bytes': self.byte_count,
            'value': self.value,
            'masked': self.is_hidden,
            'start': self.start,
            'next_start': self.next_start,
            'children': None if self.children is None else [child.as_json() for child in self.children],
        }

    @property
    def has_hidden(self) -> bool:
        """Whether it, or anything that is sent inside of it, is masked."""
        return self.is_hidden or any(child.has_hidden for child in self.children or ())

    @property
    def preview(self) -> str:
        """The first of its items, of those that are sent; nothing where all are objects and lists."""
        parts: list[str] = []
        for child in self.children or ():
            name = f'{child.step}: ' if isinstance(child.step, str) else ''
            shown = str(child.value) if child.kind == 'text' else child.token
            parts.append('…' if child.kind in CONTAINERS else (name + shown)[:PREVIEW_CHARACTERS])
            if sum(map(len, parts)) > PREVIEW_CHARACTERS:
                break
        return '' if set(parts) <= {'…'} else ', '.join(parts)[:PREVIEW_CHARACTERS]


def root_of(key: str, text: bytes, mask: Mask) -> Node:
    """Return a value as a node.

    Args:
        key: its key.
        text: the stored text.
        mask: what is not shown.

    Raises:
        CorruptValue: it is not JSON; the message is the rest of a sentence.
    """
    text = plain(text)
    return _hidden(None, text) if mask.hides(key) and text != b'null' else _node(None, text, mask)


def plain(text: bytes) -> bytes:
    """Return a stored text as JSON in UTF-8: what other programs write may be in UTF-16, or have a NaN.

    Args:
        text: the stored text.

    Raises:
        CorruptValue: it is not JSON; the message is the rest of a sentence.
    """
    return text.strip() if json_codec.is_plain(text) else as_json(json_codec.decode(text))


def node_at(root: Node, path: Path, mask: Mask) -> Node:
    """Return a part of a value.

    Args:
        root: the value.
        path: where the part is.
        mask: what is not shown, and nothing inside of it.

    Raises:
        NotFound: there is no such part, or it is inside of something that is masked.
        CorruptValue: the text is not JSON.
    """
    node = root
    for step in path:
        if node.is_hidden:
            raise NotFound('What is inside of a masked part is not shown.')
        items = json_codec.items(node.text) if node.kind in CONTAINERS else []
        try:
            item = items[step]  # type: ignore[index]  # a name in a list, or a position in an object, raises
        except (KeyError, IndexError, TypeError):
            raise NotFound(f'The value has no part {shown(path)}. It may have changed.') from None
        node = _node(step, bytes(item), mask)
    return node


def open_from(node: Node, mask: Mask, start: int = 0) -> Node:
    """Put into a node what is sent with it: its items from a position on, then theirs, as long as there is capacity.

    Args:
        node: the node, which is changed.
        mask: what is not shown.
        start: the first item; of a text, the first character.

    Returns:
        The node.

    Raises:
        CorruptValue: the text is not JSON.
    """
    if node.kind == 'text' and not node.is_hidden:
        _cut(node, json_codec.decode(node.text), start, PIECE_CHARACTERS)
        return node
    waiting = deque([(node, 0)])
    rows = ROWS
    while waiting and rows > 0:
        each, depth = waiting.popleft()
        if each.kind not in CONTAINERS or each.is_hidden or each.name_is_cut or depth >= DEPTH:
            continue
        children = open_items(each, mask, start if each is node else 0)
        rows -= sum(1 + len(child.value) // 100 if child.kind == 'text' else 1 for child in children)
        waiting.extend((child, depth + 1) for child in children)
    return node


def open_items(node: Node, mask: Mask, start: int = 0) -> list[Node]:
    """Put into an object or a list its items from a position on, and nothing that is inside of them.

    Args:
        node: the object or list, which is changed.
        mask: what is not shown.
        start: the first item.

    Returns:
        The items.

    Raises:
        CorruptValue: the text is not JSON.
    """
    items = json_codec.items(node.text)
    node.size, node.start = len(items), start
    found: Iterable[tuple[Step, Any]] = items.items() if isinstance(items, dict) else enumerate(items)
    node.children, digits = [], 0
    for step, item in islice(found, start, start + CHILDREN):
        child = _node(step, bytes(item), mask)
        if isinstance(step, str) and len(step) > LONGEST_NAME:
            child.step, child.name_is_cut = step[:LONGEST_NAME], True
        node.children.append(child)
        digits += len(child.text) if child.kind == 'number' else 0
        if digits > DIGITS:
            break
    end = start + len(node.children)
    node.next_start = end if end < len(items) else None
    return node.children


def _node(step: Step | None, text: bytes, mask: Mask) -> Node:
    text = text.strip()
    name = step if isinstance(step, str) else None
    match text[:1]:
        case b'{' | b'[':
            if mask.hides_item(name, ()):
                return _hidden(step, text)
            node = Node(step, 'object' if text[:1] == b'{' else 'list', text)
            if len(text) <= COUNTED_BYTES:
                node.size = len(json_codec.items(text))
            return node
        case b'"':
            whole = json_codec.decode(text)
            if mask.hides_item(name, whole):
                return _hidden(step, text)
            node = Node(step, 'text', text)
            _cut(node, whole, 0, TEXT_CHARACTERS)
            return node
    value = json_codec.decode(text)
    if value is not None and mask.hides_item(name, value):
        return _hidden(step, text)
    kind: Kind = 'null' if value is None else 'boolean' if isinstance(value, bool) else 'number'
    return Node(step, kind, text, value=value)


def _hidden(step: Step | None, text: bytes) -> Node:
    return Node(step, 'text', text, is_hidden=True, value=REDACTED)


def _cut(node: Node, text: str, start: int, most: int) -> None:
    node.size, node.start, node.value = len(text), start, text[start : start + most]
    node.next_start = start + most if start + most < len(text) else None


def compare(one: Node, other: Node) -> bool:
    """Mark what differs between two values, of that which is sent of both.

    Args:
        one: a value, whose nodes are marked.
        other: another one, likewise.

    Returns:
        Whether they were compared: whether both are objects with a field of the same name, or both are lists.
    """
    if one.kind != other.kind or one.kind not in CONTAINERS:
        return False
    if one.kind == 'object' and not _steps(one).keys() & _steps(other).keys():
        return False
    waiting = [(one, other)]
    while waiting:
        left, right = waiting.pop()
        of_left, of_right = _steps(left), _steps(right)
        for step in of_left.keys() & of_right.keys():
            pair = of_left[step], of_right[step]
            if pair[0].is_hidden or pair[1].is_hidden or pair[0].text == pair[1].text:
                continue
            if pair[0].kind == pair[1].kind and pair[0].children is not None and pair[1].children is not None:
                waiting.append(pair)
            else:
                pair[0].mark = pair[1].mark = 'changed'
        for these, those, whole in ((of_left, of_right, right), (of_right, of_left, left)):
            if whole.start == 0 and whole.next_start is None:  # all of it is sent
                for step in these.keys() - those.keys():
                    these[step].mark = 'only'
    return True


def _steps(node: Node) -> dict[Step | None, Node]:
    return {child.step: child for child in node.children or ()}
