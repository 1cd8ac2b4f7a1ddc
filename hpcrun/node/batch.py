"""A batch on its node: which job may run it, which of its shards this is, and how this process ends."""

from __future__ import annotations

import os

from hpcrun.allocation import from_slurm
from hpcrun.node import program
from hpcrun.node.shard import attempt, leave

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from hpcrun.allocation import Allocation
    from hpcrun.plan import Plan
    from hpcrun.rundir import RunDir


def in_slurm(plan: Plan, run: RunDir, batch: int) -> NoReturn:
    """Carry out this array element's shard and end as its program did."""
    program.watch()
    allocation = from_slurm(os.environ)
    allocation.said = os.fstat(1).st_size
    if not _claimed(run, batch, allocation.job):
        _stand_back(run, batch, allocation)
    here = plan.batches[batch]
    shard = here.first + (allocation.task or 0)
    shards = range(here.first, here.first + here.count) if plan.gang else range(shard, shard + 1)
    if plan.worker is None and len(shards) == 1:
        ended = attempt(plan, run, allocation, shard, lifeline=None)
    else:
        from hpcrun.node.together import in_allocation  # what a plain shard need not load

        ended = in_allocation(plan, run, allocation, shards)
    _drop_empty_output(run)
    leave(ended)


def _claimed(run: RunDir, batch: int, job: str) -> bool:
    """Whether `job` is the one that may run this batch. The first to ask is; a second submission is told so."""
    path = run.claim(batch)
    try:
        return _read(path) == job
    except FileNotFoundError:
        pass
    own = f"{path}.{job}.{os.getpid()}.{os.uname().nodename}"
    with open(own, "w", encoding="ascii") as file:
        file.write(job)
    try:
        os.link(own, path)  # atomic on NFS too, and never seen half written
    except FileExistsError:
        pass
    finally:
        os.unlink(own)
    return _read(path) == job


def _read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()


def _stand_back(run: RunDir, batch: int, allocation: Allocation) -> NoReturn:
    text = (
        f"hpcrun: batch {batch} of this run belongs to job {_read(run.claim(batch))}; {allocation.job} runs nothing\n"
    )
    os.write(2, text.encode())
    # Those of its elements that wait need not come and see for themselves.
    os.execvp("scancel", ["scancel", "--state=PENDING", allocation.job])


def _drop_empty_output(run: RunDir) -> None:
    """Remove what Slurm wrote for this element when it wrote nothing, as it does nearly always."""
    path = os.readlink("/proc/self/fd/1") if os.path.islink("/proc/self/fd/1") else ""
    if os.path.dirname(path) == os.path.realpath(run.slurm) and os.fstat(1).st_size == 0:
        os.unlink(path)
