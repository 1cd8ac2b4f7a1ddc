"""Slurm's queue by pyslurm, printed as squeue would print it. Runs in a process of its own: see `hpcrun.poller`.

What a record says, by pyslurm 22.5 to 26.5:

* ``array_id`` is the array's id, None for what is no array. ``array_task_id`` is the element, None where there is none,
  and up to 25.11 also for element 0. ``array_tasks_waiting`` has the elements that wait unsplit (``2-5``, ``1-19:2``),
  cut at 64 characters unless SLURM_BITSTR_LEN is 0. So with an array and no element, what has some that wait is all of
  those, and what has none is element 0. But for one thing (24.11, by experiment): of elements that were cancelled while
  they waited together a record is left that has the array's own id, neither element nor node, and no more to tell.
* ``heterogeneous_id`` is the leader's id, None for what is no heterogeneous job; ``heterogeneous_offset`` is the
  component, and None for the leader.
* ``state`` is squeue's word, flags included (``COMPLETING``); ``state_reason`` its reason.
"""

from __future__ import annotations

import sys
from typing import Any


def main(user: str) -> None:
    """Print a line ``ID|STATE|NODES|REASON|COMMENT|SCRIPT`` for each job of the user of that id, and ``END``."""
    import pyslurm

    lines = [line(one) for one in pyslurm.Jobs.load().values() if one.user_id == int(user)]
    sys.stdout.write("".join(f"{one}\n" for one in [*lines, "END"]))


def line(record: Any) -> str:
    """One record as ``squeue --format=%i|%T|%N|%r|%k|%o`` would print it."""
    words = (
        shown(record), record.state, record.allocated_nodes or "", record.state_reason or "None",
        record.comment or "(null)", record.command or "(null)",
    )  # fmt: skip
    return "|".join(words).replace("\n", " ")


def shown(record: Any) -> str:
    """The id of a record as squeue shows it: ``12``, ``12_3``, ``12_[4-9]``, ``12+1``."""
    if record.array_id is not None:
        if record.array_task_id is not None:
            return f"{record.array_id}_{record.array_task_id}"
        if record.array_tasks_waiting:
            return f"{record.array_id}_[{record.array_tasks_waiting}]"
        left = record.id == record.array_id and not record.allocated_nodes and record.state != "PENDING"
        return str(record.id) if left else f"{record.array_id}_0"
    if record.heterogeneous_id is not None:
        return f"{record.heterogeneous_id}+{record.heterogeneous_offset or 0}"
    return str(record.id)
