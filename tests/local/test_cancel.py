"""Cancelling: each program is told once, gets time, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from machine import HPCRUN, Machine, ended, gone, number_in, text_of
from waiting import until


def test_a_program_is_told_once(machine: Machine) -> None:
    """One SIGTERM, also where the run is cancelled twice; the run is cancelled, exit code 130."""
    machine.configure(grace="20s")
    script = """
        trap 'echo told; told=$((told + 1))' TERM
        echo $$ >"$HPCRUN_RESULTS_DIR/up"
        while [ ! -e "$HPCRUN_RESULTS_DIR/enough" ]; do read -t 0.02 <>"$HPCRUN_RESULTS_DIR/never"; done
        exit 0
    """
    run = machine.submit("bash", "-c", 'mkfifo "$HPCRUN_RESULTS_DIR/never"\n' + script)
    number_in(run, "up")
    assert machine.hpcrun("cancel", run.id).stdout.decode() == f"run {run.id}: cancelled\n"
    until(lambda: "told\n" in run.logs(), what="the first signal")
    machine.hpcrun("cancel", run.id)
    os.kill(int(run.status().jobs[0].partition("-")[2]), signal.SIGTERM)
    Path(run.dir.results, "enough").touch()
    assert ended(run).state == "cancelled"
    assert run.logs() == "told\n"
    assert run.shards()[0].exit_code == 0
    assert machine.hpcrun("wait", run.id).returncode == 130
    again = machine.hpcrun("cancel", run.id)
    assert (again.returncode, again.stdout.decode()) == (0, f"run {run.id} has ended already: cancelled\n")


def test_whoever_ignores_it_is_killed_with_all_children(machine: Machine) -> None:
    """A shell with job control, its background jobs in groups of their own and their children: all gone."""
    script = """
        set -m
        trap '' TERM
        bash -c 'trap "" TERM; sleep 1000 & echo $! >"$HPCRUN_RESULTS_DIR/grandchild"; wait' &
        echo $! >"$HPCRUN_RESULTS_DIR/child"
        echo $$ >"$HPCRUN_RESULTS_DIR/program"
        while :; do wait; done
    """
    run = machine.submit("bash", "-c", script)
    processes = [number_in(run, name) for name in ("child", "grandchild", "program")]
    machine.hpcrun("cancel", run.id)
    status = ended(run)
    assert (status.state, status.shards[0].cause) == ("cancelled", "cancelled")
    assert status.shards[0].signal == signal.SIGKILL
    gone(*processes)


def test_what_waits_never_starts(machine: Machine) -> None:
    """Of a run that is cancelled, no further shard starts, and those that had ended stay as they were."""
    script = """
        if [ $HPCRUN_SHARD_INDEX = 0 ]; then exit 0; fi
        echo $$ >"$HPCRUN_RESULTS_DIR/$HPCRUN_SHARD_INDEX"
        exec sleep 1000
    """
    run = machine.submit("-N", "5", "--max-parallel", "1", "--", "bash", "-c", script)
    number_in(run, "1")
    machine.hpcrun("cancel", run.id)
    assert [shard.state for shard in ended(run).shards] == ["succeeded"] + ["cancelled"] * 4
    assert sorted(os.listdir(run.dir.results)) == ["1"]
    assert ended(run).state == "cancelled"


def test_a_follower_sees_it(machine: Machine) -> None:
    """`hpcrun run`, cancelled from elsewhere, ends with 130."""
    with machine.start(HPCRUN, "run", "sleep", "1000") as follower:
        run = until(lambda: machine.newest())
        until(lambda: run.status().state == "running")
        machine.hpcrun("cancel", run.id)
        assert follower.wait(20) == 130
        follower.communicate()


def test_ctrl_c_ends_the_following_alone(machine: Machine) -> None:
    """SIGINT to `hpcrun run` without a terminal: 130, how to go on, and the program untouched."""
    program = ("sh", "-c", 'echo up >"$HPCRUN_RESULTS_DIR/up"; exec sleep 1000')
    # Tests that run in the background of a shell have inherited an ignored SIGINT.
    with machine.start("env", "--default-signal=INT", HPCRUN, "run", *program) as follower:
        try:
            run = until(lambda: machine.newest())
            until(lambda: text_of(run, "up"))
            follower.send_signal(signal.SIGINT)
            _, said = follower.communicate(timeout=20)
        finally:
            follower.kill()
    assert follower.returncode == 130
    assert f"hpcrun wait {run.id}" in said.decode()
    assert run.status().state == "running"
