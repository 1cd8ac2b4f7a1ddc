"""Shards that Slurm says have ended and that left no end themselves: what became of them, and whether they run again.

Their job failed before its program started, or whoever kept its record was killed. While slurmctld remembers such a job
it can be requeued. Who does that first claims it in the run folder, so that of two people following one does.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from hpcrun import events, ledger, retry
from hpcrun.cluster import Cluster
from hpcrun.outputs import slurm_outputs
from hpcrun.plan import Batch, Plan
from hpcrun.rundir import RunDir
from hpcrun.sent import Sent
from hpcrun.slurm_releases import OWN_LINE
from hpcrun.states import TERMINAL, from_slurm
from hpcrun.status import Said, Seen, end_of

if TYPE_CHECKING:
    from hpcrun.jsonline import Value
    from hpcrun.states import Cause

_LEFT_ALONE = ("COMPLETED", "DEADLINE", "REVOKED")
"""Ends after which nothing is started again: who knows what the program did, or its time is over."""
_OUT_OF_MEMORY = (b"exceeded memory limit", b"oom_kill event", b"oom-kill event")


@dataclasses.dataclass(frozen=True)
class Suspect:
    """An element, or a whole job, that has ended by Slurm's word while there is no end of its shards."""

    job: str
    """As scontrol names it."""
    batch: Batch
    sent: Sent
    shards: Sequence[int]
    """The shards that it runs."""
    shard: int
    """The one on whose account it is to be started again."""
    attempt: int
    """The number of the attempt that left no end."""
    word: str
    """What Slurm calls its end."""


def suspects(plan: Plan, seen: Seen) -> Iterator[Suspect]:
    """What has ended by the queue's word and has no end by the records."""
    for batch in plan.batches if plan.supervised else ():
        of = seen.submitted.of(batch)
        for task in batch.tasks if batch.array else (0,):
            sent = of(task)
            shards = tuple(batch.shards_of(task) if batch.array else range(batch.first, batch.first + batch.count))
            if sent is not None and sent.shards is not None:
                shards = tuple(shard for shard in shards if shard in sent.shards)
            said = (seen.queue or {}).get(shards[0]) if shards else None
            if said is not None and said.state in TERMINAL and said.word not in _LEFT_ALONE and sent and sent.job:
                found = _suspect(plan, seen, batch, shards, sent, said)
                if found is not None:
                    yield found


def _suspect(plan: Plan, seen: Seen, batch: Batch, shards: Sequence[int], sent: Sent, said: Said) -> Suspect | None:
    attempts = {shard: seen.records.get(shard, ()) for shard in shards}
    left = [shard for shard in shards if end_of(attempts[shard], sent) is None]
    cut_short = [shard for shard in left if attempts[shard] and attempts[shard][-1].ended is None]
    if not left or (said.state == "cancelled" and not cut_short):
        return None
    shard = shards[0] if plan.gang else (cut_short or left)[0]
    number = len(attempts[shard]) - (shard in cut_short)
    job = f"{sent.job}_{batch.task_of(shard)}" if batch.array else sent.job
    return Suspect(job, batch, sent, shards, shard, number, said.word)


def revived(plan: Plan, run: RunDir, cluster: Cluster, found: Suspect) -> bool:
    """Say how an attempt that left no end has ended, and start its job again where there is to be another one.

    Whether it will start again. Nothing is done where the record has an end after all, where somebody else was faster,
    or where it is nobody's business to start the job again. Raises ClusterUnavailable.
    """
    _see_afresh(os.path.dirname(run.record(found.shard, found.attempt)))
    entries = ledger.read(run, found.shard)
    if not _is_open(entries, found):
        return False
    cause = _cause(plan, run, found, entries)
    if cause is None or events.stopped(run) is not None:
        return False
    past = [entry for entry in entries if entry.number < found.attempt]
    again = retry.again(plan.budgets, [*ledger.history(past, found.sent.round), cause])
    if not _claimed(plan, run, found, cause, again=again):
        return False
    return again and _requeued(run, cluster, found)


def _is_open(entries: Sequence[ledger.Entry], found: Suspect) -> bool:
    """Whether nobody has said yet how the attempt ended: it began and has no end, or it was to begin."""
    last = entries[-1] if entries else None
    if last is None or last.number == found.attempt:
        return last is None or last.end is None
    to_follow = last.end is not None and last.end.get("again") is not False
    return last.number == found.attempt - 1 and (to_follow or last.round < found.sent.round)


def _requeued(run: RunDir, cluster: Cluster, found: Suspect) -> bool:
    refused = cluster.requeue(found.job)
    if refused:
        # The record of an attempt whose job has ended has no other writer any more.
        facts: dict[str, Value] = {"at": time.time(), "text": f"it cannot be started again: {refused}"}
        for shard in _told_of(found):
            events.add(run.record(shard, found.attempt), "given_up", facts)
    return not refused


def _claimed(plan: Plan, run: RunDir, found: Suspect, cause: Cause, *, again: bool) -> bool:
    """Write the end of the attempt; whether this is the first to do so."""
    end: dict[str, Value] = {
        "at": time.time(), "exit_code": -1, "signal": 0, "cause": cause, "again": again, "round": found.sent.round,
        "detail": _DETAILS.get(cause, "").format(word=found.word),
    }  # fmt: skip
    line = events.line("end", {**end, "gang": cause} if plan.gang else end)
    for number, shard in enumerate(_told_of(found)):
        path = run.silence(shard, found.attempt)
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        if not events.claim(path, line) and not number:
            return False
    return True


_DETAILS = {
    "launch_failed": "it ended before its program started (Slurm says {word})",
    "lost": "it ended without a record: its supervisor was killed (Slurm says {word})",
    "out_of_memory": "its job ran out of memory",
}


def _told_of(found: Suspect) -> Sequence[int]:
    """The shards that share the end: all of a gang, else one."""
    return (found.shard,) if found.batch.array else found.shards


def _cause(plan: Plan, run: RunDir, found: Suspect, entries: Sequence[ledger.Entry]) -> Cause | None:
    """Why the attempt ended; None where it is not to be started again whatever the budgets say.

    What the script itself, or the runtime that it starts, complains of will be so the next time too.
    """
    began = entries[-1].start if len(entries) > found.attempt else None
    job, _, task = found.job.partition("_")
    node = str(began.get("node", "")) if began is not None else ""
    since = int(began.get("said", 0)) if began is not None else None
    said = _output(slurm_outputs(plan, run, job, int(task) if task else None, node)[-1], since)
    if any(words in said for words in _OUT_OF_MEMORY):
        return "out_of_memory"
    state, cause = from_slurm(found.word)
    complains = plan.batch_script is None or began is None  # else the script's own output is there as well
    if state == "cancelled" or (
        complains and any(line.strip() and not OWN_LINE.match(line) for line in said.split(b"\n"))
    ):
        return None
    if cause == "failed":
        return "launch_failed" if began is None else "lost"
    return cause


def _output(path: str, since: int | None) -> bytes:
    """What was written into Slurm's own output in the attempt at hand, which began at `since` if that is known."""
    try:
        with open(path, "rb") as file:
            file.seek(since or 0)
            said = file.read()
    except OSError:
        return b""
    return said if since is not None else said.rpartition(b" ***\n")[2]


def _see_afresh(folder: str) -> None:
    """Let a network file system forget what it remembers of `folder`: a change of our own makes it look again."""
    try:
        os.makedirs(folder, 0o700, exist_ok=True)
        path = os.path.join(folder, f".look.{os.getpid()}.{os.uname().nodename}")
        events.mark(path)
        os.unlink(path)
    except OSError:
        pass
