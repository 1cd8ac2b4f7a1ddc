"""Supervisors that die: nothing runs on unseen, and nothing is called running that does not."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from machine import HPCRUN, Machine, ended, gone, number_in, text_of
from waiting import until

from hpcrun import Run

SLEEPER = """
sleep 1000 & echo $! >"$HPCRUN_RESULTS_DIR/child.$HPCRUN_SHARD_INDEX"
echo "$PPID" >"$HPCRUN_RESULTS_DIR/supervisor.$HPCRUN_SHARD_INDEX"
echo "$$" >"$HPCRUN_RESULTS_DIR/program.$HPCRUN_SHARD_INDEX"
wait
"""


def _processes(run: Run, shard: int) -> list[int]:
    return [number_in(run, f"{name}.{shard}") for name in ("program", "supervisor", "child")]


def _supervisor(run: Run) -> int:
    return int(Path(run.dir.local_lock).read_text().split()[0])


def test_the_supervisor_of_a_shard_is_killed(machine: Machine) -> None:
    """Its program is ended with all its children, the shard counts as lost, and the others go on."""
    script = "if [ $HPCRUN_SHARD_INDEX = 1 ]; then exit 0; fi; " + SLEEPER
    run = machine.submit("-N", "2", "--set", "spec.retries.launch_failed=0", "--", "bash", "-c", script)
    program, supervisor, child = _processes(run, 0)
    os.kill(supervisor, signal.SIGKILL)
    gone(program, child)
    shards = ended(run).shards
    assert [(shard.state, shard.cause) for shard in shards] == [("failed", "lost"), ("succeeded", None)]
    assert machine.hpcrun("wait", run.id).returncode == 3


def test_the_supervisor_of_a_run_is_killed(machine: Machine) -> None:
    """Everything it started is ended, and its shards are lost, also those that waited."""
    run = machine.submit("-N", "3", "--max-parallel", "1", "--", "bash", "-c", SLEEPER)
    processes = _processes(run, 0)
    os.kill(_supervisor(run), signal.SIGKILL)
    gone(*processes)
    status = ended(run)
    assert status.state == "failed"
    assert [shard.cause for shard in status.shards] == ["lost"] * 3
    assert machine.hpcrun("wait", run.id).returncode == 1
    assert sorted(os.listdir(run.dir.results)) == ["child.0", "program.0", "supervisor.0"], "nothing more was started"


def test_both_supervisors_are_killed_at_once(machine: Machine) -> None:
    """As the kernel does it when memory runs out: the guard is enough."""
    script = "trap '' TERM; " + SLEEPER.replace("wait\n", "while :; do wait; done\n")
    run = machine.submit("bash", "-c", script)
    program, supervisor, child = _processes(run, 0)
    for process in (_supervisor(run), supervisor):
        os.kill(process, signal.SIGKILL)
    gone(program, child)
    assert ended(run).shards[0].cause == "lost"


def test_a_guard_that_is_signalled_goes_on_guarding(machine: Machine) -> None:
    """SIGTERM to the guard after its supervisor's death does not keep it from killing the program."""
    script = "trap '' TERM; " + SLEEPER.replace("wait\n", "while :; do wait; done\n")
    run = machine.submit("bash", "-c", script)
    program, supervisor, child = _processes(run, 0)
    guard = _guard(program, supervisor)
    os.kill(supervisor, signal.SIGKILL)
    os.kill(guard, signal.SIGTERM)
    gone(program, child, guard)


def test_the_guard_is_killed(machine: Machine) -> None:
    """The program goes on, is told to end as ever, and its end is recorded."""
    run = machine.submit("bash", "-c", SLEEPER)
    program, supervisor, child = _processes(run, 0)
    guard = _guard(program, supervisor)
    os.kill(guard, signal.SIGKILL)
    machine.hpcrun("cancel", run.id)
    assert ended(run).shards[0].cause == "cancelled"
    gone(program, supervisor, child)


def test_a_signal_that_only_the_guard_got_hides_no_later_one(machine: Machine) -> None:
    """A stray SIGUSR1 to the guard is not taken for the news that the program has had its SIGTERM."""
    machine.configure(grace="60s")
    run = machine.submit("bash", "-c", SLEEPER)
    program, supervisor, _ = _processes(run, 0)
    guard = _guard(program, supervisor)
    os.kill(guard, signal.SIGUSR1)
    os.kill(supervisor, signal.SIGTERM)
    assert ended(run).shards[0].signal == signal.SIGTERM


def test_who_submitted_is_killed(machine: Machine) -> None:
    """The run goes on without the one who followed it."""
    script = 'while [ ! -e "$HPCRUN_RESULTS_DIR/go" ]; do sleep 0.02; done; echo done'
    with machine.start(HPCRUN, "run", "sh", "-c", script, start_new_session=True) as follower:
        run = until(lambda: machine.newest())
        until(lambda: run.status().state == "running")
        os.killpg(follower.pid, signal.SIGKILL)
        follower.communicate()
    assert run.status().state == "running"
    Path(run.dir.results, "go").touch()
    assert ended(run).state == "succeeded"
    assert run.logs() == "done\n"


def test_no_process_is_left_of_a_run(machine: Machine) -> None:
    """Neither a supervisor nor a guard outlives its run."""
    run = machine.submit("-N", "3", "--", "bash", "-c", 'echo "$PPID" >"$HPCRUN_RESULTS_DIR/$HPCRUN_SHARD_INDEX"')
    assert ended(run).state == "succeeded"
    gone(_supervisor(run), *[int(text_of(run, str(shard))) for shard in range(3)])
    until(lambda: not machine.processes(), what="the end of every process of the run")


def _guard(program: int, supervisor: int) -> int:
    """The other child of a shard's supervisor."""
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    (guard,) = {int(process) for process in children} - {program}
    return guard
