"""What the shards of a run have left, where each has a folder of its own for it (``results: committed``)."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpcrun.rundir import RunDir

MARK = ".attempt"
"""The file in each folder that holds the number of the attempt that has left it.

It is also why the first attempt wins for good: a folder can be renamed onto another one if that is empty.
"""


def attempt_of(folder: str) -> int | None:
    """The attempt that has left `folder`; None where there is none, or somebody else has made it."""
    try:
        with open(os.path.join(folder, MARK), encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def committed(run: RunDir, shards: Sequence[int]) -> dict[int, int]:
    """The attempt of each of `shards` whose results are those of the shard, of those that have any, in order."""
    found = ((shard, attempt_of(run.committed(shard))) for shard in shards)
    return {shard: attempt for shard, attempt in found if attempt is not None}
