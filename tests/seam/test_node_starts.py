"""Starts of an array element, one after another and at once: the real start.py, with commands that stand for Slurm's.

Slurm starts an element again while an earlier start of it still runs somewhere; a retry by hand adds another job. Each
start sees only its variables, the run folder and what scontrol answers.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fakes import FakeCluster, Job
from unit import made
from waiting import until

from hpcrun import config, errors, events, ledger, rerun, runtime
from hpcrun import run as run_module
from hpcrun.allocation import Allocation
from hpcrun.cli import main
from hpcrun.node import program, requeue, shard, together
from hpcrun.plan import BatchScript
from hpcrun.run import Run
from hpcrun.rundir import RunDir
from hpcrun.submission import send

JOB = "100"
START = {"shard": 0, "attempt": 0, "node": "c2", "job": JOB, "task": 0, "round": 0, "restarts": 0, "said": 0}
END = {"exit_code": 1, "signal": 0, "cause": "failed", "again": True}
PLACE = '"$HPCRUN_RESULTS_DIR/$HPCRUN_SHARD_INDEX.$HPCRUN_ATTEMPT'
UNTIL_TOLD = f'echo $$ >{PLACE}.runs"; until [ -s {PLACE}.end" ]; do sleep 0.02; done; exit $(cat {PLACE}.end")'
"""A program that runs until it is told with which code to end."""

SCONTROL = """#!/bin/bash
echo "$@" >>"$SLURM_STANDS_IN/calls"
if [ "$2" = show ]; then exec cat "$SLURM_STANDS_IN/shown"; fi
exit $(cat "$SLURM_STANDS_IN/code")
"""


class Nodes:
    """A run of one batch, submitted as job 100, on nodes on which a test starts its elements."""

    def __init__(self, folder: Path, cache: Path, script: str, *, by_sbatch: bool = False, **fields: Any) -> None:
        self.stand_in = folder / "stand-in"
        self.stand_in.mkdir()
        self.shown(None)
        self.answers(0)
        for name in ("scontrol", "scancel"):
            (self.stand_in / name).write_text(SCONTROL.replace("$@", f"{name} $*"))
            (self.stand_in / name).chmod(0o755)
        asked = dataclasses.replace(made.ASKED, created=time.time(), cwd=str(folder))
        self.plan = made.plan({"command": ["bash", "-c", script], **fields}, asked=asked)
        self.dir = RunDir(os.path.join(os.environ["HPCRUN_HOME"], "runs", self.plan.run_id))
        for path in self.dir.folders(self.plan.shards):
            os.makedirs(path)
        if by_sbatch:
            self.plan = dataclasses.replace(self.plan, batch_script=BatchScript("job.sh", (), ("",), "%A", "", True))
            Path(self.dir.batch_script).write_text(script)
        Path(self.dir.plan).write_text(json.dumps(self.plan.to_json()))
        runtime.write(self.dir, self.plan.to_json(), sys.executable, str(cache))
        self.cluster = FakeCluster()
        send(self.dir, self.cluster, self.plan, self.plan.batches[:1])
        self.is_shown("RUNNING")
        self.processes: list[subprocess.Popen[bytes]] = []

    def is_shown(self, *states: str, job: str = JOB) -> None:
        """From now on squeue shows the elements of a job in these states, the last of which is that of the rest."""
        one = self.cluster.jobs[job]
        missing = one.batch.elements - len(states)
        self.cluster.jobs[job] = Job(one.batch, one.dependency, [*states, *[states[-1]] * missing], one.script)

    def shown(self, text: str | None) -> None:
        """What `scontrol show job` prints from now on; None for nothing, with an error."""
        path = self.stand_in / "shown"
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text + "\n")

    def answers(self, code: int) -> None:
        """What the other commands exit with from now on."""
        (self.stand_in / "code").write_text(str(code))

    def calls(self) -> list[str]:
        """The commands that were called, but for questions."""
        path = self.stand_in / "calls"
        said = path.read_text().splitlines() if path.exists() else []
        return [line for line in said if " show " not in line]

    def start(
        self, task: int = 0, *, job: str = JOB, restarts: int = 0, in_round: int = 0, **more: str
    ) -> subprocess.Popen[bytes]:
        """One start of an element, as Slurm's daemon on the node does it, with `more` variables."""
        environ = {
            "PATH": f"{self.stand_in}:{os.environ['PATH']}",
            "HOME": os.environ["HOME"],
            "SLURM_STANDS_IN": str(self.stand_in),
            "SLURM_JOB_ID": job,
            "SLURM_ARRAY_JOB_ID": job,
            "SLURM_ARRAY_TASK_ID": str(task),
            "SLURMD_NODENAME": f"c{restarts + 1}",
            "SLURM_JOB_NODELIST": f"c{restarts + 1}",
            **({"SLURM_RESTART_COUNT": str(restarts)} if restarts else {}),
            **more,
        }
        argv = [sys.executable, "-I", "-S", self.dir.start, "shard", "0", *([str(in_round)] if in_round else [])]
        with open(self.dir.slurm_output(job, task), "ab") as output:
            process = subprocess.Popen(argv, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        self.processes.append(process)
        return process

    def runs(self, shard: int, attempt: int) -> int:
        """The process of a program of UNTIL_TOLD, as soon as it runs."""
        path = Path(self.dir.results, f"{shard}.{attempt}.runs")
        return int(until(lambda: path.read_text() if path.exists() else "", what=f"attempt {attempt} of shard {shard}"))

    def end(self, shard: int, attempt: int, code: int) -> None:
        """Tell a program of UNTIL_TOLD to end."""
        path = Path(self.dir.results, f"{shard}.{attempt}.end")
        path.with_suffix(".new").write_text(f"{code}\n")
        path.with_suffix(".new").rename(path)

    def record(self, shard: int, attempt: int = 0, **end: Any) -> None:
        """Let an attempt of `shard` have begun on another node, and ended as `end` says."""
        path = self.dir.record(shard, attempt)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        events.add(path, "start", {**START, "at": time.time(), "shard": shard, "attempt": attempt})
        if end:
            events.add(path, "end", {"at": time.time(), **END, **end})

    def causes(self, shard: int = 0) -> list[str | None]:
        return [entry.cause for entry in ledger.read(self.dir, shard)]

    def said(self, task: int = 0, job: str = JOB) -> str:
        """What Slurm's own output of an element holds."""
        path = Path(self.dir.slurm_output(job, task))
        return path.read_text() if path.exists() else ""

    def run(self) -> Run:
        return Run(self.dir.path, self.cluster)

    def retry(self, asked: str) -> None:
        rerun.retry(self.run(), asked, config.load(os.environ, "/"))


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def nodes(tmp_path: Path, cache: Path) -> Iterator[Callable[..., Nodes]]:
    """A run with this program and these fields; what of it still runs at the end of the test is ended."""
    found: list[Nodes] = []

    def make(script: str = UNTIL_TOLD, **fields: Any) -> Nodes:
        found.append(Nodes(tmp_path, cache, script, **fields))
        return found[-1]

    yield make
    for process in (process for one in found for process in one.processes):
        process.kill()
        process.wait()


# Elements of several shards.


def test_an_element_that_goes_on_is_not_retried(nodes: Callable[..., Nodes], monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard that has failed, while its element runs the next one: exit code 2, what to wait for, nothing begun."""
    site = nodes(shards=10, shards_per_element=5)
    element = site.start()
    site.runs(0, 0)
    site.end(0, 0, 1)
    site.runs(1, 0)
    monkeypatch.setattr(run_module, "connect", lambda *_, **__: site.cluster)
    done = CliRunner().invoke(main, ["retry", "abc", "0"], prog_name="hpcrun")
    assert done.exit_code == 2
    assert done.output == (
        "hpcrun: error: shard 1 of run abc, in the same element of the array, is running; "
        "wait for its end (hpcrun wait abc)\n"
    )
    assert list(site.cluster.jobs) == [JOB]
    assert site.run().status().shards[0].state == "failed"
    assert element.poll() is None


def test_an_element_runs_only_the_chosen_of_its_shards(nodes: Callable[..., Nodes]) -> None:
    """In a round of retries by hand the others have no further attempt, however they ended."""
    site = nodes('echo "$HPCRUN_ATTEMPT"; exit $((HPCRUN_ATTEMPT == 0))', shards=5, shards_per_element=5)
    assert site.start().wait(20) == 1
    site.retry("1,3")
    assert site.start(job="101", in_round=1).wait(20) == 0
    assert [len(site.causes(shard)) for shard in range(5)] == [1, 2, 1, 2, 1]
    assert [shard.state for shard in site.run().shards()] == ["failed", "succeeded", "failed", "succeeded", "failed"]


def test_an_element_of_a_round_that_did_not_launch(nodes: Callable[..., Nodes]) -> None:
    """Whoever follows has it started again for the sake of its chosen shards; of the others nothing is said anew."""
    site = nodes("exit 4", shards=4, shards_per_element=4)
    assert site.start().wait(20) == 4
    site.retry("1,2")
    site.is_shown("FAILED", job="101")
    next(None for _ in site.run().follow() if "requeue" in site.cluster.calls)
    assert [os.path.exists(site.dir.silence(shard, 1)) for shard in range(4)] == [False, True, False, False]
    assert [(shard.state, shard.exit_code) for shard in site.run().shards()] == [
        ("failed", 4), ("pending", None), ("pending", None), ("failed", 4)
    ]  # fmt: skip


# Earlier starts that live on.


@pytest.mark.parametrize("where", ["requeue", "in_place"])
def test_a_start_that_was_given_up_leaves_the_next_one_alone(nodes: Callable[..., Nodes], where: str) -> None:
    """Its program fails with retries left while the element runs elsewhere: that attempt is the last word."""
    site = nodes(retries=2, retry=where)
    zombie = site.start()
    site.runs(0, 0)
    site.shown(f"JobId={JOB} JobState=RUNNING Restarts=1")
    later = site.start(restarts=1)
    site.runs(0, 1)
    site.end(0, 0, 7)
    assert zombie.wait(20) != 0
    assert site.calls() == [], "the running attempt would have been ended"
    assert not os.path.exists(site.dir.silence(0, 1)), "the running attempt would have been taken for lost"
    assert site.run().status().shards[0].state == "running"
    site.end(0, 1, 0)
    assert later.wait(20) == 0
    (shard,) = site.run().shards()
    assert (shard.state, shard.attempts) == ("succeeded", 2)


def test_a_start_that_was_given_up_while_slurm_is_away(nodes: Callable[..., Nodes]) -> None:
    """Nobody says who is right but the records: no other attempt begins in place either."""
    site = nodes(retries=2)
    site.answers(1)
    zombie = site.start()
    site.runs(0, 0)
    later = site.start(restarts=1)
    site.runs(0, 1)
    site.end(0, 0, 7)
    assert zombie.wait(20) != 0
    assert not os.path.exists(site.dir.silence(0, 1))
    site.end(0, 1, 0)
    assert later.wait(20) == 0
    assert site.run().shards()[0].attempts == 2


def test_a_shard_that_never_launched(nodes: Callable[..., Nodes]) -> None:
    """Retried by hand, it begins the attempt after the one that others have told the end of, and runs."""
    site = nodes()
    end = {"at": time.time(), "exit_code": -1, "signal": 0, "cause": "launch_failed", "again": False, "round": 0}
    events.claim(site.dir.silence(0, 0), events.line("end", end))
    site.is_shown("FAILED")
    site.retry("0")
    element = site.start(job="101", in_round=1)
    site.runs(0, 1)
    site.is_shown("RUNNING", job="101")
    assert site.run().status().state == "running"
    site.end(0, 1, 0)
    assert element.wait(20) == 0
    assert not os.path.exists(site.dir.record(0, 0))
    assert site.run().status().state == "succeeded"


# What Slurm is asked for.


@pytest.mark.parametrize(
    ("answers", "asked", "attempts"),
    [
        (0, ["scontrol requeue 100_0"], 1),
        (1, ["scontrol requeue 100_0", "scontrol update jobid=100_0 requeue=1"], 2),
    ],
)
def test_a_slurm_that_does_not_say_how_the_job_is(
    nodes: Callable[..., Nodes], answers: int, asked: list[str], attempts: int
) -> None:
    """The requeue is tried all the same; where that fails too, the next attempt begins in place."""
    site = nodes("exit $((HPCRUN_ATTEMPT == 0))", shards=2, retries=1)
    site.answers(answers)
    assert site.start().wait(20) == (1 if attempts == 1 else 0)
    assert site.calls() == asked
    assert len(site.causes()) == attempts


def test_a_job_that_is_no_longer_running_is_not_requeued(nodes: Callable[..., Nodes]) -> None:
    """Slurm would revive what somebody has just cancelled."""
    site = nodes("exit 3", retries=1)
    site.shown(f"JobId={JOB} JobState=CANCELLED Restarts=0")
    assert site.start().wait(20) == 3
    assert site.calls() == []


def test_a_script_that_has_its_own_job_requeued(nodes: Callable[..., Nodes]) -> None:
    """It may end well before Slurm's signal for that comes: its next start goes on all the same."""
    site = nodes("exit 0  # after: scontrol requeue $SLURM_JOB_ID", by_sbatch=True, retries=0)
    site.shown(f"JobId={JOB} JobState=COMPLETING Restarts=1")
    assert site.start().wait(20) == 0
    shard = site.run().status().shards[0]
    assert (shard.state, shard.detail) == ("pending", "attempt 0: requeued from outside; tried again")
    site.shown(f"JobId={JOB} JobState=RUNNING Restarts=1")
    assert site.start(restarts=1).wait(20) == 0
    assert (site.calls(), site.causes()) == ([], ["preempted", None])


def _allocation(**more: Any) -> Allocation:
    return Allocation(cluster="slurm", job=JOB, raw_job=JOB, node="c1", components=(("c1",),), task=None, **more)


def test_a_gang_that_nobody_takes_back(nodes: Callable[..., Nodes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its node is lost and slurmctld is away: each of its shards has failed, and says why."""
    site = nodes(shards=2, gang=True)
    for index in range(2):
        site.record(index, cause="node_failed", exit_code=-1)
    site.answers(1)
    monkeypatch.setenv("PATH", f"{site.stand_in}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_STANDS_IN", str(site.stand_in))
    assert requeue.taken_back(site.dir, _allocation()) is False
    monkeypatch.setattr(together, "carried_through", lambda *_, **__: (program.Ended(1 << 8), "nowhere"))
    together.in_allocation(site.plan, site.dir, _allocation(), range(2))  # type: ignore[arg-type]
    assert "scontrol requeue 100" in site.calls()
    site.is_shown("FAILED")
    shards = site.run().shards()
    assert [(shard.state, shard.cause) for shard in shards] == [("failed", "node_failed")] * 2
    assert "Slurm refuses to start the job again" in shards[1].detail


def test_a_leader_that_slurm_starts_alone(nodes: Callable[..., Nodes]) -> None:
    """Of somebody's heterogeneous script: all of the job is requeued; where Slurm refuses that, the script goes on."""
    site = nodes("exit 3")
    site.shown(f"JobId={JOB} JobState=REQUEUED StartTime=2026-01-01T00:00:00")
    het = {"SLURM_HET_SIZE": "2", "SLURM_JOB_ID_HET_GROUP_1": "101", "SLURM_JOB_NODELIST_HET_GROUP_1": "c2"}
    assert site.start(restarts=1, **het).wait(20) == 1
    assert (site.calls(), site.causes()) == (["scontrol requeue 100_0"], [])
    site.answers(1)
    assert site.start(restarts=1, **het).wait(20) == 3
    assert site.causes() == ["failed"]


def test_an_element_that_slurm_starts_for_nothing(nodes: Callable[..., Nodes]) -> None:
    """Its budget for lost nodes is spent: it has failed for good, which counts, and ends the run here."""
    site = nodes(shards=3, retries={"node_failed": 0}, max_failed_indexes=0)
    site.record(0)
    assert site.start(restarts=1).wait(20) == 1
    assert site.calls() == [f"scancel --quiet {JOB}"]
    assert site.run().status().stopped == "1 shards have failed for good, and max_failed_indexes is 0"


# Clocks, files and disks.


def test_a_pause_by_a_clock_that_is_ahead(nodes: Callable[..., Nodes]) -> None:
    """The node of the last attempt thought that it was an hour later: nobody waits longer than the back-off."""
    site = nodes("true", retries=2, backoff="0.5s")
    ahead = time.time() + 3600
    site.record(0, at=ahead, due=ahead + 0.5)
    assert site.start(restarts=1).wait(20) == 0
    assert site.causes() == ["failed", None]


def test_slurms_output_is_removed_meanwhile(nodes: Callable[..., Nodes]) -> None:
    """Somebody tidies up: the element ends as its program did."""
    site = nodes(retries=1)
    element = site.start()
    site.runs(0, 0)
    os.unlink(site.dir.slurm_output(JOB, 0))
    site.end(0, 0, 0)
    assert element.wait(20) == 0


def _children(process: int) -> str:
    return Path(f"/proc/{process}/task/{process}/children").read_text()


def test_an_end_that_cannot_be_written_at_first(nodes: Callable[..., Nodes]) -> None:
    """The supervisor stays until there is room for it, so that the work is not done again."""
    site = nodes(retries=1)
    element = site.start()
    site.runs(0, 0)
    record, aside = Path(site.dir.record(0, 0)), Path(f"{site.dir.path}/aside")
    record.rename(aside)
    record.mkdir()
    site.end(0, 0, 0)
    until(lambda: not _children(element.pid), what="the end of the program")
    assert element.poll() is None
    record.rmdir()
    aside.rename(record)
    assert element.wait(20) == 0
    (shard,) = site.run().shards()
    assert (shard.state, shard.attempts) == ("succeeded", 1)


def test_a_disk_that_is_full_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An end is tried to be written again and again, and is there once."""
    failures = [OSError(28, "No space left on device")] * 3
    add = events.add

    def full(path: str, event: str, facts: Any) -> None:
        if failures:
            raise failures.pop()
        add(path, event, facts)

    monkeypatch.setattr(events, "add", full)
    monkeypatch.setattr(shard, "_LOOK_UP", 0.01)
    path = str(tmp_path / "0.jsonl")
    shard._patiently("record an end", events.add, path, "end", {"at": 1.0, **END})
    assert [event["cause"] for event in events.read(path)] == ["failed"]


# Rounds of retries by hand.


def _submitted(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, **fields: Any) -> Run:
    from hpcrun import submission
    from hpcrun.spec import raw

    monkeypatch.setattr(submission, "connect", lambda *_, **__: cluster)
    settings = config.load(os.environ, "/")
    return submission.carry_out(submission.prepare(raw({"command": ["true"], **fields}), settings, "slurm", typed=True))


def _ended(run: Run, shards: range, **end: Any) -> None:
    for index in shards:
        path = run.dir.record(index, 0)
        events.add(path, "start", {**START, "at": 1.0, "shard": index, "task": index})
        events.add(path, "end", {"at": 2.0, **END, "again": False, **end})


def test_batches_of_a_round_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch waits for the last before it that is tried again; not for what the user's submission waited for."""
    cluster = FakeCluster(max_array=10)
    fields = {"shards": 30, "max_parallel": 4, "sbatch": {"dependency": "afterok:7"}}
    run = _submitted(cluster, monkeypatch, **fields)
    assert [job.dependency for job in cluster.jobs.values()] == [
        "afterok:7", "afterok:7,afterany:100", "afterok:7,afterany:101"
    ]  # fmt: skip
    _ended(run, range(10))
    _ended(run, range(10, 20), exit_code=0, cause=None)
    _ended(run, range(20, 30))
    rerun.retry(run, "failed", config.load(os.environ, "/"))
    later = list(cluster.jobs.items())[3:]
    assert [(name, job.batch.index, job.dependency) for name, job in later] == [
        ("103", 0, None), ("104", 2, "afterany:103")
    ]  # fmt: skip


def test_a_round_that_slurm_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """How the shards have ended before is still to be seen."""
    cluster = FakeCluster()
    run = _submitted(cluster, monkeypatch, shards=2)
    _ended(run, range(1), exit_code=9, node="c7")
    _ended(run, range(1, 2), exit_code=-1, signal=11)
    before = run.shards()
    cluster.refuse_after = 0
    with pytest.raises(errors.SubmissionRefused, match="violates accounting"):
        rerun.retry(run, "failed", config.load(os.environ, "/"))
    after = Run(run.dir.path, cluster).shards()
    assert [(one.state, one.exit_code, one.signal, one.node) for one in after] == [
        ("failed", 9, 0, "c2"), ("failed", None, 11, "c2")
    ]  # fmt: skip
    assert after == before


# Records that nobody of this run has written.


def _begun(**other: Any) -> str:
    return events.line("start", {"at": 1.0, **START, **other})


def _without(facts: dict[str, Any], missing: str) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if name != missing}


KINDS: tuple[Any, ...] = ("x", [1], {"a": 1}, 10**30)
STRANGE: list[str] = [
    "",
    "\0" * 40,
    "[" * 20000,
    "1" * 5000,
    "null",
    "[]",
    '{"format":1}',
    '{"format":1,"event":7}',
    *(_begun(**{name: value}) for name in ("at", "job", "said", "round", "restarts") for value in KINDS),
    *(events.line("start", _without({"at": 1.0, **START}, name)) for name in ("at", "said", "job", "round")),
    *(_begun() + events.line("end", {"at": 1.0, **END, name: value}) for name in (*END, "due") for value in KINDS),
    *(_begun() + events.line("end", _without({"at": 1.0, **END}, name)) for name in END),
    _begun() + events.line("end", {**END, "at": 1.0, "detail": 5, "gang": []}),
    _begun() + '{"format":1,"event":"end","at":NaN,"exit_code":1,"signal":0,"cause":"failed","due":1e999}',
]


def test_a_start_after_strange_records(nodes: Callable[..., Nodes]) -> None:
    """Whatever the record of the attempt before says, the element ends by itself, and without a stack trace."""
    site = nodes("true", retries=2)
    record, later = Path(site.dir.record(0, 0)), Path(site.dir.records(1))
    for line in STRANGE:
        for path in (*later.glob("*/*.jsonl"), *record.parent.glob("*.silent")):
            path.unlink()
        record.write_text(line + "\n")
        code = site.start(restarts=1).wait(20)
        assert "Traceback" not in site.said(), (line[:200], site.said())
        assert code in (0, 1), line[:200]
        assert site.run().status().shards[0].state in ("succeeded", "failed", "running", "pending"), line[:200]
