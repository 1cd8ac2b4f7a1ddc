"""The handle on a run: how often it asks, what it makes of the answers, how it cancels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeCluster

from hpcrun import config, events, submission
from hpcrun.errors import UsageError
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


# Attempts that are followed by others.


def silence(run: Run, shard: int, *, attempt: int = 0, **end: Any) -> None:
    """Let somebody else than its supervisor have said how an attempt of `shard` ended."""
    path = run.dir.silence(shard, attempt)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    events.claim(path, events.line("end", {"at": 3.0, "exit_code": -1, "signal": 0, **end}))


def test_between_two_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    """An end that is to be followed by another attempt is none, whatever Slurm says of the job meanwhile."""
    cluster = FakeCluster()
    run = submitted(monkeypatch, cluster, shards=2, retries=1)
    record(run, 0, exit_code=0)
    record(run, 1, exit_code=3, cause="failed", again=True)
    for word in ("COMPLETING", "REQUEUED", "PENDING"):
        cluster.set("100", word, 1)
        status = run.status()
        shard = status.shards[1]
        assert (status.done, shard.state, shard.cause, shard.attempts) == (False, "pending", "failed", 1)
        assert shard.detail == "attempt 0: failed with exit code 3; tried again"
    record(run, 1, attempt=1)
    cluster.set("100", "RUNNING", 1)
    assert run.status().shards[1].state == "running"
    events.add(run.dir.record(1, 1), "end", {"at": 9.0, "exit_code": 3, "signal": 0, "cause": "failed", "again": False})
    status = run.status()
    assert (status.state, status.shards[1].cause, status.shards[1].attempts) == ("partial", "failed", 2)


def test_cancelling_between_two_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits to be tried again is cancelled like everything else that waits."""
    cluster = FakeCluster()
    run = submitted(monkeypatch, cluster, shards=2, retries=1)
    for shard in range(2):
        record(run, shard, exit_code=3, cause="failed", again=True)
    assert run.cancel().state == "cancelled"
    assert cluster.cancelled == ["100"]
    assert {shard.cause for shard in run.shards()} == {"cancelled"}


def test_the_word_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt that only somebody else saw end has ended; by the budgets where they do not say what follows."""
    cluster = FakeCluster()
    run = submitted(monkeypatch, cluster, shards=3)
    record(run, 0)
    silence(run, 0, cause="node_failed")
    record(run, 1)
    silence(run, 1, cause="node_failed", again=False, detail="its node is silent")
    silence(run, 2, cause="launch_failed", again=True)
    cluster.set("100", "PENDING")
    assert [(shard.state, shard.cause, shard.attempts, shard.detail) for shard in run.shards()] == [
        ("pending", "node_failed", 1, "attempt 0: node failed; tried again"),
        ("failed", "node_failed", 1, "its node is silent"),
        ("pending", "launch_failed", 1, "attempt 0: launch failed; tried again"),
    ]


def test_a_supervisor_that_comes_back_from_the_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its success counts, whatever others said and did meanwhile, and in the eyes of who had looked before too."""
    cluster = FakeCluster()
    run = submitted(monkeypatch, cluster)
    record(run, 0)
    silence(run, 0, cause="node_failed")
    record(run, 0, attempt=1)
    cluster.set("100", "RUNNING")
    assert run.status().state == "running"
    events.add(run.dir.record(0, 0), "end", {"at": 9.0, "exit_code": 0, "signal": 0, "cause": None, "again": False})
    status = run.status()
    assert (status.state, status.shards[0].attempts) == ("succeeded", 2)


def test_nobody_could_start_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the end that was to be followed by another attempt is the last one, and says why."""
    cluster = FakeCluster()
    run = submitted(monkeypatch, cluster, retries=1)
    record(run, 0, exit_code=3, cause="failed", again=True)
    events.add(run.dir.record(0, 0), "given_up", {"at": 4.0, "text": "Slurm refuses to start the job again"})
    cluster.set("100", "FAILED")
    shard = run.status().shards[0]
    assert (shard.state, shard.cause, shard.exit_code) == ("failed", "failed", 3)
    assert shard.detail == "Slurm refuses to start the job again"


def test_logs_by_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a number the last attempt's are meant, also where that one never began."""
    run = submitted(monkeypatch, FakeCluster(), shards=2, retries=3)
    for attempt in range(2):
        record(run, 1, attempt=attempt, exit_code=3, cause="failed", again=True)
    silence(run, 1, attempt=2, cause="launch_failed", again=True)
    assert run.log_paths(1) == [run.dir.log(1, 2)]
    assert [run.log_paths(1, attempt) for attempt in range(3)] == [[run.dir.log(1, attempt)] for attempt in range(3)]
    assert run.log_paths(0) == [run.dir.log(0, 0)]
    with pytest.raises(UsageError, match="found attempt 3 of shard 1, wanted 0 to 2"):
        run.log_paths(1, 3)


def test_a_run_that_stopped_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """What left the queue without a start was cancelled on its account, which is said; the run has failed."""
    cluster = FakeCluster()
    run = submitted(monkeypatch, cluster, shards=3, max_failed_indexes=0)
    record(run, 0, exit_code=3, cause="failed", again=False)
    assert events.stop(run.dir, "max_failed_indexes", "too many")
    cluster.set("100", "CANCELLED", 1)
    cluster.set("100", "CANCELLED", 2)
    status = run.status()
    assert (status.state, status.done, status.stopped) == ("failed", True, "too many")
    assert [(shard.state, shard.detail) for shard in status.shards] == [
        ("failed", ""), ("cancelled", "too many"), ("cancelled", "too many")
    ]  # fmt: skip
