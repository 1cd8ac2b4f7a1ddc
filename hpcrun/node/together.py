"""One attempt of a gang: its records, its end, and whether Slurm is asked to start it again."""

from __future__ import annotations

import os
import time

from hpcrun import events, ledger
from hpcrun.logtail import last_lines
from hpcrun.node import memory, program
from hpcrun.node.gang import Gang
from hpcrun.node.hub import Trouble
from hpcrun.node.shard import (
    Begun,
    again_after,
    begin,
    carry_out,
    cause_of,
    kept,
    open_log,
    settle,
    told_by,
    why_stopped,
    write_end,
)

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
_TAIL = 5
"""Lines of a worker's log that the job's log quotes."""
_OF_ONE: tuple[Cause, ...] = ("failed", "out_of_memory", "lost")
"""Causes that are those of one shard of a gang; the others were then cancelled on its account. Time is up for all."""


def in_allocation(plan: Plan, run: RunDir, allocation: Allocation, shards: range) -> program.Ended:
    """The attempts of a gang in the allocation of this Slurm job, which is started again where that is due."""
    if allocation.restarts:
        from hpcrun.node import requeue  # here and below: the first start is not to wait for what it does not need

        taken = requeue.sent_back(run, allocation)
        if taken is False:
            _give_up(run, shards)
        if taken is not None:
            return program.Ended(_FAILED)
    ended, due = carried_through(plan, run, allocation, shards, None, in_place=plan.retry == "in_place")
    if due is None:
        return ended
    from hpcrun.node import requeue

    if requeue.taken_back(run, allocation):
        return ended
    if due == "in_place":
        return carried_through(plan, run, allocation, shards, None, in_place=True)[0]
    _give_up(run, shards)
    return ended


def _give_up(run: RunDir, shards: range) -> None:
    """Say in the record of each shard's last attempt that there will be no other one."""
    last = len(ledger.read(run, shards.start)) - 1
    for shard in shards if last >= 0 else ():
        events.add(run.record(shard, last), "given_up", {"at": time.time(), "text": _NOT_TAKEN_BACK})


_NOT_TAKEN_BACK = "its node is lost, and Slurm refuses to start the job again (scontrol requeue)"


def carried_through(
    plan: Plan, run: RunDir, allocation: Allocation, shards: range, lifeline: int | None, *, in_place: bool
) -> tuple[program.Ended, str | None]:
    """Run the gang of `shards`, again where its budgets allow and it is to be done `in_place`.

    How it ended, and, where another attempt is due that Slurm has to start, where it could be instead: ``in_place``
    or, after the loss of a node, ``nowhere``. Locally there is one node, which is not lost.
    """
    while True:
        begun = begin(plan, run, allocation, shards, lifeline)
        if isinstance(begun, program.Ended):
            return begun, None
        ended, again, lost = _attempt(plan, run, allocation, shards, begun, lifeline)
        if not again:
            return ended, None
        if lost and allocation.cluster == "slurm":
            return ended, "nowhere"
        if not in_place:
            return ended, "in_place"


def _attempt(
    plan: Plan, run: RunDir, allocation: Allocation, shards: range, begun: Begun, lifeline: int | None
) -> tuple[program.Ended, bool, bool]:
    """Run the gang of `shards` once, between the two lines of each one's record.

    How all of it ended, whether to try again, and whether it was lost to a node.
    """
    before, number = memory.kills(), begun.number
    gang = Gang(plan, run, allocation, shards, number, lifeline)
    ended, trouble, aside = _outcome(plan, run, allocation, shards, begun, gang, lifeline)
    settle(plan, run, allocation, (), None, again=False)  # nothing is tried again when the time of the run is up
    cause, at = _cause(ended, trouble, run, allocation, before), time.time()
    blamed = trouble or aside
    if blamed is not None:
        _explain(plan, run, blamed, blamed.seat.shard if blamed.seat is not None else shards.start, number)
    # Told by whom matters: what Slurm takes its node from, it starts again by itself.
    brought_back = cause in ("preempted", "node_failed")
    again = again_after(plan, run, begun, ended, cause) and (brought_back or not gang.told)
    if cause is None:  # a failure is told at once; who waits for a success waits for the last words of the workers too
        gang.disband()
    whole = _Whole(ended, cause, trouble, aside, before)
    for shard in reversed(shards):  # the first one's end says that all are written
        code, own, more = _own_end(run, allocation, shard, gang.hub.seats.get(("job", shard, 0)), whole)
        if own is None and not again:
            code = kept(plan, run, shard, number, code)
            ended, own = (code, "failed") if code.code else (ended, None)
        write_end(plan, run, shard, begun, code, own, at, again=again, gang=cause or own, **more)
    if cause is not None:
        gang.disband()
    settle(plan, run, allocation, shards, cause, again=again)
    to_try = again and not gang.told and ended.why != "told"
    return ended, to_try, trouble is not None and trouble.cause == "node_failed"


