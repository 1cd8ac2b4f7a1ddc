"""send: each batch is given to the cluster once, whatever happens on the way.

Before each call of sbatch its intent is written, and after it the job's id. A call that gets no answer is not made
again before the queue has been asked by the path of the script. What nobody is left to find out here, because this
process was killed, any reader finds out later: see `hpcrun.reconcile`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from hpcrun import events, reconcile, sender
from hpcrun.cluster import Cluster
from hpcrun.errors import ClusterError, ClusterUnavailable, SubmissionRefused, UsageError
from hpcrun.indexes import fold_indexes
from hpcrun.plan import Batch, Plan
from hpcrun.rundir import RunDir
from hpcrun.sent import submitted

if TYPE_CHECKING:
    from hpcrun.jsonline import Value

PATIENCE = 60.0
"""Seconds after an sbatch without an answer in which the queue is asked what came of it."""
_PAUSE_FIRST, _PAUSE_LAST = 0.25, 2.0
"""Seconds between two such questions, at first and in the end."""


def announce(run: RunDir) -> None:
    """Write down that this process submits `run` from now on."""
    if os.path.exists(run.submission):
        with open(run.submission, "ab") as file:
            file.write(b"\n")  # whoever wrote last may have died within a line
    _note(run, "sending", sender.facts(sender.this_process()))


def send(
    run: RunDir,
    cluster: Cluster,
    plan: Plan,
    batches: Sequence[Batch],
    in_round: int = 0,
    tasks: Mapping[int, Sequence[int]] | None = None,
    waits: str | None = None,
    chosen: Sequence[int] | None = None,
) -> dict[int, str]:
    """Submit `batches`, whose scripts are written, in their order; the job of each, and of those sent before.

    `tasks` are the elements of each batch that its script has, where that is not all of them, and `chosen` the shards
    that these are to run; `waits` is a dependency that each job gets besides the plan's own. Where the run is stopped
    meanwhile, the rest is not submitted.
    Raises SubmissionRefused; ClusterUnavailable where it cannot be found out whether a batch was submitted; UsageError
    where somebody else submits the same run.
    """
    record = events.read(run.submission)
    _check_alone(run, record)
    before = submitted(record)
    jobs = {one.batch: one.job for one in before.sent if one.job and one.round == in_round}
    _shut_out(run, {(one.batch, one.round) for one in before.sent if one.job}, batches, in_round)
    stopped = events.stopped(run)
    if _announced_by(record) != sender.this_process():
        announce(run)
    try:
        for batch in batches:
            if events.stopped(run) != stopped:
                break
            only = None if tasks is None else tasks[batch.index]
            call = _Call(run, cluster, batch, in_round, only, {*before.jobs, *jobs.values()}, chosen)
            jobs[batch.index] = call.once(_dependency(plan, in_round, _before(plan, batch, jobs), waits))
            if events.stopped(run) != stopped:
                _end(run, cluster, jobs[batch.index])
    except ClusterUnavailable as error:
        raise ClusterUnavailable(f"{error}\n{_account(run, batches, jobs)}") from error
    finally:
        _leave(run)
    return jobs


def _announced_by(record: Sequence[Mapping[str, object]]) -> sender.Sender | None:
    """Who has announced to submit, and has done nothing since."""
    return sender.from_facts(record[-1]) if record and record[-1]["event"] == "sending" else None


def _note(run: RunDir, event: str, facts: Mapping[str, Value]) -> None:
    events.add(run.submission, event, {"at": time.time(), **facts}, durable=True)


def _leave(run: RunDir) -> None:
    try:
        _note(run, "left", {})
    except OSError:  # there is no folder any more, or no room in it: then the end of this process tells
        pass


def _check_alone(run: RunDir, record: Sequence[Mapping[str, object]]) -> None:
    who = reconcile.trail(record)
    if who.last is None or who.last == sender.this_process():
        return
    living = {who.last: sender.lives(who.last, run, left=who.last in who.left)}
    if who.still(who.last, living, time.time()):
        raise UsageError(
            f"found {who.last} submitting run {run.run_id}; wanted nobody else to, so wait until it is through"
        )


def _shut_out(run: RunDir, known: set[reconcile.Key], batches: Sequence[Batch], in_round: int) -> None:
    """Make sure that no job of an earlier round that nobody knows of runs what is submitted now once more."""
    for batch in batches:
        for earlier in range(in_round):
            path = run.claim(batch.index, earlier)
            unknown = (batch.index, earlier) not in known and os.path.exists(run.script(batch.index, earlier))
            if unknown and not os.path.exists(path) and not events.claim(path, reconcile.NOBODY):
                raise UsageError(
                    f"a job of run {run.run_id} has just begun with what was to be tried again; "
                    f"`hpcrun status {run.run_id}` shows it"
                )


def _before(plan: Plan, batch: Batch, jobs: Mapping[int, str]) -> str | None:
    """The job that has to end before `batch` starts: of the last batch before it in its lane that is submitted."""
    previous = batch.after
    while previous is not None and previous not in jobs:
        previous = plan.batches[previous].after
    return None if previous is None else jobs[previous]


def _dependency(plan: Plan, in_round: int, previous: str | None, waits: str | None) -> str | None:
    """What a job is to wait for: in a later round not what the run has waited for, which Slurm may have forgotten."""
    parts = [part for part in (None if in_round else plan.dependency, waits) if part]
    if previous is not None:
        parts.append(f"afterany:{previous}")
    if not parts and plan.dependency and plan.batch_script is not None:
        return _NOTHING  # a line of the script would ask for it again
    return ",".join(parts) or None


_NOTHING = "0"
"""The dependency that slurmctld takes for none (update_job_dependency)."""


def _end(run: RunDir, cluster: Cluster, job: str) -> None:
    """End a job that was submitted while somebody stopped its run. Where that fails it ends itself at its start."""
    try:
        cluster.cancel(run, (job,))
    except ClusterError:
        pass


class _Call:
    """The submission of one batch in one round."""

    def __init__(
        self,
        run: RunDir,
        cluster: Cluster,
        batch: Batch,
        in_round: int,
        tasks: Sequence[int] | None,
        known: Iterable[str],
        chosen: Sequence[int] | None,
    ) -> None:
        self._known, self._chosen = tuple(known), chosen
        self._run, self._cluster, self._batch, self._round, self._tasks = run, cluster, batch, in_round, tasks
        self._which: dict[str, Value] = {"batch": batch.index, **({"round": in_round} if in_round else {})}

    def once(self, dependency: str | None) -> str:
        """The job of this batch, of which there is one whatever Slurm answers, or none where this raises."""
        end_by: float | None = None
        job: str | None
        only = self._only()
        while True:
            _note(self._run, "intent", {**self._which, **only})
            try:
                job = self._cluster.submit(self._run, self._batch, dependency, self._round, self._tasks)
            except SubmissionRefused as error:
                _note(self._run, "refused", {**self._which, "reason": error.reason})
                raise
            except ClusterUnavailable:
                end_by = end_by or time.monotonic() + PATIENCE
                job = self._found(end_by)
                if job is None or (not job and time.monotonic() > end_by):
                    raise
                if not job:
                    continue
            _note(self._run, "submitted", {**self._which, "job": job})
            return job

    def _only(self) -> dict[str, Value]:
        """What the job has of its batch, where that is not all of it."""
        batch = self._batch
        only: dict[str, Value] = {}
        if self._tasks is not None and batch.array:
            only["tasks"] = fold_indexes(self._tasks)
        if self._chosen is not None and batch.array and batch.pack > 1:
            only["shards"] = fold_indexes(i for i in self._chosen if batch.first <= i < batch.first + batch.count)
        return only

    def _found(self, end_by: float) -> str | None:
        """The job that a call without an answer has made; empty for certainly none, None where nobody can tell."""
        failed, pause = time.monotonic(), _PAUSE_FIRST
        while True:
            asked = time.monotonic()
            jobs = self._in_queue()
            answered = time.monotonic()
            if jobs:
                return jobs[0]
            settled = asked - failed >= reconcile.ARRIVES and answered - asked <= reconcile.AT_ONCE
            if jobs is not None and settled and not sender.calls(self._run):
                return ""
            if answered > end_by:
                return None
            time.sleep(pause)
            pause = min(_PAUSE_LAST, 2 * pause)

    def _in_queue(self) -> list[str] | None:
        try:
            rows = self._cluster.queue(self._run)
        except ClusterUnavailable:
            return None
        return reconcile.Listing(self._run.run_id, rows).of((self._batch.index, self._round), self._known)


def _account(run: RunDir, batches: Sequence[Batch], jobs: Mapping[int, str]) -> str:
    """What is known of a submission that got no answer, and what to do."""
    have = [jobs[batch.index] for batch in batches if batch.index in jobs]
    left = len(batches) - len(have) - 1
    known = [f"submitted: job {', '.join(have)}"] if have else []
    known += [f"not submitted: the {'last batch' if left == 1 else f'last {left} batches'}"] if left else []
    which = f"the next of its {len(batches)} batches" if len(batches) > 1 else "it"
    return (
        f"  run {run.run_id}: whether {which} was submitted is not known{''.join(f'; {one}' for one in known)}\n"
        f"  `hpcrun status {run.run_id}` finds out once Slurm answers; `hpcrun cancel {run.run_id}` ends it, "
        f"`hpcrun retry {run.run_id}` submits what is missing"
    )
