"""Sets of indexes, ``1,3-5,7`` to a list of numbers and back.

They name shards: on the command line (``hpcrun retry last 3,17,40-44``), in status tables, and in Slurm's job
arrays (``sbatch --array``, pending elements in ``squeue``). Only builtins are imported: see `hpcrun.hostlist`.
"""

from __future__ import annotations

from hpcrun.errors import IndexSetError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_INDEXES = 4_000_001
"""Most indexes of one set: the highest MaxArraySize of slurm.conf(5). An index itself may be larger."""

_LONG = 18
_WANTED = "an index, or a range such as 3-9 or 0-9:2"


def fold_indexes(indexes: Iterable[int]) -> str:
    """The indexes as Kubernetes writes a Job's ``completedIndexes``: ascending decimals separated by commas.

    Three or more in a row become a range, two do not: ``1,3-5,7`` and ``3,4``. Order and repeats in the input
    do not matter; no indexes give an empty string. Raises `IndexSetError` for a negative one. The rule is
    that of ``status.completedIndexes`` in the Kubernetes Job API.
    """
    ordered = sorted(set(indexes))
    if ordered and ordered[0] < 0:
        raise IndexSetError(str(ordered[0]), 1, f"the index {ordered[0]}", "indexes from 0 up")
    parts: list[str] = []
    start = 0
    for position in range(1, len(ordered) + 1):
        if position == len(ordered) or ordered[position] != ordered[position - 1] + 1:
            parts += _spell(ordered[start:position])
            start = position
    return ",".join(parts)


def parse_indexes(text: str) -> list[int]:
    """The indexes of a set, ascending, each once; empty text is the empty set.

    Takes ``3,17,40-44`` and the form of ``--array`` in sbatch(1): a step (``0-9:2`` is 0, 2, 4, 6, 8) and, at
    the very end, a throttle (``3-9%4``), which is read and ignored. Raises `IndexSetError`, naming the
    column, for anything else, spaces and sets of more than `MAX_INDEXES` included.
    """
    body, percent, throttle = text.partition("%")
    if percent and not (body and _is_number(throttle)):
        found = repr(percent + throttle)
        raise IndexSetError(text, len(body) + 1, found, "a throttle such as %4 behind the indexes")
    indexes: set[int] = set()
    total = 0
    column = 1
    for part in body.split(",") if body else []:
        selected = _parse_part(text, column, part)
        total += len(selected)
        if total > MAX_INDEXES:
            found = f"a set that grows to {total} indexes"
            raise IndexSetError(text, column, found, f"at most {MAX_INDEXES}")
        indexes.update(selected)
        column += len(part) + 1
    return sorted(indexes)


def _spell(run: list[int]) -> list[str]:
    if len(run) > 2:
        return [f"{run[0]}-{run[-1]}"]
    return [str(index) for index in run]


def _parse_part(text: str, column: int, part: str) -> range:
    span, colon, step = part.partition(":")
    first, hyphen, last = span.partition("-")
    well_formed = _is_number(first) and (_is_number(last) if hyphen else not colon)
    if not well_formed or (colon and not _is_number(step)):
        raise IndexSetError(text, column, repr(part) if part else "nothing", _WANTED)
    if int(first) > int(last or first):
        raise IndexSetError(text, column, f"the range {part}", "low-high with low <= high")
    if colon and int(step) == 0:
        raise IndexSetError(text, column, f"the range {part}", "a step of 1 or more")
    return range(int(first), int(last or first) + 1, int(step or 1))


def _is_number(text: str) -> bool:
    # isdigit() alone takes the digits of every script; 18 digits keep len(range) within what C can count.
    return text.isascii() and text.isdigit() and len(text) <= _LONG
