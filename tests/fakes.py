"""A cluster in memory, for tests of what stands on the seam. It passes the contract of tests/contract.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from hpcrun.cluster import AccountingRow, Asked, Charge, Limits, QueueRow
from hpcrun.errors import AccountingDisabled, ClusterUnavailable, SubmissionRefused
from hpcrun.plan import Batch
from hpcrun.rundir import RunDir
from hpcrun.sharing import now


@dataclasses.dataclass
class Job:
    """A job of the fake: its batch, what it waits for, the state of each task, and the script that it was made of."""

    batch: Batch
    dependency: str | None
    states: list[str]
    script: str = ""


class FakeCluster:
    """Jobs wait until a test says what becomes of them. After `refuse_after` of them it says no; `down`, nothing."""

    name = "slurm"

    def __init__(self, *, max_array: int = 1001, accounting: bool = True, refuse_after: int | None = None) -> None:
        self._limits = Limits(max_array=max_array, accounting=accounting)
        self.jobs: dict[str, Job] = {}
        self.calls: list[str] = []
        self.cancelled: list[str] = []
        self.refuse_after = refuse_after
        self.forgotten: set[str] = set()
        """Jobs that ended so long ago that the queue has dropped them."""
        self.down = False

    def _called(self, what: str) -> None:
        self.calls.append(what)
        if self.down:
            raise ClusterUnavailable("the fake is down")

    def limits(self, where: Sequence[object] = (), *, places: bool = True) -> Limits:
        self._called("limits")
        return self._limits

    def submit(
        self,
        run: RunDir,
        batch: Batch,
        dependency: str | None,
        in_round: int = 0,
        tasks: Sequence[int] | None = None,
    ) -> str:
        self._called("submit")
        if self.refuse_after is not None and len(self.jobs) >= self.refuse_after:
            raise SubmissionRefused("Job violates accounting/QOS policy", ("sbatch", run.script(batch.index)))
        job = str(100 + len(self.jobs))
        self.jobs[job] = Job(batch, dependency, ["PENDING"] * batch.count, run.script(batch.index, in_round))
        return job

    def submit_script(self, path: str, dependency: str | None) -> str:
        self._called("submit_script")
        raise SubmissionRefused("the fake knows only batches", ("sbatch", path))

    def set(self, job: str, state: str, *tasks: int) -> None:
        """Let `tasks` of `job` (all of them by default) be in a state of Slurm's."""
        for task in tasks or range(self.jobs[job].batch.count):
            self.jobs[job].states[task] = state

    def _rows(self) -> list[QueueRow]:
        return [
            QueueRow(job, (task,) if one.batch.array else None, state, script=one.script)
            for job, one in self.jobs.items()
            for task, state in enumerate(one.states)
        ]

    def queue(self, run: RunDir) -> list[QueueRow]:
        self._called("queue")
        return [row for row in self._rows() if row.job not in self.forgotten]

    def lately(self, run: RunDir, since: float) -> Asked:
        return Asked(self.queue(run), now(), 0.0)

    def look_at(self, jobs: Sequence[str]) -> list[QueueRow]:
        self._called("look_at")
        rows = (row for row in self._rows() if row.job not in self.forgotten)
        return [row for row in rows if (f"{row.job}_{row.tasks[0]}" if row.tasks else row.job) in jobs]

    def start_now(self, jobs: Sequence[str]) -> dict[str, str]:
        self._called("start_now")
        waiting = {
            f"{row.job}_{row.tasks[0]}" if row.tasks else row.job for row in self._rows() if row.state == "PENDING"
        }
        return {job: "Job is no longer pending execution" for job in jobs if job not in waiting}

    def release(self, jobs: Sequence[str]) -> None:
        self._called("release")

    def requeue(self, job: str) -> str:
        self._called("requeue")
        array, _, task = job.partition("_")
        if array not in self.jobs or array in self.forgotten:
            return "Invalid job id specified"
        self.set(array, "PENDING", int(task or 0))
        return ""

    def accounting(self, jobs: Sequence[str]) -> list[AccountingRow]:
        self._called("accounting")
        if not self._limits.accounting:
            raise AccountingDisabled("the fake keeps no accounting")
        rows = (row for row in self._rows() if row.job in jobs or f"{row.job}_{(row.tasks or [''])[0]}" in jobs)
        return [AccountingRow(row.job, row.tasks, row.state, 0, 0, "") for row in rows]

    def history(self, run: RunDir, since: float) -> list[AccountingRow]:
        self._called("history")
        if not self._limits.accounting:
            raise AccountingDisabled("the fake keeps no accounting")
        return [AccountingRow(row.job, row.tasks, row.state, 0, 0, "", row.script) for row in self._rows()]

    def charges(self, jobs: Sequence[str], since: float) -> list[Charge]:
        self._called("charges")
        if not self._limits.accounting:
            raise AccountingDisabled("the fake keeps no accounting")
        return [Charge(10.0, {"cpu": 2.0, "billing": 3.0}) for job in jobs for _ in self.jobs[job].states]

    def cancel(self, run: RunDir, jobs: Sequence[str]) -> None:
        self._called("cancel")
        for job in jobs:
            self.cancelled.append(job)
            states = self.jobs[job].states
            states[:] = [s if s in ("COMPLETED", "FAILED") else "CANCELLED" for s in states]
