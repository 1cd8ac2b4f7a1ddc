"""Submitting: each batch once, an intent before it and its id after it, and nothing left of what was refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fakes import FakeCluster

from hpcrun import config, events, sending, submission
from hpcrun.errors import ClusterUnavailable, SubmissionRefused
from hpcrun.run import Run, all_paths
from hpcrun.spec import raw


@pytest.fixture
def settings() -> config.Config:
    return config.load(os.environ, "/")


def prepared(
    cluster: FakeCluster, settings: config.Config, monkeypatch: pytest.MonkeyPatch, **fields: object
) -> submission.Prepared:
    monkeypatch.setattr(submission, "connect", lambda *_, **__: cluster)
    return submission.prepare(raw({"command": ["true"], **fields}), settings, "slurm", typed=True)


def test_every_batch_has_an_intent_and_an_id(settings: config.Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """The submission's record tells who submits, then batch by batch what was about to happen and what did."""
    cluster = FakeCluster(max_array=10)
    run = submission.carry_out(prepared(cluster, settings, monkeypatch, shards=25))
    record = events.read(run.dir.submission)
    assert (record[0]["event"], record[0]["pid"], record[-1]["event"]) == ("sending", os.getpid(), "left")
    said = [(event["event"], event["batch"], event.get("job")) for event in record if "batch" in event]
    assert said == [
        ("intent", 0, None), ("submitted", 0, "100"), ("intent", 1, None), ("submitted", 1, "101"),
        ("intent", 2, None), ("submitted", 2, "102"),
    ]  # fmt: skip


def test_lanes_become_dependencies_beside_the_users_own(
    settings: config.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later arrays wait for the one before them in their lane, and every array for what the user named."""
    cluster = FakeCluster(max_array=10)
    fields = {"shards": 25, "max_parallel": 4, "sbatch": {"dependency": "afterok:7"}}
    submission.carry_out(prepared(cluster, settings, monkeypatch, **fields))
    waits = [job.dependency for job in cluster.jobs.values()]
    assert waits == ["afterok:7", "afterok:7,afterany:100", "afterok:7,afterany:101"]


def test_refused_at_once_it_leaves_nothing(settings: config.Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal of the first batch is an error with Slurm's reason, and there is no run."""
    cluster = FakeCluster(refuse_after=0)
    with pytest.raises(SubmissionRefused, match="violates accounting"):
        submission.carry_out(prepared(cluster, settings, monkeypatch, shards=3))
    assert all_paths(settings.home) == []


def test_refused_in_the_middle_it_takes_back_the_rest(settings: config.Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was submitted before the refusal is cancelled, the last batch first, and the run says why."""
    cluster = FakeCluster(max_array=10, refuse_after=2)
    with pytest.raises(SubmissionRefused):
        submission.carry_out(prepared(cluster, settings, monkeypatch, shards=25))
    assert cluster.cancelled == ["101", "100"]
    (path,) = all_paths(settings.home)
    status = Run(path, cluster).status()
    assert (status.state, status.done) == ("failed", True)
    assert [(shard.state, shard.cause) for shard in status.shards] == [
        *[("cancelled", "cancelled")] * 20, *[("failed", "launch_failed")] * 5,
    ]  # fmt: skip
    assert "violates accounting" in status.stopped
    assert all("violates accounting" in shard.detail for shard in status.shards)


def test_no_answer_in_the_middle_is_said_with_the_runs_id(
    settings: config.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When nobody knows whether sbatch went through, the message names the run and what to do."""
    cluster = FakeCluster()
    decided = prepared(cluster, settings, monkeypatch, shards=3)
    cluster.down = True
    monkeypatch.setattr(sending, "PATIENCE", 0.0)
    with pytest.raises(ClusterUnavailable, match=f"hpcrun cancel {decided.plan.run_id}"):
        submission.carry_out(decided)


def test_a_home_that_cannot_be_written_is_one_error(
    settings: config.Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The message names the path, the reason and the setting; nothing is submitted."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    cluster = FakeCluster()
    decided = prepared(cluster, settings.model_copy(update={"home": str(blocked)}), monkeypatch)
    with pytest.raises(submission.RunFolderError, match=r"file.*HPCRUN_HOME"):
        submission.carry_out(decided)
    assert "submit" not in cluster.calls
