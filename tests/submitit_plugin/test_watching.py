"""What the states of jobs cost a cluster."""

from __future__ import annotations

import pytest
import submitit
from fakes import FakeCluster
from submitit_plugin import functions

from hpcrun import submission
from hpcrun.submitit_plugin import watching


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """What submissions and questions go to."""
    found = FakeCluster(max_array=100)
    monkeypatch.setattr(submission, "connect", lambda *_, **__: found)
    monkeypatch.setattr(watching, "_slurm", found)
    return found


def test_one_answer_for_all_jobs(executor: submitit.AutoExecutor, cluster: FakeCluster) -> None:
    """One question tells of all jobs of a run, whatever its size, and holds for a while."""
    executor.update_parameters(hpcrun_cluster="slurm")
    jobs = executor.map_array(functions.product, range(250), range(250))
    cluster.set("100", "CANCELLED", 3)
    cluster.calls.clear()
    assert [job.state for job in jobs] == ["PENDING"] * 3 + ["CANCELLED"] + ["PENDING"] * 246
    assert [index for index, job in enumerate(jobs) if job.done()] == [3]
    assert cluster.calls == ["queue"]


def test_nobody_is_asked_at_submission(executor: submitit.AutoExecutor, cluster: FakeCluster) -> None:
    """An array of several batches is submitted by one call each, and one for the limits."""
    executor.update_parameters(hpcrun_cluster="slurm")
    executor.map_array(functions.product, range(250), range(250))
    assert cluster.calls == ["limits", "submit", "submit", "submit"]
