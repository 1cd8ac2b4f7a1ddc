"""The warning before the end: programs that ask for it get it, once, in time; nobody else does."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

import pytest
from machine import Machine, ended, text_of
from waiting import until

from hpcrun import Run

PYTHON = [sys.executable, "-I", "-S"]
COUNTS = """
import os, signal, sys, time
began = time.monotonic()
name = "told." + os.environ["HPCRUN_ROLE"] + os.environ["HPCRUN_SHARD_INDEX"] + os.environ["HPCRUN_REPLICA_INDEX"]
def told(number, frame):
    with open(os.environ["HPCRUN_RESULTS_DIR"] + "/" + name, "a") as file:
        file.write(f"{signal.Signals(number).name} {time.monotonic() - began}\\n")
    if "ends" in sys.argv:
        os._exit(0)
signal.signal(signal.SIGUSR1, told)
signal.signal(signal.SIGUSR2, told)
if os.environ["HPCRUN_ROLE"] == "worker":
    import socket
    listener = socket.create_server(("", int(os.environ["HPCRUN_PORT_RPC"])))
else:
    print(os.getppid(), flush=True)
while True:
    time.sleep(0.05)
"""
"""Says its parent, and leaves a line for each warning, with how old it was."""


@pytest.fixture
def counts(machine: Machine) -> list[str]:
    """The command that counts its warnings."""
    return [*PYTHON, machine.write("counts.py", COUNTS)]


def warnings(run: Run, who: str = "job00") -> list[tuple[str, float]]:
    """What a process has left: the name of each signal, and its own age then, in seconds."""
    return [(line.split()[0], float(line.split()[1])) for line in text_of(run, f"told.{who}").splitlines()]


def test_in_time(machine: Machine, counts: list[str]) -> None:
    """Two seconds before its time is up a program is warned, once; what it does then counts as its own end."""
    run = machine.run("--timeout", "6s", "--signal", "USR2@4", "--", *counts, "ends")
    ((name, after),) = warnings(run)
    assert name == "SIGUSR2"
    assert 1 < after < 5
    assert run.shards()[0].state == "succeeded"


def test_once(machine: Machine, counts: list[str]) -> None:
    """A program that goes on is warned no second time before it is told to end."""
    run = machine.run("--timeout", "2.5s", "--signal", "B:USR1@2", "--", *counts, code=124)
    assert [name for name, _ in warnings(run)] == ["SIGUSR1"]
    assert run.shards()[0].cause == "timed_out"


def test_nobody_is_warned_who_did_not_ask(machine: Machine) -> None:
    """No signal ends a program that does not catch it, and none comes where the spec says nothing."""
    run = machine.run("--timeout", "1.5s", "--signal", "USR2@1", "--", "sleep", "1000", code=124)
    assert run.shards()[0].signal == signal.SIGTERM, "its time was up; the warning has not ended it"


def test_below_a_shell(machine: Machine, counts: list[str]) -> None:
    """What a script starts is warned; the shell, which catches nothing, goes on."""
    script = f"{' '.join(counts)} ends\necho after it"
    spec = {"script": script, "timeout": 9, "signal": "USR2@8"}
    run = machine.run(machine.write("spec.yaml", json.dumps(spec)))
    assert len(warnings(run)) == 1
    assert run.logs().endswith("after it\n")


def test_a_shell_that_hands_it_on(machine: Machine, counts: list[str]) -> None:
    """A script with a trap gets the warning, and what it starts gets it from the trap alone."""
    script = f"trap 'kill -USR2 $!' USR2\n{' '.join(counts)} &\nuntil wait; do :; done\nwait"
    spec = {"script": script, "timeout": 2.5, "signal": "USR2@2"}
    run = machine.run(machine.write("spec.yaml", json.dumps(spec)), code=124)
    assert len(warnings(run)) == 1


def test_late_to_ask(machine: Machine, counts: list[str]) -> None:
    """A program that asks for the warning only when that is due already still gets it."""
    run = machine.run(
        "--timeout", "9s", "--signal", "USR2@8", "--", "sh", "-c", f"sleep 2; exec {' '.join(counts)} ends"
    )
    assert len(warnings(run)) == 1


def up(run: Run) -> int:
    """The supervisor of shard 0, once its program says who it is."""
    return int(until(lambda: run.logs(), what="the program's first line").split()[0])


def test_slurm_warns_too(machine: Machine, counts: list[str]) -> None:
    """What Slurm sends shortly before the runtime's own clock is that warning; what it sends after it is none."""
    run = machine.submit("--timeout", "3s", "--signal", "USR2@1", "--", *counts)
    supervisor = up(run)
    os.kill(supervisor, signal.SIGUSR2)
    assert ended(run).state == "timed_out"
    assert [name for name, _ in warnings(run)] == ["SIGUSR2"]
    run = machine.submit("--timeout", "3s", "--signal", "USR2@2", "--", *counts)
    supervisor = up(run)
    until(lambda: warnings(run), what="the runtime's own warning")
    os.kill(supervisor, signal.SIGUSR2)
    assert ended(run).state == "timed_out"
    assert len(warnings(run)) == 1


