"""What the process of a task finds on its node: the address of a node, and a folder for its results."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def address(node: str) -> str:
    """The IPv4 address of a node; its name where that cannot be resolved here."""
    import _socket  # without all that `socket` wraps it in, which a shard would have to load

    try:
        return str(_socket.gethostbyname(node))
    except OSError:
        return node


def make_folder(own: Mapping[str, str]) -> None:
    """Make the folder of results that a task is told of in its variables `own`. Raises OSError where it cannot be."""
    try:
        os.makedirs(own["SFLOW_TASK_OUTPUT_DIR"], 0o700, exist_ok=True)
    except FileExistsError:  # a program has left a file of that name, and may have meant it
        pass
