"""How often Slurm is asked for all runs of a user, and that what somebody else was told is not misread."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fakes import FakeCluster

from hpcrun import config, events, run, submission
from hpcrun.cli import main
from hpcrun.cluster import AccountingRow, Asked, Limits
from hpcrun.run import Run, statuses
from hpcrun.rundir import RunDir
from hpcrun.sharing import now
from hpcrun.spec import raw


class Sharing(FakeCluster):
    """The fake, whose last answer of the queue does for whoever wants none that is younger."""

    last: Asked | None = None

    def lately(self, run: RunDir, since: float) -> Asked:
        if self.last is None or self.last.asked < since:
            self.last = super().lately(run, since)
        return self.last


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Sharing:
    found = Sharing(max_array=50)
    monkeypatch.setattr(submission, "connect", lambda *_, **__: found)
    monkeypatch.setattr(run, "connect", lambda *_, **__: found)
    return found


def submitted(cluster: Sharing, **fields: object) -> Run:
    settings = config.load(os.environ, "/")
    found = submission.carry_out(
        submission.prepare(raw({"command": ["true"], **fields}), settings, "slurm", typed=True)
    )
    cluster.calls.clear()
    return found


def record(run: Run, shard: int, *, attempt: int = 0, **end: Any) -> None:
    path = run.dir.record(shard, attempt)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    events.add(path, "start", {"at": 1.0, "shard": shard, "attempt": attempt, "node": "c1", "job": "100"})
    if end:
        events.add(path, "end", {"at": 2.0, "exit_code": 0, "signal": 0, "cause": None, **end})


LONG = 1000.0


def test_one_answer_for_many_runs(cluster: Sharing) -> None:
    """Handles of their own, one question: it has all of a user's jobs."""
    runs = [submitted(cluster, shards=3) for _ in range(10)]
    assert {Run(one.dir.path).status(LONG).state for one in runs} == {"pending"}
    assert cluster.calls == ["queue"]


def test_what_was_submitted_since_is_not_lost(cluster: Sharing) -> None:
    """An older answer cannot know of it, so the queue is asked again."""
    submitted(cluster, shards=3).status(LONG)
    assert submitted(cluster, shards=3).status(LONG).state == "pending"
    assert cluster.calls == ["queue"]


def test_an_end_without_a_record_is_asked_about(cluster: Sharing) -> None:
    """It may have been started again since: nothing is lost by an answer that is older than the last attempt."""
    one = submitted(cluster, shards=2)
    cluster.set("100", "FAILED", 0)
    submitted(cluster).status(0.0)
    record(one, 0, attempt=1)
    cluster.set("100", "RUNNING", 0)
    assert one.status(LONG).shards[0].state == "running"


