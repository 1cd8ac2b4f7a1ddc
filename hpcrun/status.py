"""fold: from the plan, the records and what the cluster said to the status of a run. Pure.

A record with an end beats whatever the cluster says, for it was written by the one who saw the end. Where there is
none, the queue is believed, then accounting. That a job is not in the queue means something only when the queue was
asked after the submission and did answer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hpcrun.cluster import AccountingRow, QueueRow
from hpcrun.indexes import fold_indexes, parse_indexes
from hpcrun.plan import Plan
from hpcrun.states import SHARD_STATES, TERMINAL, aggregate, from_cause, from_slurm

if TYPE_CHECKING:
    from hpcrun.states import Cause, RunState, ShardState


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


def attempt(events: Sequence[Mapping[str, Any]], number: int) -> Attempt | None:
    """The attempt whose record holds `events`, or None where not even its start is there."""
    if not events or events[0].get("event") != "start":
        return None
    first, last = events[0], events[-1]
    ready = next((event for event in events if event["event"] == "ready"), None)
    node = ready["node"] if ready else first["node"]
    gang = bool(first.get("gang"))
    waiting = [event["text"] for event in events if event["event"] == "waiting"]
    begun = Attempt(
        number, node=node, job=first["job"], started=first["at"], gang=gang, waits=gang and ready is None,
        detail=waiting[-1] if waiting and ready is None else "",
    )  # fmt: skip
    if last.get("event") != "end":
        return begun
    code = last["exit_code"] if not last["signal"] and last["exit_code"] >= 0 else None
    return dataclasses.replace(
        begun, ended=last["at"], exit_code=code, signal=last["signal"], cause=last["cause"],
        detail=last.get("detail", ""), waits=False,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Sent:
    """One call of sbatch, intended, and what came of it."""

    batch: int
    round: int = 0
    """0 for the run's own submission, then one more for each retry by hand."""
    tasks: tuple[int, ...] | None = None
    """The elements of the batch's array that it has; None for all."""
    job: str = ""
    """The job's id; empty where it is not known that there is one."""
    refused: str = ""
    """Slurm's reason, where it said no."""

    @property
    def unconfirmed(self) -> bool:
        """Whether nobody knows what came of it."""
        return not self.job and not self.refused


@dataclasses.dataclass(frozen=True)
class Submitted:
    """Everything that was given to the cluster for a run, in order."""

    sent: tuple[Sent, ...] = ()

    @property
    def jobs(self) -> tuple[str, ...]:
        """The ids of all jobs, in the order of their submission."""
        return tuple(one.job for one in self.sent if one.job)

    @property
    def unconfirmed(self) -> tuple[Sent, ...]:
        """What was intended and has no outcome."""
        return tuple(one for one in self.sent if one.unconfirmed)

    def of(self, batch: int, task: int) -> Sent | None:
        """The last that has this element; None where its batch was never reached."""
        fitting = [one for one in self.sent if one.batch == batch and (one.tasks is None or task in one.tasks)]
        return fitting[-1] if fitting else None


def submitted(events: Iterable[Mapping[str, Any]]) -> Submitted:
    """The state of a submission from its record."""
    found: dict[tuple[int, int], Sent] = {}
    for event in events:
        key = event["batch"], event.get("round", 0)
        if event["event"] == "intent":
            tasks = event.get("tasks")
            found[key] = Sent(*key, tasks=None if tasks is None else tuple(parse_indexes(tasks)))
        elif event["event"] == "submitted" and key in found:
            found[key] = dataclasses.replace(found[key], job=event["job"])
        elif event["event"] == "refused" and key in found:
            found[key] = dataclasses.replace(found[key], refused=event["reason"])
    return Submitted(tuple(found.values()))


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
        if self.state == "failed" and len(self.shards) == 1 and self.shards[0].exit_code is not None:
            return self.shards[0].exit_code or 1
        if self.state == "failed" and len(self.shards) == 1 and self.shards[0].signal:
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
            "shards": [dataclasses.asdict(shard) for shard in self.shards],
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


def by_shard(plan: Plan, jobs: Mapping[int, str], rows: Iterable[QueueRow | AccountingRow]) -> dict[int, Said]:
    """What the cluster said, by shard; rows of other jobs are passed over."""
    batches = {job: plan.batches[batch] for batch, job in jobs.items()}
    found: dict[int, Said] = {}
    for row in rows:
        batch = batches.get(row.job)
        if batch is not None:
            said = _said(row)
            tasks = row.tasks if row.tasks is not None else range(1 if batch.array else batch.count)
            for task in tasks:
                found[batch.first + task] = said
    return found


def _said(row: QueueRow | AccountingRow) -> Said:
    state, cause = from_slurm(row.state)
    if isinstance(row, QueueRow):
        return Said(state, cause, row.state, node=row.nodes, reason=row.reason)
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
    cancelled: bool
    asked: float
    notes: tuple[str, ...] = ()
    never_launched: frozenset[int] = frozenset()
    """Where there is no accounting: the shards that Slurm is known not to have launched."""


def unexplained(plan: Plan, seen: Seen) -> list[int]:
    """The shards that neither their record nor the queue accounts for: those to ask accounting about."""
    queue = seen.queue or {}
    return [shard for shard in range(plan.shards) if shard not in queue and not _ended(seen.records.get(shard, ()))]


