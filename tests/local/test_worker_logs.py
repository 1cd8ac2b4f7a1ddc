"""What workers write: whose it is, where it is, and what is said to who asks for what there is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from machine import HPCRUN, Machine
from waiting import until

WORKER = """
echo "worker $HPCRUN_REPLICA_INDEX of shard $HPCRUN_SHARD_INDEX"; echo error >&2
touch "$HPCRUN_RESULTS_DIR/up.$HPCRUN_SHARD_INDEX.$HPCRUN_REPLICA_INDEX"
until [ -e "$HPCRUN_RESULTS_DIR/more" ]; do sleep 0.02; done
echo more; touch "$HPCRUN_RESULTS_DIR/said.$HPCRUN_REPLICA_INDEX"; exec sleep 1000
"""
JOB = 'echo "job $HPCRUN_SHARD_INDEX"; '


def _spec(machine: Machine, job: str = JOB, **more: Any) -> str:
    """A spec file of a job with two workers, which are ready once they have written."""
    up = "$(HPCRUN_RESULTS_DIR)/up.$(HPCRUN_SHARD_INDEX).$(HPCRUN_REPLICA_INDEX)"
    worker = {"command": ["bash", "-c", WORKER], "replicas": 2, "readiness": {"exec": ["test", "-e", up]}}
    return machine.write("spec.yaml", json.dumps({"command": ["bash", "-c", job], "worker": worker, **more}))


def _logs(machine: Machine, *argv: str) -> str:
    done = machine.hpcrun("logs", "last", *argv)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def test_whose_logs(machine: Machine) -> None:
    """The job's by default; a worker's by shard and replica; lines of several say whose they are."""
    machine.run(_spec(machine, shards=3))
    assert _logs(machine) == "[0] job 0\n[1] job 1\n[2] job 2\n"
    assert _logs(machine, "--role", "worker", "--replica", "1", "--shard", "2") == "worker 1 of shard 2\nerror\n"
    assert _logs(machine, "--replica", "1", "--shard", "2") == "worker 1 of shard 2\nerror\n", "only workers have any"
    assert _logs(machine, "--role", "all", "--shard", "1") == (
        "[job] job 1\n[worker-0] worker 0 of shard 1\n[worker-0] error\n[worker-1] worker 1 of shard 1\n"
        "[worker-1] error\n"
    )
    assert _logs(machine, "--role", "worker", "--replica", "0", "--tail", "1") == "".join(
        f"[{shard} worker-0] error\n" for shard in range(3)
    )
    every = _logs(machine, "--role", "all").splitlines()
    assert len(every) == 3 * 5
    assert every[:2] == ["[0 job] job 0", "[0 worker-0] worker 0 of shard 0"]


def test_where_logs_are(machine: Machine) -> None:
    """`--path` names a file for each worker, two with the streams apart."""
    run = machine.run(_spec(machine, stderr="separate"))
    out, err = (Path(path) for path in _logs(machine, "--replica", "1", "--path").splitlines())
    assert (out.read_text(), err.read_text()) == ("worker 1 of shard 0\n", "error\n")
    assert run.log_paths(0, role="worker", replica=1) == [str(out), str(err)]
    assert _logs(machine, "--replica", "1") == "worker 1 of shard 0\nerror\n"


def test_following_workers(machine: Machine) -> None:
    """`-f` prints what comes as it comes, of one worker or of all processes, and ends with the run."""
    run = machine.submit(_spec(machine, JOB + 'until [ -e "$HPCRUN_RESULTS_DIR/go" ]; do sleep 0.02; done'))
    until(lambda: run.logs(), what="the start of the job")
    one, every = (machine.folder / name for name in ("one", "all"))
    with one.open("wb") as first, every.open("wb") as second:
        followers = [
            machine.start(HPCRUN, "logs", run.id, "-f", "--replica", "1", stdout=first),
            machine.start(HPCRUN, "logs", run.id, "-f", "--role", "all", stdout=second),
        ]
        until(lambda: one.read_text() == "worker 1 of shard 0\nerror\n" and "[worker-1] error\n" in every.read_text())
        Path(run.dir.results, "more").touch()
        until(lambda: one.read_text().endswith("more\n"), what="more of a worker's output")
        until(lambda: every.read_text().count("] more\n") == 2, what="more of both workers' output")
        assert run.status().state == "running"
        Path(run.dir.results, "go").touch()
        for follower in followers:
            assert follower.communicate(timeout=20)[1] == b""
            assert follower.returncode == 0
    assert one.read_text() == "worker 1 of shard 0\nerror\nmore\n"
    assert sorted(every.read_text().splitlines()) == [
        "[job] job 0", "[worker-0] error", "[worker-0] more", "[worker-0] worker 0 of shard 0", "[worker-1] error",
        "[worker-1] more", "[worker-1] worker 1 of shard 0",
    ]  # fmt: skip


def test_logs_of_workers_that_are_starting(machine: Machine) -> None:
    """What they have written is there before any job is."""
    worker = {"command": ["bash", "-c", "echo begun; exec sleep 1000"], "readiness": {"exec": ["false"]}}
    spec = machine.write("spec.yaml", json.dumps({"command": ["true"], "worker": worker}))
    run = machine.submit(spec)
    until(lambda: _logs(machine, "--role", "worker") == "begun\n", what="the log of the worker")
    assert run.status().state == "starting"
    assert _logs(machine) == ""


WRONG: dict[str, tuple[list[str], str]] = {
    "a worker too many": (["--role", "worker", "--replica", "2"], "found replica 2 of worker, wanted 0 to 1"),
    "a shard too many": (["--role", "worker", "--shard", "1"], "found shard 1, wanted 0 to 0"),
    "an attempt too many": (["--replica", "0", "--attempt", "1"], "found attempt 1 of shard 0, wanted 0 to 0"),
    "no role": (["--role", "server"], "'server' is not one of 'job', 'worker', 'all'"),
    "no number": (["--replica", "x"], "found 'x'"),
}


@pytest.mark.parametrize("what", WRONG)
def test_asking_for_what_there_is_not(machine: Machine, what: str) -> None:
    """One error that says what was found and what there is, exit code 2."""
    argv, said = WRONG[what]
    machine.run(_spec(machine))
    done = machine.hpcrun("logs", "last", *argv)
    assert (done.returncode, done.stdout) == (2, b"")
    assert said in done.stderr.decode()


@pytest.mark.parametrize("argv", [["--role", "worker"], ["--role", "all"], ["--replica", "0"]])
def test_workers_of_a_run_that_has_none(machine: Machine, argv: list[str]) -> None:
    """Said by name, exit code 2."""
    run = machine.run("true")
    done = machine.hpcrun("logs", "last", *argv)
    said = f"hpcrun: error: run {run.id} has no workers, wanted no --replica, and no --role but job\n"
    assert (done.returncode, done.stderr.decode()) == (2, said)


def test_garbage_of_a_worker(machine: Machine) -> None:
    """Bytes that are no text are in its file as they were, and hinder no reader."""
    worker = {"command": ["bash", "-c", r"printf '\377\376x\n'; exec sleep 1000"],
              "readiness": {"log_watch": {"match_pattern": "x"}}}  # fmt: skip
    run = machine.run(machine.write("spec.yaml", json.dumps({"command": ["true"], "worker": worker})))
    assert Path(run.log_paths(0, role="worker")[0]).read_bytes() == b"\xff\xfex\n"
    assert _logs(machine, "--role", "worker").endswith("x\n")
