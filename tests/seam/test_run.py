"""The handle on a run: how often it asks, what it makes of the answers, how it cancels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeCluster

from hpcrun import config, events, submission
from hpcrun.run import Run
from hpcrun.spec import raw


def submitted(monkeypatch: pytest.MonkeyPatch, cluster: FakeCluster, **fields: object) -> Run:
    """A run of `true` on the fake; nothing has been asked of it since."""
    monkeypatch.setattr(submission, "connect", lambda *_, **__: cluster)
    settings = config.load(os.environ, "/")
    run = submission.carry_out(submission.prepare(raw({"command": ["true"], **fields}), settings, "slurm", typed=True))
    cluster.calls.clear()
    return run


def record(run: Run, shard: int, *, attempt: int = 0, **end: Any) -> None:
    """Let an attempt of `shard` have started, and ended as `end` says."""
    path = run.dir.record(shard, attempt)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    start = {"at": 1.0, "shard": shard, "attempt": attempt, "node": "c1", "job": "100", "task": shard}
    events.add(path, "start", start)
    if end:
        events.add(path, "end", {"at": 2.0, "exit_code": 0, "signal": 0, "cause": None, **end})


def test_nothing_is_asked_once_every_end_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A finished run costs the scheduler nothing, however often it is looked at."""
    cluster = FakeCluster()
    run = submitted(monkeypatch, cluster, shards=3)
    for shard in range(3):
        record(run, shard, exit_code=0)
    assert run.status().state == "succeeded"
    assert cluster.calls == []


@pytest.mark.parametrize("accounting", [True, False])
def test_two_questions_at_most(monkeypatch: pytest.MonkeyPatch, accounting: bool) -> None:
    """One for the queue, one for what the queue has forgotten, whatever the size of the run."""
    cluster = FakeCluster(max_array=10, accounting=accounting)
    run = submitted(monkeypatch, cluster, shards=40)
    cluster.set("100", "NODE_FAIL")
    cluster.forgotten.add("100")
    for task in range(10):  # Slurm opens it before anything of a job runs
        Path(run.dir.slurm_output("100", task)).touch()
    status = run.status()
    assert len(cluster.calls) == (2 if accounting else 1)
    assert status.folded("failed") == "0-9"
    assert {shard.cause for shard in status.shards[:10]} == {"node_failed" if accounting else "lost"}


def test_a_queue_that_cannot_be_asked_is_no_news(monkeypatch: pytest.MonkeyPatch) -> None:
    """With slurmctld down nothing is taken for lost; the status says what it could not ask."""
    cluster = FakeCluster()
    run = submitted(monkeypatch, cluster, shards=2)
    record(run, 0, exit_code=0)
    record(run, 1)
    cluster.down = True
    status = run.status()
    assert [shard.state for shard in status.shards] == ["succeeded", "running"]
    assert not status.done
    assert "the fake is down" in status.notes[0]


def test_preempted_and_brought_back_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt that ended by preemption is not the end while Slurm has the shard in its queue."""
    cluster = FakeCluster()
    run = submitted(monkeypatch, cluster, shards=2)
    record(run, 0, exit_code=0)
    record(run, 1, signal=15, exit_code=-1, cause="preempted")
    assert run.status().shards[1].state == "pending"
    record(run, 1, attempt=1, exit_code=0)
    assert run.status().state == "succeeded"
    assert run.status().shards[1].attempts == 2


def test_cancel_ends_the_last_batch_first_and_leaves_its_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ending an array that another waits for would start the other; the mark stops whatever starts all the same."""
    cluster = FakeCluster(max_array=10)
    run = submitted(monkeypatch, cluster, shards=25, max_parallel=2)
    assert run.cancel().state == "cancelled"
    assert cluster.cancelled == ["102", "101", "100"]
    assert os.path.exists(run.dir.cancelled)


def test_a_run_that_has_ended_is_not_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its outcome stays what it was."""
    cluster = FakeCluster()
    run = submitted(monkeypatch, cluster)
    record(run, 0, exit_code=0)
    assert run.cancel().state == "succeeded"
    assert cluster.cancelled == []


def test_completed_without_a_record_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that Slurm counts as completed but that left no end did not do its work."""
    cluster = FakeCluster()
    run = submitted(monkeypatch, cluster)
    cluster.set("100", "COMPLETED")
    status = run.status()
    assert status.state == "failed"
    assert status.shards[0].cause == "launch_failed"


def test_an_unknown_state_is_reported_and_is_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A word that this version does not know is shown as Slurm wrote it."""
    cluster = FakeCluster()
    run = submitted(monkeypatch, cluster)
    cluster.set("100", "HIBERNATING")
    shard = run.status().shards[0]
    assert (shard.state, shard.detail) == ("unknown", "HIBERNATING")
