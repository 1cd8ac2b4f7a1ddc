"""How long each test takes, and which shard has it for that.

The file is pytest-split's: one JSON object, seconds by node id.
"""

from __future__ import annotations

import heapq
import json
import os
from collections.abc import Iterable, Mapping, Sequence

from hpcrun import parts
from hpcrun.errors import UsageError
from hpcrun.whole import write_whole

_LEAST = 0.001
"""Seconds that a test counts at least: running one at all takes that, whatever its own code took."""


def read(path: str) -> dict[str, float] | None:
    """Seconds by node id from the file `path`; None where there is none.

    Raises UsageError for what is no such file.
    """
    try:
        with open(path, "rb") as file:
            found = json.load(file)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"durations in {path}: cannot be read: {why}; {_WANTED}") from error
    if not isinstance(found, dict):
        raise UsageError(f"durations in {path}: found {type(found).__name__}; {_WANTED}")
    for test, seconds in found.items():
        if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not 0 <= seconds < float("inf"):
            raise UsageError(f"durations in {path}: found {seconds!r} for {test}; {_WANTED}")
    return found


_WANTED = "wanted a JSON object of seconds by test, as --hpcrun-store-durations writes it; or remove the file"


def keep(path: str, own: Mapping[str, float]) -> None:
    """Add `own` to the durations in the file `path`, of a suite that one process runs."""
    write_whole(path, _text({**(read(path) or {}), **own}))


def keep_part(path: str, folder: str, shard: int, own: Mapping[str, float]) -> None:
    """Add `own`, those of the tests of one shard, and those of all other shards to the durations in the file `path`.

    The shards of a run leave theirs in `folder`.
    """
    os.makedirs(folder, exist_ok=True)
    write_whole(os.path.join(folder, f"{shard}.json"), _text(own))
    parts.merge(folder, path, lambda found: _merged(path, found.values()))


def _merged(path: str, found: Iterable[str]) -> bytes:
    merged = read(path) or {}
    for part in found:
        merged.update(read(part) or {})
    return _text(merged)


def _text(durations: Mapping[str, float]) -> bytes:
    return json.dumps(durations, indent=1, sort_keys=True).encode() + b"\n"


def split(
    tests: Sequence[str], shards: int, durations: Mapping[str, float] | None = None, *, by_file: bool = False
) -> list[int]:
    """The shard of each of `tests`, which are node ids and all different: 0 to `shards` - 1.

    Without durations they are dealt round robin, in their order. With them the longest goes first, to the shard with
    the least to do; a test that has none counts as the average of those that have, and the order does not matter.
    With `by_file` the tests of a file stay together, and what is said of a test holds for a file.
    """
    units: dict[str, list[int]] = {}
    for at, test in enumerate(tests):
        units.setdefault(test.partition("::")[0] if by_file else test, []).append(at)
    shard_of = [0] * len(tests)
    for unit, shard in zip(units.values(), _dealt(units, tests, shards, durations), strict=True):
        for at in unit:
            shard_of[at] = shard
    return shard_of


def _dealt(
    units: Mapping[str, Sequence[int]], tests: Sequence[str], shards: int, durations: Mapping[str, float] | None
) -> list[int]:
    if durations is None:
        return [at % shards for at in range(len(units))]
    known = [durations[test] for test in tests if test in durations]
    average = sum(known) / len(known) if known else 1.0
    lengths = [sum(max(durations.get(tests[at], average), _LEAST) for at in unit) for unit in units.values()]
    names = list(units)
    heap = [(0.0, shard) for shard in range(shards)]
    dealt = [0] * len(names)
    for at in sorted(range(len(names)), key=lambda at: (-lengths[at], names[at])):
        load, shard = heapq.heappop(heap)
        dealt[at] = shard
        heapq.heappush(heap, (load + lengths[at], shard))
    return dealt
