"""A batch on its node: which job may run it, which of its shards this is, and how this process ends."""

from __future__ import annotations

import os

from hpcrun import events
from hpcrun.allocation import from_slurm
from hpcrun.node import program
from hpcrun.node.shard import carried_through, leave

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from hpcrun.allocation import Allocation
    from hpcrun.plan import Batch, Plan
    from hpcrun.rundir import RunDir


_FAILED = 1 << 8
"""The status, as wait(2) has it, of what came to nothing."""


def in_slurm(plan: Plan, run: RunDir, batch: int, in_round: int) -> NoReturn:
    """Carry out the shards of this array element and end as their program did."""
    program.watch()
    allocation = from_slurm(os.environ)
    allocation.said, allocation.round = os.fstat(2).st_size, in_round
    claim = run.claim(batch, in_round)
    if not _claimed(claim, allocation.job):
        _stand_back(claim, batch, allocation)
    if plan.upstream and not in_round:  # who starts a run again by hand does not wait for others
        from hpcrun.node.waiting import look_back

        look_back(plan, run)
    here = plan.batches[batch]
    first = here.first + _place(here, allocation.task or 0) * here.pack
    shards = range(here.first, here.first + here.count) if plan.gang else range(first, first + here.pack)
    shards = range(shards.start, min(shards.stop, here.first + here.count))
    if plan.worker is None and not plan.gang:
        ended = _one_by_one(plan, run, allocation, _asked_for(run, shards, in_round))
    else:
        from hpcrun.node.together import in_allocation  # what a plain shard need not load

        ended = in_allocation(plan, run, allocation, shards)
    _drop_empty_output(run)
    leave(ended)


def _place(batch: Batch, task: int) -> int:
    """Which element of its array `task` is, counted from 0."""
    if not batch.ids:
        return task
    from hpcrun.indexes import parse_indexes  # only scripts that came with an array have such

    return parse_indexes(batch.ids).index(task)


def _asked_for(run: RunDir, shards: range, in_round: int) -> Sequence[int]:
    """Those of an element's `shards` that it is to run: in a retry by hand, of several only the chosen ones."""
    if not in_round or len(shards) == 1:
        return shards
    from hpcrun.indexes import parse_indexes

    chosen = set(parse_indexes(_read(run.round(in_round))))
    return [shard for shard in shards if shard in chosen]


def _one_by_one(plan: Plan, run: RunDir, allocation: Allocation, shards: Sequence[int]) -> program.Ended:
    """Run the shards of this element; how it ended, for several the first bad end.

    Several are tried again here: Slurm would start all of them again for the sake of one.
    """
    if allocation.restarts and len(allocation.components) > 1:  # of a script of somebody's: runs have workers there
        from hpcrun.node import requeue  # here and below: the first start is not to wait for what it does not need

        if requeue.sent_back(run, allocation):
            return program.Ended(_FAILED)
    worst: program.Ended | None = None
    in_place = plan.retry == "in_place" or len(shards) > 1
    for shard in shards:
        ended, again = carried_through(plan, run, allocation, shard, None, in_place=in_place)
        if again:
            from hpcrun.node import requeue

            if not requeue.taken_back(run, allocation):
                ended, _ = carried_through(plan, run, allocation, shard, None, in_place=True)
        if ended.why == "told":
            return ended
        worst = worst or (ended if ended.code or ended.signal else None)
    return worst or program.Ended(0)


def _claimed(path: str, job: str) -> bool:
    """Whether `job` is the one that may run this batch. The first to ask is; a second submission is told so."""
    try:
        return _read(path) == job
    except FileNotFoundError:
        events.claim(path, job)
    return _read(path) == job


def _read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()


def _stand_back(claim: str, batch: int, allocation: Allocation) -> NoReturn:
    text = f"hpcrun: batch {batch} of this run belongs to job {_read(claim)}; {allocation.job} runs nothing\n"
    os.write(2, text.encode())
    # Those of its elements that wait need not come and see for themselves.
    os.execvp("scancel", ["scancel", "--state=PENDING", allocation.job])


def _drop_empty_output(run: RunDir) -> None:
    """Remove what Slurm wrote for this element when it wrote nothing, as it does nearly always."""
    try:
        path = os.readlink("/proc/self/fd/1")
        if os.path.dirname(path) == os.path.realpath(run.slurm) and os.fstat(1).st_size == 0:
            os.unlink(path)
    except OSError:  # it is gone already, or the folder cannot be written: an empty file may stay
        pass
