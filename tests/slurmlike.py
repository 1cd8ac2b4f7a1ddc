"""A Slurm in memory with a clock of its own, as somebody who follows a run meets it: what is requeued waits.

As measured on 24.11 with its default settings: a job that was requeued completes, then waits for two minutes unless it
is told to start now; told while it completes it waits all the same; told in the second of its requeue it dies.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from unit import made

from hpcrun import events
from hpcrun.cluster import AccountingRow, Asked, QueueRow
from hpcrun.errors import AccountingDisabled, ClusterUnavailable
from hpcrun.run import Run
from hpcrun.rundir import RunDir
from hpcrun.sharing import now
from hpcrun.status import RunStatus

CREDENTIAL = 121.0
"""Seconds for which Slurm holds back what it has requeued."""
JOB = "100"


class Time:
    """A clock that goes on when somebody sleeps, and carries out what is planned for each moment on the way."""

    def __init__(self) -> None:
        self.now = 50_000.0
        self._planned: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        until = self.now + seconds
        while self._planned and self._planned[0][0] <= until:
            at, _, action = heapq.heappop(self._planned)
            self.now = max(self.now, at)
            action()
        self.now = max(self.now, until)

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._planned, (self.now + seconds, next(self._order), action))


class Element:
    """An array element: the state that squeue shows, since when, and why it waits."""

    def __init__(self, clock: Time) -> None:
        self._clock = clock
        self.state, self.reason, self.since, self.starts = "PENDING", "None", clock.now, 0
        self.begin = "N/A"

    def become(self, state: str, reason: str = "None", begin: str = "N/A") -> None:
        self.state, self.reason, self.since, self.begin = state, reason, self._clock.now, begin


class World:
    """One run on this Slurm: an array of `shards`, each attempt of which takes `takes` seconds and ends as told."""

    name = "slurm"

    def __init__(self, folder: Path, *, shards: int = 1, **fields: Any) -> None:
        self.clock = Time()
        fields = {"shards": shards, **fields}
        asked = dataclasses.replace(made.ASKED, created=self.clock.now)
        limits = dataclasses.replace(made.SLURM, accounting=False)
        self.plan = made.plan(fields, asked=asked, limits=limits)
        self.dir = RunDir(str(folder / "abc"))
        for path in self.dir.folders(shards):
            os.makedirs(path)
        Path(self.dir.plan).write_text(json.dumps(self.plan.to_json()))
        events.add(self.dir.submission, "intent", {"batch": 0})
        events.add(self.dir.submission, "submitted", {"batch": 0, "job": JOB})
        count = shards if self.plan.batches[0].array else 1
        self.elements = [Element(self.clock) for _ in range(count)]
        self.exits: dict[int, list[int]] = {}
        """The exit codes of a shard's attempts; 0 for those beyond."""
        self.never_launches: dict[int, int] = {}
        """How often an element ends before its program starts."""
        self.takes, self.completing, self.latency = 1.0, 0.13, 0.5
        self.calls: list[tuple[str, float, tuple[str, ...]]] = []
        self.revoked: list[int] = []
        self.strangers: list[QueueRow] = []
        self.down = self.deaf = False
        self.refusal = ""

    # What happens in it.

    def start(self, task: int) -> None:
        one = self.elements[task]
        if one.state != "PENDING" or one.reason.startswith(("JobHeld", "launch")):
            return
        one.starts += 1
        if self.never_launches.get(task, 0) > 0:
            self.never_launches[task] -= 1
            one.become("FAILED", "NonZeroExitCode")
            return
        one.become("RUNNING")
        number = self.attempts(task)
        path = self.dir.record(task, number)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        start = {
            "at": self.clock.now,
            "shard": task,
            "attempt": number,
            "node": "c1",
            "job": JOB,
            "task": task,
            "said": 0,
        }
        events.add(path, "start", start)
        self.clock.later(self.takes, lambda: self.end(task, number))

    def attempts(self, shard: int) -> int:
        """How many attempts of a shard there are records of."""
        number = 0
        while any(map(os.path.exists, (self.dir.record(shard, number), self.dir.silence(shard, number)))):
            number += 1
        return number

    def end(self, task: int, number: int) -> None:
        if self.elements[task].state != "RUNNING":
            return
        codes = self.exits.get(task, [])
        code = codes[number] if number < len(codes) else 0
        again = bool(code) and number < self.plan.budgets["failed"]
        self.record_end(task, number, exit_code=code, cause="failed" if code else None, again=again)
        if again:
            self.taken_back(task)
        else:
            self.elements[task].become("FAILED" if code else "COMPLETED")

    def record_end(self, task: int, number: int, **facts: Any) -> None:
        facts = {"at": self.clock.now, "exit_code": 0, "signal": 0, **facts}
        events.add(self.dir.record(task, number), "end", facts)

    def taken_back(self, task: int) -> None:
        """The element is requeued: it completes, and waits."""
        one = self.elements[task]
        one.become("COMPLETING")
        self.clock.later(self.completing, lambda: self._waits(task))

    def _waits(self, task: int) -> None:
        one = self.elements[task]
        one.become("PENDING", "BeginTime", str(self.clock.now + CREDENTIAL))
        since = one.since
        self.clock.later(CREDENTIAL, lambda: self.start(task) if one.since == since else None)

    # What it answers.

    def _called(self, what: str, *jobs: str) -> None:
        self.calls.append((what, self.clock.now, jobs))
        if self.down:
            raise ClusterUnavailable("slurmctld is down")

    def called(self, what: str) -> list[tuple[str, ...]]:
        return [jobs for name, _, jobs in self.calls if name == what]

    def look_at(self, jobs: Sequence[str]) -> list[QueueRow]:
        self._called("look_at", *jobs)
        return [row for row in self._rows() if (f"{row.job}_{row.tasks[0]}" if row.tasks else row.job) in jobs]

    def queue(self, run: RunDir) -> list[QueueRow]:
        """Folded: with elements of its array that wait, one that was requeued is shown to wait while it completes."""
        self._called("queue")
        first = [task for task, one in enumerate(self.elements) if one.state == "PENDING" and not one.starts]
        if not first or not self.plan.batches[0].array:
            return self._rows() + self.strangers
        folded = [task for task, one in enumerate(self.elements) if one.state in ("PENDING", "COMPLETING")]
        reasons = ",".join(dict.fromkeys(self.elements[task].reason for task in [*first, *folded]))
        others = [row for row in self._rows() if row.tasks and row.tasks[0] not in folded]
        return [QueueRow(JOB, tuple(folded), "PENDING", reasons), *others, *self.strangers]

    def lately(self, run: RunDir, since: float) -> Asked:
        return Asked(self.queue(run), now(), 0.0)

    def _rows(self) -> list[QueueRow]:
        array = self.plan.batches[0].array
        return [
            QueueRow(JOB, (task,) if array else None, one.state, one.reason, begin=one.begin)
            for task, one in enumerate(self.elements)
        ]

    def accounting(self, jobs: Sequence[str]) -> list[AccountingRow]:
        raise AccountingDisabled("no accounting here")

    def cancel(self, run: RunDir, jobs: Sequence[str]) -> None:
        self._called("cancel", *jobs)
        for one in self.elements:
            if one.state in ("PENDING", "RUNNING"):
                one.become("CANCELLED")

    def _element(self, job: str) -> int:
        array, _, task = job.partition("_")
        assert array == JOB, f"{job} is another run's"
        return int(task or 0)

    def start_now(self, jobs: Sequence[str]) -> dict[str, str]:
        self._called("start_now", *jobs)
        for job in jobs:
            task = self._element(job)
            one = self.elements[task]
            if one.state == "PENDING" and self.clock.now - one.since < 2.0:
                self.revoked.append(task)
            if one.state == "PENDING" and not one.reason.startswith("JobHeld") and not self.deaf:
                one.reason, one.begin = "None", "N/A"
                self.clock.later(self.latency, lambda task=task: self.start(task))  # type: ignore[misc]
        return {}

    def release(self, jobs: Sequence[str]) -> None:
        self._called("release", *jobs)
        for job in jobs:
            task = self._element(job)
            self.elements[task].reason = "None"
            self.clock.later(self.latency, lambda task=task: self.start(task))  # type: ignore[misc]

    def requeue(self, job: str) -> str:
        self._called("requeue", job)
        if self.refusal:
            return self.refusal
        one = self.elements[self._element(job)]
        if one.state == "PENDING":
            return ""
        assert one.state != "RUNNING", "a running attempt would be killed"
        self._waits(self._element(job))
        return ""

    def output(self, task: int = 0) -> Path:
        """What Slurm itself writes for an element."""
        return Path(self.dir.slurm_output(JOB, task if self.plan.batches[0].array else None))

    # Who looks at it.

    def run(self) -> Run:
        return Run(self.dir.path, self)  # type: ignore[arg-type]

    def followed(self, most: float = 600.0) -> list[RunStatus]:
        """Every status that somebody sees who follows from now on to the end."""
        seen, end_by = [], self.clock.now + most
        for status in self.run().follow():
            seen.append(status)
            assert self.clock.now < end_by, status
        return seen

    def starts(self, shard: int) -> list[float]:
        """When each attempt of a shard started."""
        found = []
        for number in range(self.attempts(shard)):
            said = events.read(self.dir.record(shard, number))
            found += [event["at"] for event in said if event["event"] == "start"]
        return found

    def ends(self, shard: int) -> list[float]:
        """When each attempt of a shard ended."""
        found = []
        for number in range(self.attempts(shard)):
            said = [*events.read(self.dir.record(shard, number)), *events.read(self.dir.silence(shard, number))]
            found += [event["at"] for event in said if event["event"] == "end"][:1]
        return found
