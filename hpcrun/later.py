"""What is known in the allocation only, in texts that are decided before: names and addresses of its nodes. Pure.

A text holds a mark in their place, which `filled` replaces. The marks are characters of Unicode's private use area, so
that they survive being joined, cut and stripped like any other text.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_OPEN, _CLOSE = "\ue0f0", "\ue0f1"
FACTS = ("name", "ip_address")
"""What a mark can stand for."""


def mark(node: int, fact: str) -> str:
    """The mark for a `fact`, one of `FACTS`, about a node, by its place in the allocation's list of nodes."""
    return f"{_OPEN}{node}:{fact}{_CLOSE}"


def is_marked(text: str) -> bool:
    """Whether `text` holds a mark, or a piece of one."""
    return _OPEN in text or _CLOSE in text


def filled(text: str, names: Sequence[str], address: Callable[[str], str]) -> str:
    """`text` with every mark replaced; `names` are those of the allocation's nodes, in order, `address` finds one's."""
    return _replaced(text, lambda node, fact: names[node] if fact == "name" else address(names[node]))


def in_words(text: str) -> str:
    """`text` for people who look at a plan: ``<name of node 0>`` stands for each mark."""
    return _replaced(text, lambda node, fact: f"<{fact.replace('_', ' ')} of node {node}>")


def _replaced(text: str, by: Callable[[int, str], str]) -> str:
    if not is_marked(text):
        return text
    first, *rest = text.split(_OPEN)
    out = [first]
    for piece in rest:
        told, _, after = piece.partition(_CLOSE)
        node, _, fact = told.partition(":")
        out.append(by(int(node), fact) + after)
    return "".join(out)
