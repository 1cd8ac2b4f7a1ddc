"""fold: from the plan, the records and what the cluster said to the status of a run. Pure.

A record with an end beats whatever the cluster says, for it was written by the one who saw the end. Where there is
none, the queue is believed, then accounting. That a job is not in the queue means something only when the queue was
asked after the submission and did answer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hpcrun import ledger, retry, upstream
from hpcrun.cluster import AccountingRow, QueueRow
from hpcrun.indexes import fold_indexes
from hpcrun.ledger import Entry
from hpcrun.plan import Batch, Plan
from hpcrun.states import SHARD_STATES, TERMINAL, aggregate, from_cause, from_slurm

if TYPE_CHECKING:
    from hpcrun.sent import Sent, Submitted
    from hpcrun.states import Cause, RunState, ShardState
    from hpcrun.tasks import TaskStatus


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One attempt of a shard as its record has it. Times are seconds since the epoch."""

    number: int
    node: str
    job: str
    started: float
    ended: float | None = None
    exit_code: int | None = None
    """The program's exit code; None while it runs and where a signal killed it."""
    signal: int = 0
    cause: Cause | None = None
    gang: bool = False
    """Whether it is part of a gang, with workers or with other shards."""
    waits: bool = False
    """Whether its workers, or the rest of its gang, are not up yet."""
    detail: str = ""
    """What its supervisor says of its end."""
    again: bool = False
    """Whether another attempt is to follow."""
    due: float | None = None
    """Before when that one is not to start, where there is a back-off."""
    round: int = 0
    """The round of the run's retries by hand that it belongs to."""
    won: bool = False
    """Whether it is the success of its shard, and of its gang where it is part of one."""


