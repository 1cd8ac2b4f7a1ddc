"""Trouble with the run folder: said once and clearly, never waited for."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from machine import HPCRUN, Machine, gone, number_in
from waiting import until

SLEEPER = 'echo $$ >"$HPCRUN_RESULTS_DIR/program"; echo $PPID >"$HPCRUN_RESULTS_DIR/supervisor"; exec sleep 1000'


def test_a_home_that_cannot_be_written(machine: Machine) -> None:
    """One error with the path and what to change; nothing submitted."""
    machine.home.write_text("a file")
    done = machine.hpcrun("run", "true")
    assert done.returncode == 1
    assert str(machine.home) in done.stderr.decode()
    assert "nothing was submitted" in done.stderr.decode()
    assert machine.home.read_text() == "a file"


def test_a_home_of_somebody_else(machine: Machine) -> None:
    """A file system that takes nothing: an error, and nothing left there."""
    machine.environ["HPCRUN_HOME"] = "/proc/hpcrun"
    done = machine.hpcrun("run", "true")
    assert done.returncode == 1
    assert "/proc/hpcrun" in done.stderr.decode()


def test_a_python_that_is_not_there(machine: Machine) -> None:
    """The submission fails by name and leaves no run."""
    machine.configure(node_python="/no/such/python")
    done = machine.hpcrun("run", "true")
    assert done.returncode == 2
    assert "/no/such/python" in done.stderr.decode()
    assert machine.json("list", "--json") == []


def test_a_folder_that_is_removed_while_its_run_goes_on(machine: Machine) -> None:
    """Nobody hangs: the follower ends, further shards do not run, and what runs can still be ended."""
    with machine.start(HPCRUN, "run", "-N", "3", "--max-parallel", "1", "--", "sh", "-c", SLEEPER) as follower:
        run = until(lambda: machine.newest())
        program, supervisor = number_in(run, "program"), number_in(run, "supervisor")
        shutil.rmtree(run.dir.path)
        follower.communicate(timeout=20)
    assert follower.returncode not in (0, None)
    assert f"no run '{run.id}'" in machine.hpcrun("status", run.id).stderr.decode()
    os.kill(program, 15)
    gone(program, supervisor)
    until(lambda: not machine.processes(), what="the end of every process of the run")


def test_a_record_that_is_cut_short(machine: Machine) -> None:
    """Half a line is no line: the shard has no end, and as nothing runs it is lost."""
    run = machine.run("-N", "2", "true")
    record = Path(run.dir.record(1, 0))
    start, end = record.read_bytes().splitlines(keepends=True)
    record.write_bytes(start + end[: len(end) // 2])
    shards = machine.json("status", run.id, "--json")["shards"]
    assert [(shard["state"], shard["cause"]) for shard in shards] == [("succeeded", None), ("failed", "lost")]


def test_a_plan_that_is_garbled(machine: Machine) -> None:
    """Refused with its path; the list shows the other runs."""
    broken = machine.run("true")
    good = machine.run("true")
    Path(broken.dir.plan).write_text("{")
    done = machine.hpcrun("status", broken.id)
    assert done.returncode == 1
    assert broken.dir.plan in done.stderr.decode()
    assert [row["run_id"] for row in machine.json("list", "--json")] == [good.id]
