"""What every cluster must do, whether it is Slurm, this machine or a fake: one set of tests for all.

A module that tests a cluster subclasses `ClusterContract` and gives the fixture `seam`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from waiting import until

from hpcrun.cluster import Cluster
from hpcrun.errors import AccountingDisabled
from hpcrun.rundir import RunDir
from hpcrun.states import TERMINAL, from_slurm


@dataclasses.dataclass(frozen=True)
class Seam:
    """A cluster, a way to start a run of three shards that stays until it is ended, and one that ends by itself."""

    cluster: Cluster
    start_staying: Callable[[], tuple[RunDir, str]]
    start_ending: Callable[[], tuple[RunDir, str]]


def shown(seam: Seam, run: RunDir, job: str) -> dict[int, str]:
    """The state of each task of `job` that waits or runs."""
    rows = [row for row in seam.cluster.queue(run) if row.job == job and from_slurm(row.state)[0] not in TERMINAL]
    return {task: row.state for row in rows for task in (row.tasks if row.tasks is not None else (0,))}


class ClusterContract:
    @pytest.fixture
    def seam(self) -> Seam:
        raise NotImplementedError("each cluster gives its own")

    def test_limits_are_positive(self, seam: Seam) -> None:
        """A submission can be compiled: there is room for at least one element."""
        assert seam.cluster.limits().max_array >= 1

    def test_a_submitted_run_is_in_the_queue_at_once(self, seam: Seam) -> None:
        """Right after submission every task is shown, in states that are known and no end."""
        run, job = seam.start_staying()
        try:
            seen = shown(seam, run, job)
            assert sorted(seen) == [0, 1, 2]
            assert {from_slurm(state)[0] for state in seen.values()} <= {"pending", "starting", "running"}
        finally:
            seam.cluster.cancel(run, [job])

    def test_a_cancelled_run_leaves_the_queue(self, seam: Seam) -> None:
        """Cancelling ends what runs and what waits."""
        run, job = seam.start_staying()
        seam.cluster.cancel(run, [job])
        until(lambda: not shown(seam, run, job), what="an empty queue")

    def test_cancelling_what_has_ended_is_no_error(self, seam: Seam) -> None:
        """A race between an end and a cancel has no loser."""
        run, job = seam.start_ending()
        until(lambda: not shown(seam, run, job), what="an empty queue")
        seam.cluster.cancel(run, [job])

    def test_each_element_as_it_stands(self, seam: Seam) -> None:
        """Asked for by name elements come one by one, and nothing comes of what nobody knows."""
        run, job = seam.start_staying()
        try:
            rows = seam.cluster.look_at([f"{job}_0", f"{job}_2"])
            assert {row.tasks for row in rows} <= {(0,), (2,)}
            assert {row.job for row in rows} <= {job}
            assert seam.cluster.look_at(["999999_3"]) == []
        finally:
            seam.cluster.cancel(run, [job])

    def test_what_has_ended_cannot_be_told_to_start(self, seam: Seam) -> None:
        """It is no error, for it may have ended just now; whoever asks is told, where the cluster knows of waits."""
        run, job = seam.start_ending()
        until(lambda: not shown(seam, run, job), what="an empty queue")
        assert set(seam.cluster.start_now([f"{job}_0", f"{job}_1"])) <= {f"{job}_0", f"{job}_1"}

    def test_what_is_not_there_cannot_be_requeued(self, seam: Seam) -> None:
        """The cluster's reason, and no exception."""
        assert seam.cluster.requeue("999999_3")

    def test_the_end_is_remembered_or_accounting_says_there_is_none(self, seam: Seam) -> None:
        """Accounting knows every task's end, also by itself, or says that it is not kept."""
        run, job = seam.start_ending()
        until(lambda: not shown(seam, run, job), what="an empty queue")

        def ends(*jobs: str) -> list[int]:
            rows = [row for row in seam.cluster.accounting(jobs) if row.job == job]
            tasks = [task for row in rows for task in (row.tasks or (0,))]
            return sorted(tasks) if all(from_slurm(row.state)[0] in TERMINAL for row in rows) else []

        try:
            until(lambda: ends(job) == [0, 1, 2], what="three ends in accounting")
            assert ends(f"{job}_0", f"{job}_2") == [0, 2]
        except AccountingDisabled:
            assert not seam.cluster.limits().accounting
