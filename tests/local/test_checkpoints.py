"""Hooks under a real runtime: a program is warned, saves what it has, and goes on from there."""

from __future__ import annotations

import json
import signal
import sys

import pytest
from machine import Machine, ended, text_of
from waiting import until

COUNTS = """
import os, sys, time
import hpcrun

here = hpcrun.current()
path = os.path.join(here.results_dir, f"state{here.index}")
began = state = int(open(path).read()) if os.path.exists(path) else 0
print(here.attempt, "from", state, flush=True)

@hpcrun.checkpoint
def save():
    with open(path + ".new", "w") as file:
        print(state, file=file)
    os.replace(path + ".new", path)
    print(here.attempt, "saved", state, flush=True)
    if "leaves" in sys.argv:
        sys.exit(5)

with open(path + ".begun", "w") as file:
    print("counts", file=file)
while not here.attempt or state < began + 3:
    time.sleep(0.01)
    state += 1
"""
"""Counts for ever in its first attempt, and in the next one to three more than what that has saved."""
WITH_WORKERS = """
import os, socket, time
import hpcrun

here = hpcrun.current()
if here.role == "job":
    print(*here.workers, *here.endpoints["rpc"], flush=True)

@hpcrun.checkpoint
def save():
    with open(os.path.join(here.results_dir, f"{here.role}{here.replica}"), "w") as file:
        print("saved", file=file)

if here.role == "worker":
    listener = socket.create_server(("", int(os.environ["HPCRUN_PORT_RPC"])))
while True:
    time.sleep(0.02)
"""


@pytest.fixture
def counts(machine: Machine) -> list[str]:
    return [sys.executable, machine.write("counts.py", COUNTS)]


def test_it_goes_on_from_there(machine: Machine, counts: list[str]) -> None:
    """Warned, a program saves its state; when its time is up, once more; the next attempt has what was saved last."""
    run = machine.run(
        "--timeout", "6s", "--signal", "USR2@4", "--retry", "in_place", "--set", "spec.retries={timed_out: 1}", "--",
        *counts,
    )  # fmt: skip
    shard = run.shards()[0]
    assert (shard.state, shard.attempts) == ("succeeded", 2)
    said = (run.logs(attempt=0) + run.logs(attempt=1)).split()
    warned, told = int(said[5]), int(said[8])
    assert said == ["0", "from", "0", "0", "saved", f"{warned}", "0", "saved", f"{told}", "1", "from", f"{told}"]
    assert warned < told


def test_cancelled(machine: Machine, counts: list[str]) -> None:
    """Cancelled, a program saves its state and then ends by the signal."""
    run = machine.submit("--", *counts)
    until(lambda: text_of(run, "state0.begun"), what="the program's first step")
    run.cancel()
    assert ended(run).state == "cancelled"
    assert run.shards()[0].signal == signal.SIGTERM
    assert f"0 saved {text_of(run, 'state0')}" in run.logs()


def test_it_may_leave(machine: Machine, counts: list[str]) -> None:
    """A program that leaves at the warning has ended by itself, with its own code, and is tried again for that."""
    run = machine.run(
        "--timeout", "60s", "--signal", "USR1@59", "--retries", "1", "--retry", "in_place", "--", *counts, "leaves"
    )
    assert [line.split()[1] for line in run.logs(attempt=0).splitlines()] == ["from", "saved"]
    assert (run.shards()[0].state, run.shards()[0].attempts) == ("succeeded", 2)


def test_every_process_of_it(machine: Machine) -> None:
    """Workers are warned with their job, and save their own state."""
    command = [sys.executable, machine.write("program.py", WITH_WORKERS)]
    worker = {"command": command, "endpoints": {"rpc": "auto"}, "replicas": 2}
    spec = {"command": command, "worker": worker, "timeout": 60, "signal": "USR2@59"}
    run = machine.submit(machine.write("spec.yaml", json.dumps(spec)))
    for name in ("job0", "worker0", "worker1"):
        until(lambda name=name: text_of(run, name), what=f"the word of {name}")
    first, second, *addresses = run.logs().split()
    assert [address.split(":")[0] for address in addresses] == [first, second]
    run.cancel()
    assert ended(run).state == "cancelled"
