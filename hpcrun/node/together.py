"""One attempt of a gang: its records, its end, and whether Slurm is asked to start it again."""

from __future__ import annotations

import os
import time

from hpcrun import events, retry
from hpcrun.node import program
from hpcrun.node.gang import Gang, tail
from hpcrun.node.hub import Trouble
from hpcrun.node.shard import carry_out, cause_of, next_attempt, open_log, told_by, write_end, write_start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hpcrun.allocation import Allocation
    from hpcrun.jsonline import Value
    from hpcrun.node.hub import Seat
    from hpcrun.plan import Plan
    from hpcrun.rundir import RunDir
    from hpcrun.states import Cause

_FAILED, _TOLD = 1 << 8, 15
"""Statuses, as wait(2) has them, of a gang that came to nothing and of one that was told to end."""
_OF_ONE: tuple[Cause, ...] = ("failed", "out_of_memory", "lost")
"""Causes that are those of one shard of a gang; the others were then cancelled on its account. Time is up for all."""


def in_allocation(plan: Plan, run: RunDir, allocation: Allocation, shards: range) -> program.Ended:
    """An attempt in the allocation of this Slurm job, which is started again after the loss of a node."""
    if allocation.restarts and not os.path.exists(run.cancelled):
        from hpcrun.node import requeue  # here and below: the first start is not to wait for what it does not need

        if requeue.incomplete(allocation) and not program.is_told():
            os.write(2, b"hpcrun: this job was started again without its workers; all of it is requeued\n")
            requeue.requeue(allocation)
            return program.Ended(_FAILED)
    ended, lost = attempt(plan, run, allocation, shards, None)
    if lost and retry.again(_history(run, shards.start)):
        from hpcrun.node import requeue

        # After a signal from outside never, or the run could not be cancelled: Slurm revives even what is cancelled.
        if requeue.is_current(allocation) and not program.is_told() and not os.path.exists(run.cancelled):
            requeue.requeue(allocation)
    return ended


def attempt(
    plan: Plan, run: RunDir, allocation: Allocation, shards: range, lifeline: int | None
) -> tuple[program.Ended, bool]:
    """Run the gang of `shards` once, between the two lines of each one's record.

    How all of it ended, and whether it was lost to a node and nobody has told it to end.
    """
    number = _begin(run, allocation, shards)
    gang = Gang(plan, run, allocation, shards, number, lifeline)
    ended, trouble = program.Ended(_TOLD, "told"), None
    try:
        if not os.path.exists(run.cancelled):
            ended = _carry_out(plan, run, allocation, shards, number, gang, lifeline)
    except Trouble as found:
        trouble = found
    if ended.why == "trouble":
        trouble = gang.hub.trouble
    aside = gang.aftermath() if len(shards) == 1 and ended.why is None and (ended.code or ended.signal) else None
    if aside is not None and aside.cause == "node_failed":
        trouble = aside
    if trouble is not None:
        ended = program.Ended(_FAILED, "trouble")
    cause, at = _cause(ended, trouble, allocation), time.time()
    blamed = trouble or aside
    if blamed is not None:
        culprit = blamed.seat.shard if blamed.seat is not None else shards.start
        _explain(plan, run, blamed, culprit, number)
    if cause is None:  # a failure is told at once; who waits for a success waits for the last words of the workers too
        gang.disband()
    for shard in shards:
        _end(run, allocation, shard, number, gang.hub.seats.get(("job", shard, 0)), (ended, cause, trouble, aside), at)
    if cause is not None:
        gang.disband()
    return ended, trouble is not None and trouble.cause == "node_failed" and not gang.told


def _begin(run: RunDir, allocation: Allocation, shards: range) -> int:
    """Begin the record of each shard's next attempt, which has one number for all; that number."""
    number, record = next_attempt(run, shards.start)
    write_start(record, allocation, shards.start, number, gang=True)
    for shard in shards[1:]:
        path = run.record(shard, number)
        for folder in (path, run.log(shard, number)):
            os.makedirs(os.path.dirname(folder), 0o700, exist_ok=True)
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        write_start(opened, allocation, shard, number, gang=True)
    return number


