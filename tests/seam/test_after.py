"""Submitting runs that wait for runs: one finaliser for each run that is waited for, whoever comes when."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes import FakeCluster

from hpcrun import config, events, submission
from hpcrun.cluster import QueueRow
from hpcrun.errors import ClusterUnavailable, SpecError, SubmissionRefused
from hpcrun.plan import Upstream
from hpcrun.run import Run, all_paths
from hpcrun.rundir import RunDir
from hpcrun.spec import raw


class Cluster(FakeCluster):
    """The fake, with jobs that belong to no batch: finalisers, by their script and what they wait for."""

    def __init__(self, **how: int) -> None:
        super().__init__(**how)  # type: ignore[arg-type]
        self.finalisers: dict[str, tuple[str, str | None]] = {}
        self.ended: set[str] = set()
        self.meanwhile: Callable[[str], None] = lambda path: None
        self.answers = True

    def add(self, path: str, dependency: str | None) -> str:
        job = str(500 + len(self.finalisers))
        self.finalisers[job] = path, dependency
        return job

    def submit_script(self, path: str, dependency: str | None) -> str:
        self._called("submit_script")
        self.meanwhile(path)
        job = self.add(path, dependency)
        if not self.answers:
            raise ClusterUnavailable("no answer")
        return job

    def queue(self, run: RunDir) -> list[QueueRow]:
        rows = [
            QueueRow(job, None, "CANCELLED" if job in self.ended else "PENDING", "Dependency", script=path)
            for job, (path, _) in self.finalisers.items()
        ]
        return super().queue(run) + rows

    def cancel(self, run: RunDir, jobs: object) -> None:
        own = [job for job in jobs if job in self.finalisers]  # type: ignore[attr-defined]
        self.ended |= set(own)
        super().cancel(run, [job for job in jobs if job not in own])  # type: ignore[attr-defined]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    found = Cluster(max_array=10)
    monkeypatch.setattr(submission, "connect", lambda *_, **__: found)
    return found


def submit(**fields: object) -> Run:
    settings = config.load(os.environ, "/")
    return submission.carry_out(submission.prepare(raw({"command": ["true"], **fields}), settings, "slurm", typed=True))


def end(run: Run, cluster: Cluster, code: int = 0) -> None:
    """Let every shard of a run leave a record of its end."""
    for shard in range(run.plan.shards):
        record = run.dir.record(shard, 0)
        start = {
            "at": 1.0,
            "shard": shard,
            "attempt": 0,
            "node": "c1",
            "job": "100",
            "task": shard,
            "round": 0,
            "said": 0,
        }
        events.add(record, "start", start)
        cause = "failed" if code else None
        events.add(record, "end", {"at": 2.0, "exit_code": code, "signal": 0, "cause": cause, "again": False})
    for job in run.status().jobs:
        cluster.set(job, "FAILED" if code else "COMPLETED")


def waits(run: Run, cluster: Cluster) -> list[str | None]:
    return [cluster.jobs[job].dependency for job in run.status().jobs]


def test_every_array_waits_for_the_finaliser(cluster: Cluster) -> None:
    """It waits for all arrays of the run before; each array of this one waits for it, besides what else there is."""
    first = submit(shards=25)
    assert not cluster.finalisers, "nobody waits yet"
    second = submit(shards=25, max_parallel=4, after_success=first.id, sbatch={"dependency": "singleton"})
    assert cluster.finalisers == {"500": (first.dir.finish_script(0), "afterany:100:101:102")}
    assert waits(second, cluster) == [
        "singleton,afterany:500", "singleton,afterany:500,afterany:103", "singleton,afterany:500,afterany:104",
    ]  # fmt: skip
    assert Path(first.dir.dependants, second.id).read_text() == second.dir.path
    assert os.path.exists(first.dir.finish_script(0))


def test_those_who_wait_for_the_same_share_it(cluster: Cluster) -> None:
    """Whatever of it they wait for; one that waits for several waits for the finaliser of each."""
    first, other = submit(), submit()
    second = submit(after=first.id)
    third = submit(after_fail=[first.id, other.id], after=first.id)
    assert waits(second, cluster) == ["afterany:500"]
    assert waits(third, cluster) == ["afterany:500:501"]
    assert len(cluster.finalisers) == 2


def test_of_two_at_once_the_first_is_everybodys(cluster: Cluster) -> None:
    """Who finds after the submission that another was faster takes back its own."""
    first = submit()

    def another(path: str) -> None:
        cluster.meanwhile = lambda path: None
        cluster.add(path, "afterany:100")

    cluster.meanwhile = another
    second = submit(after=first.id)
    assert waits(second, cluster) == ["afterany:500"]
    assert cluster.ended == {"501"}


def test_a_finaliser_whose_answer_was_lost_is_found(cluster: Cluster) -> None:
    """By its script, which the queue shows; nothing is submitted twice."""
    first = submit()
    cluster.answers = False
    second = submit(after=first.id)
    assert waits(second, cluster) == ["afterany:500"]
    assert len(cluster.finalisers) == 1


def test_a_finaliser_that_was_cancelled_is_replaced(cluster: Cluster) -> None:
    """Who comes later waits for a new one."""
    first = submit()
    submit(after=first.id)
    cluster.ended.add("500")
    assert waits(submit(after=first.id), cluster) == ["afterany:501"]


def test_without_its_finaliser_there_is_no_run(cluster: Cluster) -> None:
    """A refusal of the small job is an error, and nothing is left of the run that was to wait."""
    first = submit()

    def refused(path: str) -> None:
        raise SubmissionRefused("Job violates accounting/QOS policy", ("sbatch", path))

    cluster.meanwhile = refused
    with pytest.raises(SubmissionRefused, match="violates accounting"):
        submit(after=first.id)
    assert all_paths(config.load(os.environ, "/").home) == [first.dir.path]


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        (0, "after_fail", "has succeeded; this run was to start only after its failure. Nothing was submitted"),
        (3, "after_success", "has failed; this run was to start only after its success. Nothing was submitted"),
    ],
)
def test_an_end_that_rules_it_out_is_said_at_once(cluster: Cluster, code: int, kind: str, said: str) -> None:
    """Before anything is written or submitted."""
    first = submit(shards=3)
    end(first, cluster, code)
    with pytest.raises(SpecError) as caught:
        submit(**{kind: first.id})
    assert str(caught.value) == f"{kind}: run {first.id} {said}"
    assert all_paths(config.load(os.environ, "/").home) == [first.dir.path]


def test_a_cancelled_run_lets_nothing_start(cluster: Cluster) -> None:
    """Not even what was to start after its end."""
    first = submit()
    first.cancel()
    with pytest.raises(
        SpecError, match=f"after: run {first.id} was cancelled; this run was to start only after its end"
    ):
        submit(after=first.id)


def test_an_end_as_wanted_is_not_waited_for(cluster: Cluster) -> None:
    """Then there is no finaliser, and no dependency."""
    first = submit(shards=3)
    end(first, cluster)
    second = submit(after_success=first.id)
    assert (waits(second, cluster), second.plan.upstream, cluster.finalisers) == ([None], (), {})


def test_an_end_during_the_submission_is_not_missed(cluster: Cluster) -> None:
    """A finaliser that has told its outcome may not have seen this run: it looks for itself."""
    first = submit()

    def ends(path: str) -> None:
        Path(first.dir.outcome(0)).write_text(json.dumps({"state": "failed"}))

    cluster.meanwhile = ends
    second = submit(shards=25, after_success=first.id)
    said = f"run {first.id} has failed; this run was to start only after its success"
    assert events.stopped(second.dir) == ("upstream", said)
    assert cluster.cancelled == ["103", "102", "101"], "the last first"
    assert (second.status().state, second.shards()[0].detail) == ("failed", said)


def test_the_round_that_counts_is_the_last(cluster: Cluster) -> None:
    """After a retry by hand there is a new end to wait for, of which no earlier finaliser knows."""
    first = submit(shards=3)
    end(first, cluster, 1)
    events.add(first.dir.submission, "intent", {"batch": 0, "round": 1, "tasks": "0-2"})
    events.add(first.dir.submission, "submitted", {"batch": 0, "round": 1, "job": "100"})
    cluster.jobs["100"].script = first.dir.script(0, 1)
    cluster.set("100", "PENDING")
    second = submit(after_success=first.id)
    assert second.plan.upstream == (Upstream(first.id, first.dir.path, "after_success", 1),)
    assert [path for path, _ in cluster.finalisers.values()] == [f"{first.dir.path}/scripts/finish.1.sh"]


def test_what_nobody_can_wait_for(cluster: Cluster) -> None:
    """A run that there is not, one on another cluster, one that is not wholly submitted."""
    first = submit(shards=25)
    with pytest.raises(SpecError, match="after: no run 'zzz' in "):
        submit(after="zzz")
    with pytest.raises(SpecError, match=r"after: .*/nowhere: there is no such folder"):
        submit(after="/nowhere")
    plan = Path(first.dir.plan)
    whole = plan.read_text()
    plan.write_text(whole.replace('"cluster": "slurm"', '"cluster": "local"'))
    with pytest.raises(
        SpecError, match=f"found run {first.id}, which is on the cluster 'local', and this one is for 's"
    ):
        submit(after=first.id)
    plan.write_text(whole)
    lines = Path(first.dir.submission).read_text().splitlines(keepends=True)
    left = [line for line in lines if '"batch":2' not in line and '"left"' not in line]  # and this process lives
    Path(first.dir.submission).write_text("".join(left))
    del cluster.jobs["102"]
    with pytest.raises(SpecError, match=f"found run {first.id}, which is still being submitted"):
        submit(after=first.id)