def test_the_user_may_warn(machine: Machine, counts: list[str]) -> None:
    """Where no end is near, each signal that somebody sends reaches the program."""
    run = machine.submit("--signal", "USR2@1", "--", *counts)
    supervisor = up(run)
    for count in (1, 2):
        os.kill(supervisor, signal.SIGUSR2)
        until(lambda count=count: len(warnings(run)) == count, what="the program's word of it")
    assert run.status().state == "running"
    run.cancel()


def _gang(machine: Machine, counts: list[str], **more: Any) -> str:
    quiet = [*PYTHON, "-c", COUNTS.replace("signal.signal(signal.SIGUSR2, told)", "")]
    worker = {"command": counts, "endpoints": {"rpc": "auto"}, "replicas": 2}
    if more.pop("deaf", False):
        worker["command"] = quiet
    spec = {"command": counts, "worker": worker, "timeout": 3, "signal": "USR2@2", **more}
    return machine.write("spec.yaml", json.dumps(spec))


@pytest.mark.parametrize("deaf", [False, True], ids=["workers that want it", "workers that do not"])
def test_workers(machine: Machine, counts: list[str], deaf: bool) -> None:
    """The workers of a job are warned with it, if they catch the signal; others live on."""
    run = machine.run(_gang(machine, counts, deaf=deaf), code=124)
    assert [len(warnings(run, who)) for who in ("job00", "worker00", "worker01")] == ([1, 0, 0] if deaf else [1, 1, 1])
    assert run.shards()[0].cause == "timed_out"


def test_shards_of_a_gang(machine: Machine, counts: list[str]) -> None:
    """Each shard is warned once, and its workers."""
    spec = {"command": [*counts, "ends"], "shards": 2, "gang": True, "timeout": 9, "signal": "USR2@7"}
    run = machine.run(machine.write("spec.yaml", json.dumps(spec)))
    assert [len(warnings(run, f"job{shard}0")) for shard in (0, 1)] == [1, 1]


def test_a_warning_is_no_end(machine: Machine, counts: list[str]) -> None:
    """A program that fails after its warning has failed; nobody has cancelled it."""
    script = 'trap "exit 9" USR2; while :; do sleep 0.02; done'
    run = machine.run("--timeout", "3s", "--signal", "USR2@2", "--", "bash", "-c", script, code=9)
    assert (run.shards()[0].state, run.shards()[0].cause) == ("failed", "failed")


def test_the_same_time_for_each_attempt(machine: Machine, counts: list[str]) -> None:
    """Each attempt of a shard is warned before its own end."""
    run = machine.run(
        "--timeout", "2.5s", "--signal", "USR2@2", "--retry", "in_place", "--set", "spec.retries={timed_out: 1}", "--",
        *counts, code=124,
    )  # fmt: skip
    assert len(warnings(run)) == run.shards()[0].attempts == 2
