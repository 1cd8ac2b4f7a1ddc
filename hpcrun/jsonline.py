"""One value as one line of JSON, without importing ``json``.

A shard's supervisor writes two such lines in its life. Importing ``json`` costs it 6 ms of CPU, as much as
starting Python at all, and a node may start thousands of shards; writing needs none of it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Value = None | bool | int | float | str | Sequence["Value"] | Mapping[str, "Value"]

try:
    from _json import encode_basestring_ascii as _quote
except ImportError:  # an interpreter without the C accelerator
    from json.encoder import py_encode_basestring_ascii as _quote


def dumps(value: Value) -> str:
    """`value` as compact ASCII JSON without a newline; the same text as ``json.dumps(value, separators=(",", ":"))``.

    Raises TypeError for what JSON cannot hold, ValueError for numbers that it has no word for.
    """
    if value is None:
        return "null"
    if isinstance(value, str):
        return _quote(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        if value - value != 0:
            raise ValueError(f"cannot write {value!r} as JSON")
        return repr(value)
    if isinstance(value, (list, tuple)):
        return "[" + ",".join([dumps(item) for item in value]) + "]"
    if isinstance(value, dict):
        return "{" + ",".join([_quote(key) + ":" + dumps(item) for key, item in value.items()]) + "}"
    raise TypeError(f"cannot write {type(value).__name__} as JSON")