def attempt(entry: Entry, budgets: Mapping[str, int], before: Sequence[Entry] = ()) -> Attempt | None:
    """The attempt of a ledger's `entry`, with those `before` it; None where not even its start or its end is there.

    Whoever wrote its end says whether another one follows; where they could not know, the budgets do.
    """
    said = entry.start or entry.end
    if said is None:
        return None
    node, detail, gang = said.get("node", ""), "", bool(said.get("gang"))
    waits = gang
    for event in entry.own:
        if event["event"] == "ready":
            node, detail, waits = event["node"], "", False
            break
        if event["event"] == "waiting":
            detail = event["text"]
    job, started, end = said.get("job", ""), said["at"], entry.end
    if end is None:
        return Attempt(entry.number, node, job, started, gang=gang, waits=waits, detail=detail, round=entry.round)
    again = end.get("again")
    if again is None:
        again = retry.again(budgets, ledger.history([*before, entry], entry.round))
    code = end["exit_code"] if not end["signal"] and end["exit_code"] >= 0 else None
    return Attempt(
        entry.number, node, job, started, ended=end["at"], exit_code=code, signal=end["signal"], cause=end["cause"],
        gang=gang, detail=end.get("detail", ""), again=bool(again), due=end.get("due"), round=entry.round,
        won=entry.succeeded,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class ShardStatus:
    """One shard: its state, and what its last attempt left."""

    index: int
    state: ShardState
    attempts: int = 0
    """How many attempts have started."""
    exit_code: int | None = None
    signal: int = 0
    cause: Cause | None = None
    node: str = ""
    job: str = ""
    """The Slurm job or array element, as squeue and scancel name it."""
    started: float | None = None
    ended: float | None = None
    detail: str = ""
    """Why it waits or how it ended, in words: the cluster's own or its supervisor's."""
    attempt: int | None = None
    """The number of the attempt that this is about: the one that has succeeded, else the last; None before any."""


@dataclasses.dataclass(frozen=True)
class RunStatus:
    """One run: its state, its shards, and how fresh this is."""

    run_id: str
    name: str
    state: RunState
    shards: tuple[ShardStatus, ...]
    jobs: tuple[str, ...]
    created: float
    asked: float
    """When the records were read, in seconds since the epoch."""
    notes: tuple[str, ...] = ()
    """What could not be found out, and why."""
    stopped: str = ""
    """Why nothing more of it may start, where that is not its user's wish: a limit of its own that is passed."""
    tasks: tuple[TaskStatus, ...] = ()
    """The tasks of a workflow, as they are in its last attempt; the whole of it is the run's one shard."""
    workflow: bool = False
    """Whether it was given as a workflow, be its shards the replicas of a task; its exit code is 0 or 1 then."""

    @property
    def done(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in TERMINAL

    def counts(self) -> dict[ShardState, int]:
        """How many shards are in each state, the empty ones left out."""
        found = dict.fromkeys(SHARD_STATES, 0)
        for shard in self.shards:
            found[shard.state] += 1
        return {state: count for state, count in found.items() if count}

    def folded(self, *states: ShardState) -> str:
        """The indices of the shards in these states, as Kubernetes writes completedIndexes: ``3,17,40-44``."""
        return fold_indexes(shard.index for shard in self.shards if shard.state in states)

    def unsuccessful(self) -> list[ShardStatus]:
        """The shards that have ended otherwise than well."""
        return [shard for shard in self.shards if shard.state in TERMINAL and shard.state != "succeeded"]

    def exit_code(self) -> int:
        """What ``hpcrun run`` and ``hpcrun wait`` exit with for this status."""
        if self.workflow and self.state == "partial":
            return 1
        of_one = self.state == "failed" and len(self.shards) == 1 and not self.workflow
        if of_one and self.shards[0].exit_code is not None:
            return self.shards[0].exit_code or 1
        if of_one and self.shards[0].signal:
            return 128 + self.shards[0].signal
        return {"succeeded": 0, "failed": 1, "partial": 3, "timed_out": 124, "cancelled": 130}.get(self.state, 1)

    def to_json(self) -> dict[str, Any]:
        """The status as a JSON value; times are seconds since the epoch."""
        return {
            "run_id": self.run_id,
            "name": self.name,
            "status": self.state,
            "counts": self.counts(),
            "completedIndexes": self.folded("succeeded"),
            "failedIndexes": self.folded("failed", "timed_out", "cancelled"),
            "jobs": list(self.jobs),
            "created": self.created,
            "asked": self.asked,
            "notes": list(self.notes),
            "stopped": self.stopped,
            "shards": [dataclasses.asdict(shard) for shard in self.shards],
            "tasks": [dataclasses.asdict(task) for task in self.tasks],
        }


@dataclasses.dataclass(frozen=True)
class Said:
    """What the cluster said of one job or element."""

    state: ShardState
    cause: Cause | None
    word: str
    exit_code: int | None = None
    signal: int = 0
    node: str = ""
    reason: str = ""
    begin: str = ""
    """When it is to start, where it waits for that, as the cluster spells it."""


def by_shard(plan: Plan, sent: Submitted, rows: Iterable[QueueRow | AccountingRow]) -> dict[int, Said]:
    """What the cluster said, by shard, of the last job that has it; rows of other jobs are passed over."""
    jobs = {one.job: one for one in sent.sent if one.job}
    found: dict[int, Said] = {}
    rounds: dict[int, int] = {}
    for row in rows:
        one = jobs.get(row.job)
        if one is None or one.batch >= len(plan.batches):
            continue
        batch, said = plan.batches[one.batch], _said(row)
        for shard in _shards(batch, row.tasks):
            if rounds.get(shard, -1) <= one.round and (one.shards is None or shard in one.shards):
                found[shard], rounds[shard] = said, one.round
    return found


def _shards(batch: Batch, tasks: Sequence[int] | None) -> Iterable[int]:
    if not batch.array:
        return range(batch.first, batch.first + batch.count)
    if batch.pack == 1 and not batch.ids:
        return (batch.first + task for task in tasks or ())
    return (shard for task in tasks or () for shard in batch.shards_of(task))


def _said(row: QueueRow | AccountingRow) -> Said:
    state, cause = from_slurm(row.state)
    if isinstance(row, QueueRow):
        return Said(state, cause, row.state, node=row.nodes, reason=row.reason, begin=row.begin)
    code = None if row.signal else row.exit_code
    return Said(state, cause, row.state, exit_code=code, signal=row.signal, node=row.nodes)


@dataclasses.dataclass(frozen=True)
class Seen:
    """Everything that is known of a run."""

    records: Mapping[int, Sequence[Attempt]]
    """The attempts of each shard that has any, in order."""
    submitted: Submitted
    queue: Mapping[int, Said] | None
    """None where the queue could not be asked, or need not be."""
    accounting: Mapping[int, Said] | None
    """None where there is none, or nothing to ask it."""
    stopped: tuple[str, str] | None
    """Who has said that nothing more may start, and why (`events.stopped`)."""
    asked: float
    notes: tuple[str, ...] = ()
    stopped_before: tuple[str, str] | None = None
    """The same of the word that was taken back when shards were tried again by hand."""
    never_launched: frozenset[int] = frozenset()
    """Where there is no accounting: the shards that Slurm is known not to have launched."""
    tasks: Sequence[Mapping[str, Any]] = ()
    """Of a workflow: what the record of its tasks has of the last attempt."""
    queue_age: float = 0.0
    """How many seconds old the queue's answer was, where somebody else had been given it before; else 0."""


def unexplained(plan: Plan, seen: Seen) -> list[int]:
    """The shards that neither their record nor the queue accounts for: those to ask accounting about."""
    queue = seen.queue or {}
    return [
        shard
        for batch in plan.batches
        for shard, sent in _each(seen.submitted, batch)
        if (shard not in queue or (not plan.supervised and queue[shard].state in TERMINAL))
        and not (sent is not None and sent.never)
        and not end_of(seen.records.get(shard, ()), sent)
    ]


def _each(sent: Submitted, batch: Batch) -> Iterable[tuple[int, Sent | None]]:
    """Each shard of a batch, with the last that was sent to the cluster for it."""
    of = sent.of_shards(batch)
    return ((shard, of(shard)) for shard in range(batch.first, batch.first + batch.count))


def end_of(attempts: Sequence[Attempt], sent: Sent | None) -> Attempt | None:
    """The attempt that is a shard's end, if there is one: a success, or the last where no other follows."""
    for one in attempts:
        if one.won:
            return one
    if not attempts:
        return None
    last = attempts[-1]
    over = last.ended is not None and not last.again and last.round >= (sent.round if sent is not None else 0)
    return last if over else None


def settled(plan: Plan, records: Mapping[int, Sequence[Attempt]], sent: Submitted) -> bool:
    """Whether the records alone say how every shard ended, so that nothing need be asked."""
    return len(records) == plan.shards and all(
        end_of(records.get(shard, ()), one) for batch in plan.batches for shard, one in _each(sent, batch)
    )


def with_newer_attempts(
    queue: Mapping[int, Said], then: Mapping[int, Sequence[Attempt]], now: Mapping[int, Sequence[Attempt]]
) -> dict[int, Said]:
    """An answer of the queue, brought up to date: a shard that has begun another attempt since then is running."""
    running = Said("running", None, "RUNNING")
    begun = {shard: running for shard, attempts in now.items() if len(attempts) > len(then.get(shard, ()))}
    return {**queue, **begun}


def fold(plan: Plan, seen: Seen) -> RunStatus:
    """The status of the run of `plan`."""
    shards = tuple(
        _shard(plan, seen, batch, shard, sent) for batch in plan.batches for shard, sent in _each(seen.submitted, batch)
    )
    by, text = seen.stopped or ("", "")
    return RunStatus(
        run_id=plan.run_id,
        name=plan.name,
        state=aggregate((shard.state for shard in shards), cancelled=by == "user"),
        shards=shards,
        jobs=seen.submitted.jobs,
        created=plan.created,
        asked=seen.asked,
        notes=seen.notes,
        stopped=text,
        tasks=_tasks(plan, seen, shards[0]) if plan.tasks else (),
        workflow=bool(plan.tasks) or plan.sweep is not None,
    )


def _tasks(plan: Plan, seen: Seen, whole: ShardStatus) -> tuple[TaskStatus, ...]:
    from hpcrun import tasks  # what other runs do without

    last = seen.records[whole.index][-1] if seen.records.get(whole.index) else None
    if last is not None and whole.state == "pending":  # of the next attempt nothing has begun
        return tasks.fold(plan, (), over=False)
    over = whole.state in TERMINAL or (last is not None and last.ended is not None)
    return tasks.fold(plan, seen.tasks, over=over)


def _shard(plan: Plan, seen: Seen, batch: Batch, index: int, sent: Sent | None) -> ShardStatus:
    attempts = seen.records.get(index, ())
    job, over = address(plan, batch, index, sent), end_of(attempts, sent)
    if over is not None:
        found = ShardStatus(
            index, from_cause(over.cause), len(attempts), over.exit_code, over.signal, over.cause, over.node, job,
            started=over.started, ended=over.ended, detail=over.detail, attempt=over.number,
        )  # fmt: skip
        nothing_ran = over.exit_code is None and not over.signal
        return _as_stopped(found, seen.stopped) if nothing_ran else found
    last_number = attempts[-1].number if attempts else None
    base = ShardStatus(index, "pending", attempts=len(attempts), job=job, attempt=last_number)
    if not plan.supervised:
        return _as_stopped(_by_slurm_alone(base, seen, sent), seen.stopped)
    last = attempts[-1] if attempts and attempts[-1].round >= (sent.round if sent is not None else 0) else None
    if last is not None:
        base = dataclasses.replace(base, node=last.node, started=last.started)
    queued = seen.queue.get(index) if seen.queue is not None else None
    left = seen.queue is not None and (queued is None or queued.state in TERMINAL)
    if left and seen.stopped is not None and last is not None and last.ended is not None:
        # It waited for its next attempt. How Slurm calls the end of that start of its job depends on who was faster.
        found = dataclasses.replace(base, state="cancelled", cause="cancelled")
    elif queued is not None:
        found = _by_queue(plan, batch, base, last, queued)
    elif seen.accounting is not None and index in seen.accounting:
        found = _by_word(base, seen.accounting[index])
    else:
        found = _by_absence(base, last, seen, sent)
    return _as_waiting(plan, batch, _as_stopped(found, seen.stopped))


def address(plan: Plan, batch: Batch, shard: int, sent: Sent | None) -> str:
    """The job or element that has this shard, as squeue and scancel name it."""
    if sent is None or not sent.job:
        return ""
    return f"{sent.job}_{batch.task_of(shard)}" if batch.array and plan.cluster == "slurm" else sent.job


def _as_stopped(found: ShardStatus, stopped: tuple[str, str] | None) -> ShardStatus:
    """A shard that was cancelled because its whole run was stopped says why.

    Where time was up it has timed out; where the run before this one was no success, say, it has failed with that.
    """
    if stopped is None or found.state != "cancelled" or not stopped[1]:
        return found
    by, text = stopped
    if by == "run_timeout":
        return dataclasses.replace(found, state="timed_out", cause="timed_out", detail=text)
    return dataclasses.replace(found, state="failed" if by == "upstream" else found.state, detail=text)


def _as_waiting(plan: Plan, batch: Batch, found: ShardStatus) -> ShardStatus:
    """A shard that waits for other runs says for which."""
    if not plan.upstream or batch.after is not None or found.state != "pending" or found.detail != "Dependency":
        return found
    awaited = ", ".join(upstream.awaited(one.kind, one.run_id) for one in plan.upstream)
    return dataclasses.replace(found, detail=f"after {awaited}")


def _by_queue(plan: Plan, batch: Batch, base: ShardStatus, last: Attempt | None, queued: Said) -> ShardStatus:
    living = queued.state not in TERMINAL
    if living and last is not None and last.ended is not None:
        held = f" ({queued.reason})" if _holds_up(queued.reason) else ""
        return dataclasses.replace(base, state="pending", cause=last.cause, detail=f"{_how(last)}; tried again{held}")
    if queued.state == "running" and last is not None and last.waits:
        whom = "its workers are" if plan.worker else "the rest of its gang is"
        return dataclasses.replace(base, state="starting", detail=last.detail or f"{whom} not up yet")
    if queued.state == "running" and last is None:
        if batch.pack > 1 and batch.array:
            return dataclasses.replace(base, detail="waits for its turn in its element of the array")
        return dataclasses.replace(base, state="starting", node=queued.node)
    return _by_word(base, queued)


def _holds_up(reason: str) -> bool:
    """Whether Slurm's reason is what a requeued job waits for.

    Not the time that it waits anyway, how it ended before, or (with commas) all reasons of the rest of its array.
    """
    return reason not in ("", "None", "BeginTime", "NonZeroExitCode") and "," not in reason and ":" not in reason


def _how(ended: Attempt) -> str:
    """How an attempt ended, in a few words."""
    what = ended.detail or (ended.cause or "failed").replace("_", " ")
    if ended.cause == "failed" and not ended.detail:
        what = f"failed with signal {ended.signal}" if ended.signal else f"failed with exit code {ended.exit_code}"
    return f"attempt {ended.number}: {what}"


def _by_word(base: ShardStatus, said: Said) -> ShardStatus:
    """What the cluster says where no record says more.

    A job that Slurm counts as completed although it left no end has not run its program to it.
    """
    state, cause = said.state, said.cause
    detail = said.word if state == "unknown" else said.reason if state == "pending" and said.reason != "None" else ""
    if state == "succeeded":
        state, cause, detail = "failed", "launch_failed", f"Slurm says {said.word}, but the program left no record"
    elif state == "failed" and base.started is None and cause == "failed":
        cause, detail = "launch_failed", "it ended before its program started"
    elif state == "failed" and cause == "failed":
        cause, detail = "lost", "it ended without a record"
    return dataclasses.replace(
        base,
        state=state,
        cause=cause,
        exit_code=said.exit_code if state in TERMINAL else None,
        signal=said.signal,
        node=base.node or said.node,
        detail=detail,
    )


def _by_slurm_alone(base: ShardStatus, seen: Seen, sent: Sent | None) -> ShardStatus:
    """A shard of which there is no record at all, because Slurm alone carries it out.

    Slurm's queue does not tell exit codes, its accounting does.
    """
    if sent is None or not sent.job:
        return _not_submitted(base, sent)
    said = (seen.queue or {}).get(base.index)
    counted = (seen.accounting or {}).get(base.index)
    if counted is not None and (said is None or (said.state in TERMINAL and counted.state in TERMINAL)):
        said = counted
    if said is None:
        return _forgotten(base, seen)
    detail = {"unknown": said.word, "pending": said.reason}.get(said.state, "")
    code = 0 if said.state == "succeeded" else said.exit_code if said.state in TERMINAL else None
    return dataclasses.replace(
        base, state=said.state, cause=said.cause, exit_code=code, signal=said.signal, node=said.node,
        detail="" if detail == "None" else detail, attempts=1 if said.node else 0,
    )  # fmt: skip


def _forgotten(base: ShardStatus, seen: Seen) -> ShardStatus:
    """A shard that Slurm alone carries out and does not tell of."""
    if seen.queue is None:
        return dataclasses.replace(base, detail="not asked")
    if seen.stopped is not None or seen.accounting is not None:  # as in `_by_absence`
        return dataclasses.replace(base, state="cancelled", cause="cancelled", detail="by scancel, while it waited")
    detail = "Slurm has forgotten it, and keeps no accounting: how it ended is not known"
    return dataclasses.replace(base, state="failed", cause="lost", detail=detail)


def _not_submitted(base: ShardStatus, sent: Sent | None) -> ShardStatus:
    """A shard whose batch has no job: none will come, or one may, or for all anybody knows there is one."""
    if sent is not None and sent.refused:
        return dataclasses.replace(base, state="failed", cause="launch_failed", detail=f"not submitted: {sent.refused}")
    if sent is not None and sent.never:
        detail = f"{sent.found}; hpcrun retry submits it"
        return dataclasses.replace(base, state="failed", cause="launch_failed", detail=detail)
    if sent is not None and sent.under_way:
        return dataclasses.replace(base, detail=sent.found)
    why = f" ({sent.found})" if sent is not None and sent.found else ""
    detail = f"whether it was submitted is not known{why}; hpcrun cancel makes sure that it does not run"
    return dataclasses.replace(base, state="unknown", detail=detail)


def _by_absence(base: ShardStatus, last: Attempt | None, seen: Seen, sent: Sent | None) -> ShardStatus:
    if seen.queue is None:
        return dataclasses.replace(
            base, state="running" if last is not None and last.ended is None else "pending", detail="not asked"
        )
    refused = seen.stopped[1] if seen.stopped is not None and seen.stopped[0] == "refused" else ""
    if refused and (sent is None or not sent.job):
        detail = f"not submitted: {refused}"
        return dataclasses.replace(base, state="failed", cause="launch_failed", detail=detail)
    if seen.stopped is not None:
        return dataclasses.replace(base, state="cancelled", cause="cancelled")
    if sent is None or not sent.job:
        return _not_submitted(base, sent)
    if seen.stopped_before is not None and (last is None or last.again):
        return dataclasses.replace(base, state="cancelled", cause="cancelled", detail=seen.stopped_before[1])
    if last is None and (seen.accounting is not None or base.index in seen.never_launched):
        # Slurm keeps nothing of an element that is cancelled while it waits with others of its array (24.11): it is
        # neither in the queue nor in accounting. Everything else leaves a trace.
        return dataclasses.replace(base, state="cancelled", cause="cancelled", detail="by scancel, while it waited")
    if last is not None and last.ended is not None:
        detail = f"{_how(last)}; it was to be tried again, and has left the queue"
        return dataclasses.replace(base, state="failed", cause=last.cause, detail=detail)
    detail = "it ended without a record" if last is not None else "it left the queue, and no record says why"
    return dataclasses.replace(base, state="failed", cause="lost", detail=detail)