def _carry_out(
    plan: Plan, run: RunDir, allocation: Allocation, shards: range, number: int, gang: Gang, lifeline: int | None
) -> program.Ended:
    stopped = gang.assemble()
    if stopped is not None:
        return stopped
    for shard in shards:
        facts: dict[str, Value] = {"at": time.time(), "workers": gang.nodes_of("worker", shard)}
        here = gang.nodes_of("job", shard)
        events.add(run.record(shard, number), "ready", {**facts, "node": here[0] if here else allocation.node})
    if len(shards) > 1:
        return gang.release() or program.Ended(max(_code(seat) for seat in gang.hub.of("job")) << 8)
    devices = gang.devices(plan.job)
    if plan.shape == "flat" and plan.cluster == "slurm":
        devices = {"devices": ""}  # the batch step has all of the allocation's on this node, the workers' that is
    if devices:
        os.environ["CUDA_VISIBLE_DEVICES"] = devices["devices"]
    shard = shards.start
    return carry_out(plan, run, allocation, shard, number, lifeline, gang, gang.environ(shard))


def _code(seat: Seat) -> int:
    return min(128 + seat.signal, 255) if seat.signal else seat.code


def _cause(ended: program.Ended, trouble: Trouble | None, allocation: Allocation) -> Cause | None:
    if trouble is None:
        return cause_of(ended, allocation)
    return told_by(allocation) if trouble.cause == "cancelled" else trouble.cause


def _end(
    run: RunDir,
    allocation: Allocation,
    shard: int,
    number: int,
    seat: Seat | None,
    whole: tuple[program.Ended, Cause | None, Trouble | None, Trouble | None],
    at: float,
) -> None:
    """End the record of one shard: as it ended itself, or else as the whole gang did."""
    ended, cause, trouble, aside = whole
    if seat is not None and seat.state == "ended":
        own = program.Ended(seat.signal or seat.code << 8, seat.why or None)
        own_cause = cause if seat.why == "told" else cause_of(own, allocation)
        write_end(run, shard, number, own, own_cause, at, gang=cause)
    elif trouble is None:
        more = {} if aside is None else {"detail": aside.text}
        write_end(run, shard, number, ended, cause, at, gang=cause, **more)
    else:
        others = trouble.seat is not None and trouble.seat.shard != shard and cause in _OF_ONE
        nothing = program.Ended(_FAILED)
        nothing.code = -1  # what became of its own program does not count
        write_end(run, shard, number, nothing, "cancelled" if others else cause, at, gang=cause, detail=trouble.text)


def _explain(plan: Plan, run: RunDir, trouble: Trouble, shard: int, number: int) -> None:
    """Say what happened where a user looks first, in the log of the job, with the end of the culprit's own log."""
    lines = [f"hpcrun: {trouble.text}"]
    seat = trouble.seat
    if seat is not None and seat.role == "worker":
        stream = "err" if plan.separate_stderr else "log"
        path = run.log(seat.shard, number, stream, role="worker", replica=seat.replica)
        if trouble.cause == "launch_failed" and not os.path.exists(path):
            path = os.path.realpath("/proc/self/fd/2")  # where srun has complained
        found = tail(path)
        lines += [f"hpcrun: the end of {path}:", *(f"  {line}" for line in found)] if found else []
    log = open_log(run.log(shard, number, "err" if plan.separate_stderr else "log"))
    os.write(log, ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape"))
    os.close(log)


def _history(run: RunDir, shard: int) -> list[Cause | None]:
    """Why each attempt of the gang of `shard` ended so far."""
    found: list[Cause | None] = []
    while True:
        record = events.read(run.record(shard, len(found)))
        if not record:
            return found
        found.append(record[-1].get("gang", record[-1].get("cause", "lost")))