def test_an_end_that_came_while_slurm_answered_is_not_lost(cluster: Sharing, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that another process waited for may show an end whose record this one had not found yet."""
    one = submitted(cluster)
    cluster.set("100", "RUNNING")
    record(one, 0)
    assert one.status().state == "running"
    asked = now()

    def lately(run: RunDir, since: float) -> Asked:
        cluster.set("100", "COMPLETED")
        record(one, 0, exit_code=0)
        return Asked(cluster.queue(run), asked, now() - asked)

    monkeypatch.setattr(cluster, "lately", lately)
    assert one.status(LONG).state == "succeeded"


def test_a_follower_believes_an_end_only_by_an_answer_of_now(cluster: Sharing) -> None:
    """Who follows goes home then, and Slurm or another follower may have brought it back since."""
    one = submitted(cluster)
    cluster.set("100", "CANCELLED")
    assert one.status().state == "cancelled"
    cluster.set("100", "RUNNING")
    assert next(one.follow()).state == "starting"


def test_a_loss_is_asked_about_once(cluster: Sharing) -> None:
    """Once it is sure, and nothing new has come of the run, an older answer does, and accounting is left alone."""
    one = submitted(cluster, shards=2)
    cluster.set("100", "NODE_FAIL")
    cluster.forgotten.add("100")
    for _ in range(5):
        assert one.status(LONG).shards[0].cause == "node_failed"
    assert cluster.calls == ["queue", "accounting"]
    record(one, 1, exit_code=0)
    assert one.status(LONG).counts() == {"succeeded": 1, "failed": 1}
    assert cluster.calls == ["queue", "accounting", "queue", "accounting"]


def test_accounting_is_asked_again_for_what_it_did_not_know(cluster: Sharing, monkeypatch: pytest.MonkeyPatch) -> None:
    """But ever more rarely."""
    one = submitted(cluster, shards=2)
    record(one, 0)
    cluster.set("100", "RUNNING")  # in accounting, which lags behind
    cluster.forgotten.add("100")
    for seconds in range(100):
        monkeypatch.setattr("hpcrun.looking.now", partial(float, now() + seconds))
        one.status(LONG)
    assert cluster.calls.count("accounting") == 6  # after 2, 4, 8, 16 and 32 seconds, the first time at once


@pytest.mark.parametrize(
    ("begun", "lost", "asked"),
    [((3, 17), (3, 17), ["100_3", "100_17"]), ((3,), (3, 17), ["100"]), (range(150), range(150), ["100"])],
    ids=["a few", "one that has not begun", "many"],
)
def test_accounting_is_asked_for_no_more_than_is_missing(
    cluster: Sharing, monkeypatch: pytest.MonkeyPatch, begun: Sequence[int], lost: Sequence[int], asked: list[str]
) -> None:
    """Elements that wait together have one row, so those that have not begun are asked for with all of their job."""
    monkeypatch.setattr(cluster, "_limits", Limits(max_array=1001, accounting=True))
    one = submitted(cluster, shards=200)
    told: list[str] = []
    accounting = cluster.accounting

    def overheard(jobs: Sequence[str]) -> list[AccountingRow]:
        told.extend(jobs)
        return accounting(jobs)

    monkeypatch.setattr(cluster, "accounting", overheard)
    for shard in range(200):
        if shard in begun:
            record(one, shard)
        elif shard not in lost:
            record(one, shard, exit_code=0)
    cluster.set("100", "NODE_FAIL")
    cluster.forgotten.add("100")
    assert one.status().counts() == {"succeeded": 200 - len(lost), "failed": len(lost)}
    assert told == asked


@pytest.mark.parametrize("lost", [0, 7])
def test_a_list_costs_two_questions(cluster: Sharing, lost: int) -> None:
    """Whatever has become of the runs; accounting gets the ids of all that the queue has forgotten."""
    runs = [submitted(cluster, shards=60) for _ in range(20)]
    for one in runs[:lost]:
        job = one.jobs[1]
        cluster.set(job, "TIMEOUT")
        cluster.forgotten.add(job)
    for one in runs[-3:]:
        for shard in range(60):
            record(one, shard, exit_code=0)
    done = CliRunner().invoke(main, ["list", "--json"])
    found = json.loads(done.stdout)
    assert [one["counts"].get("timed_out", 0) for one in reversed(found)] == [10] * lost + [0] * (20 - lost)
    assert [one["status"] for one in found[:3]] == ["succeeded"] * 3
    assert cluster.calls == ["queue", *["accounting"] * bool(lost)]


def test_a_list_goes_on_where_a_folder_vanishes(cluster: Sharing, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are shown."""
    runs = [submitted(cluster) for _ in range(3)]
    opened = Run.__init__

    def vanishing(self: Run, path: str, *more: Any) -> None:
        opened(self, path, *more)
        if path == runs[1].dir.path:
            Path(self.dir.plan).unlink()

    monkeypatch.setattr(Run, "__init__", vanishing)
    done = CliRunner().invoke(main, ["list", "--json"])
    assert [one["run_id"] for one in json.loads(done.stdout)] == [runs[2].id, runs[0].id]
    assert "the run folder is gone" in done.stderr


def test_statuses_are_those_of_each(cluster: Sharing) -> None:
    """Together or one by one."""
    runs = [submitted(cluster, shards=3) for _ in range(3)]
    cluster.set("101", "RUNNING", 1)
    together = statuses(runs, 0.0)
    assert [one.shards for one in together] == [one.status(0.0).shards for one in runs]