def _ended(attempts: Sequence[Attempt]) -> bool:
    return bool(attempts) and attempts[-1].ended is not None


def settled(plan: Plan, records: Mapping[int, Sequence[Attempt]]) -> bool:
    """Whether the records alone say how every shard ended, so that nothing need be asked."""
    return len(records) == plan.shards and all(
        _ended(attempts) and (plan.cluster == "local" or attempts[-1].cause not in _BROUGHT_BACK)
        for attempts in records.values()
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
    jobs = {batch.index: seen.submitted.jobs.get(batch.index, "") for batch in plan.batches}
    shards = tuple(
        _shard(plan, seen, shard, jobs[batch.index], shard - batch.first if batch.array else None)
        for batch in plan.batches
        for shard in range(batch.first, batch.first + batch.count)
    )
    return RunStatus(
        run_id=plan.run_id,
        name=plan.name,
        state=aggregate((shard.state for shard in shards), cancelled=seen.cancelled),
        shards=shards,
        jobs=tuple(job for job in jobs.values() if job),
        created=plan.created,
        asked=seen.asked,
        notes=seen.notes,
    )


def _shard(plan: Plan, seen: Seen, index: int, job: str, task: int | None) -> ShardStatus:
    attempts = seen.records.get(index, ())
    last = attempts[-1] if attempts else None
    queued = seen.queue.get(index) if seen.queue is not None else None
    address = "" if not job else job if task is None or plan.cluster == "local" else f"{job}_{task}"
    base = ShardStatus(index, "pending", attempts=len(attempts), job=address)
    if last is not None:
        base = dataclasses.replace(base, node=last.node, started=last.started)
    if seen.cancelled and queued is None and last is not None and last.cause in _BROUGHT_BACK:
        return dataclasses.replace(base, state="cancelled", cause="cancelled", ended=last.ended, detail=last.detail)
    if last is not None and last.ended is not None and (plan.cluster == "local" or not _brought_back(last, queued)):
        return dataclasses.replace(
            base,
            state=from_cause(last.cause),
            exit_code=last.exit_code,
            signal=last.signal,
            cause=last.cause,
            ended=last.ended,
            detail=last.detail,
        )
    if queued is not None:
        return _by_queue(plan, base, last, queued)
    if seen.accounting is not None and index in seen.accounting:
        return _by_word(base, seen.accounting[index])
    return _by_absence(base, last, seen, job)


_BROUGHT_BACK: tuple[Cause, ...] = ("preempted", "node_failed")
"""After these Slurm itself requeues a job."""


def _brought_back(last: Attempt, queued: Said | None) -> bool:
    """Whether Slurm will run an ended attempt's shard again: it is in the queue still, or once more."""
    return last.cause in _BROUGHT_BACK and queued is not None and queued.state not in TERMINAL


def _by_queue(plan: Plan, base: ShardStatus, last: Attempt | None, queued: Said) -> ShardStatus:
    if queued.state == "running" and last is not None and last.ended is not None:
        return dataclasses.replace(base, state="pending", detail=f"{last.detail or last.cause}; Slurm runs it again")
    if queued.state == "running" and last is not None and last.waits:
        whom = "its workers are" if plan.worker else "the rest of its gang is"
        return dataclasses.replace(base, state="starting", detail=last.detail or f"{whom} not up yet")
    if queued.state == "running" and last is None:
        return dataclasses.replace(base, state="starting", node=queued.node)
    return _by_word(base, queued)


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
    return dataclasses.replace(
        base,
        state=state,
        cause=cause,
        exit_code=said.exit_code if state in TERMINAL else None,
        signal=said.signal,
        node=base.node or said.node,
        detail=detail,
    )


def _not_submitted(base: ShardStatus, sent: Submitted) -> ShardStatus:
    """A shard whose batch has no job: refused, or else, for all anybody knows, about to be submitted or queued."""
    if sent.refused:
        detail = f"not submitted: {sent.refused}"
        return dataclasses.replace(base, state="failed", cause="launch_failed", detail=detail)
    detail = "whether it was submitted is not known; hpcrun cancel makes sure that it does not run"
    return dataclasses.replace(base, state="unknown", detail=detail)


def _by_absence(base: ShardStatus, last: Attempt | None, seen: Seen, job: str) -> ShardStatus:
    if seen.queue is None:
        return dataclasses.replace(base, state="running" if last is not None else "pending", detail="not asked")
    if seen.cancelled:
        return dataclasses.replace(base, state="cancelled", cause="cancelled")
    if not job:
        return _not_submitted(base, seen.submitted)
    if last is None and (seen.accounting is not None or base.index in seen.never_launched):
        # Slurm keeps nothing of an element that is cancelled while it waits with others of its array (24.11): it is
        # neither in the queue nor in accounting. Everything else leaves a trace.
        return dataclasses.replace(base, state="cancelled", cause="cancelled", detail="by scancel, while it waited")
    detail = "it ended without a record" if last is not None else "it left the queue, and no record says why"
    return dataclasses.replace(base, state="failed", cause="lost", detail=detail)