def _outcome(
    plan: Plan, run: RunDir, allocation: Allocation, shards: range, begun: Begun, gang: Gang, lifeline: int | None
) -> tuple[program.Ended, Trouble | None, Trouble | None]:
    """Carry out an attempt: how it ended, what made it end if that was not the job, and what went wrong beside it."""
    ended, trouble = begun.stopped(), None
    try:
        if ended is None:
            ended = _carry_out(plan, run, allocation, shards, begun.number, gang, lifeline)
    except Trouble as found:
        ended, trouble = program.Ended(_TOLD, "told"), found
    if ended.why == "trouble":
        trouble = gang.hub.trouble
    aside = gang.aftermath() if len(shards) == 1 and ended.why is None and (ended.code or ended.signal) else None
    if aside is not None and aside.cause == "node_failed":
        trouble = aside
    return program.Ended(_FAILED, "trouble") if trouble is not None else ended, trouble, aside


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


class _Whole:
    """How all of a gang ended and why, what made the trouble, what else went wrong, and `kills` as in `cause_of`."""

    __slots__ = ("aside", "cause", "ended", "kills", "trouble")

    def __init__(
        self, ended: program.Ended, cause: Cause | None, trouble: Trouble | None, aside: Trouble | None, kills: int
    ) -> None:
        self.ended, self.cause, self.trouble, self.aside, self.kills = ended, cause, trouble, aside, kills


def _cause(
    ended: program.Ended, trouble: Trouble | None, run: RunDir, allocation: Allocation, kills: int
) -> Cause | None:
    if trouble is None:
        return cause_of(ended, run, allocation, kills)
    return told_by(run, allocation) if trouble.cause == "cancelled" else trouble.cause


def _own_end(
    run: RunDir, allocation: Allocation, shard: int, seat: Seat | None, whole: _Whole
) -> tuple[program.Ended, Cause | None, dict[str, Value]]:
    """How one shard ended: as it did itself, or else as the whole gang did."""
    cause, trouble = whole.cause, whole.trouble
    if seat is not None and seat.state == "ended":
        own = program.Ended(seat.signal or seat.code << 8, seat.why or None)
        if seat.why == "out_of_memory":
            return own, "out_of_memory", {}
        found = cause if seat.why == "told" else cause_of(own, run, allocation, whole.kills)
        return own, found, why_stopped(run, found)
    if trouble is None:
        more: dict[str, Value] = {} if whole.aside is None else {"detail": whole.aside.text}
        return whole.ended, cause, why_stopped(run, cause) or more
    others = trouble.seat is not None and trouble.seat.shard != shard and cause in _OF_ONE
    nothing = program.Ended(_FAILED)
    nothing.code = -1  # what became of its own program does not count
    return nothing, "cancelled" if others else cause, why_stopped(run, cause) or {"detail": trouble.text}


def _explain(plan: Plan, run: RunDir, trouble: Trouble, shard: int, number: int) -> None:
    """Say what happened where a user looks first, in the log of the job, with the end of the culprit's own log."""
    lines = [f"hpcrun: {trouble.text}"]
    seat = trouble.seat
    if seat is not None and seat.role == "worker":
        stream = "err" if plan.separate_stderr else "log"
        path = run.log(seat.shard, number, stream, role="worker", replica=seat.replica)
        if trouble.cause == "launch_failed" and not os.path.exists(path):
            path = os.path.realpath("/proc/self/fd/2")  # where srun has complained
        found = last_lines(path, _TAIL)
        lines += [f"hpcrun: the end of {path}:", *(f"  {line}" for line in found)] if found else []
    log = open_log(run.log(shard, number, "err" if plan.separate_stderr else "log"))
    os.write(log, ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape"))
    os.close(log)
