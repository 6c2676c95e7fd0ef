"""A value as HTML: rows that expand and collapse. A macro of a template takes some times as long."""

from __future__ import annotations

from markupsafe import Markup, escape

from learning_observer_kvs.debug import paths, units
from learning_observer_kvs.debug.markup import Links, cut, step_text
from learning_observer_kvs.debug.paths import Place, Step
from learning_observer_kvs.debug.values.nodes import CONTAINERS, Node

MAX_EXPANDED = 20
"""Of how many items the own items are open at first."""

LONGEST_SHOWN = 200
"""How many characters of a name are shown."""

TABBED = ' tabindex="0"'

NOT_LINKED = '<span class="soft">Its path is too long for a page; "lo-kvs get" prints the value.</span>'


def size_of(node: Node) -> str:
    """Return how many items an object or a list has, or its bytes where they were not counted.

    Args:
        node: the object or list.
    """
    if node.size is None:
        return units.size(node.byte_count)
    unit = 'field' if node.kind == 'object' else 'item'
    return f'{node.size:,} {unit}{"" if node.size == 1 else "s"}'


class Trees:
    """Makes trees of values.

    Args:
        link: makes links.
    """

    def __init__(self, link: Links) -> None:
        self._link = link

    def __call__(self, node: Node, at: Place) -> Markup:
        """Return a value as rows that expand and collapse.

        Without scripts what is not sent is behind links to pages of its own.

        Args:
            node: the value, or a part of it.
            at: where it is.
        """
        parts = [f'<div class="tree" data-path="{escape(paths.path_text(at.path))}">']
        if node.children:
            self._rows(node, at, parts)
        else:
            parts += '<div class="row">', self._scalar(node, at), '</div>'
        parts.append('</div>')
        return Markup(''.join(parts))

    def _rows(self, node: Node, at: Place, parts: list[str]) -> None:
        """Append the items of a node to the parts of a page."""
        assert node.children is not None
        is_open = ' open' if len(node.children) <= MAX_EXPANDED else ''
        parts.append('<ul class="rows">\n')
        for child in node.children:
            assert child.step is not None
            marks = f' class="{child.mark}"' if child.mark else ''
            head = _mark(child) + _name(child.step)
            parts.append(f'<li data-step="{_step(child.step)}"{marks}>\n')
            if child.children:
                parts.append(
                    f'<details{is_open}><summary class="row">{head} <span class="size">{size_of(child)}</span> '
                    f'<span class="preview">{escape(child.preview)}</span></summary>\n'
                )
                self._rows(child, at.inside(child.step), parts)
                parts.append('</details>')
            elif child.kind in CONTAINERS and child.size != 0:
                parts.append(
                    f'<details class="closed"><summary class="row">{head} <span class="size">{size_of(child)}</span>'
                    f'</summary>\n{self._part(child, at.inside(child.step), "Open", 0) or NOT_LINKED}</details>'
                )
            else:
                parts += '<div class="row">', head, ' ', self._scalar(child, at, is_inside=True), '</div>'
            parts.append('</li>\n')
        if node.next_start is not None:
            rest = _rest(node, 'fields' if node.kind == 'object' else 'items')
            following = self._part(node, at, rest, node.next_start) or f'<span class="soft">{rest}</span>'
            parts.append(f'<li class="following">{following}</li>\n')
        parts.append('</ul>\n')

    def _scalar(self, node: Node, at: Place, *, is_inside: bool = False) -> str:
        """What a part without items is; ``at`` is the place of what it is in, or its own."""
        if node.is_hidden:
            return '<span class="v masked">(hidden)</span>'
        if node.kind in CONTAINERS:
            return f'<span class="size v">{size_of(node)}</span>'
        if node.kind != 'text':
            return f'<span class="v {node.kind}">{_escaped(node.token)}</span>'
        has_lines = '\n' in node.value
        text = (
            f'<span class="v text{" lines" if has_lines else ""}"{TABBED if has_lines else ""} '
            f'data-size="{node.size}">{escape(node.value)}</span>'
        )
        if node.next_start is None:
            return text
        rest = _rest(node, 'characters')
        place = at.inside(node.step) if is_inside and node.step is not None else at
        return f'{text} {self._part(node, place, rest, node.next_start) or f"""<span class="size">{rest}</span>"""}'

    def _part(self, node: Node, at: Place, text: str, start: int) -> Markup | None:
        """The link to the page of a part; ``None`` where its path is too long for one."""
        if node.name_is_cut or not at.is_linked:
            return None
        return self._link(text, 'kvs_debug_part', at.store, at.query(start), 'rest')


def _mark(node: Node) -> str:
    if not node.mark:
        return ''
    return f'<span class="mark">{"only here" if node.mark == "only" else "differs"}</span>'


def _escaped(text: str) -> str:
    return text if text.isalnum() else escape(text)


def _step(step: Step) -> str:
    if type(step) is str and step.isalnum() and step.isascii():
        return f'&#34;{step}&#34;'
    return escape(step_text(step))


def _name(step: Step) -> str:
    if type(step) is int:
        return f'<span class="name position">{step}</span>'
    return f'<span class="name">{_escaped(cut(str(step), LONGEST_SHOWN))}</span>'


def _rest(node: Node, what: str) -> str:
    assert node.size is not None
    assert node.next_start is not None
    return f'{node.size - node.next_start:,} more {what}'
