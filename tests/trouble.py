"""Trouble made on purpose, and what a test of it waits for."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from containers import Login, User, container, docker
from waiting import until

AFTER_COMPLETING = 2.0
"""Seconds before which an element must not restart on its node: Slurm's credentials count whole seconds."""

UNTIL_TOLD = 'until [ -e "$HPCRUN_RESULTS_DIR/end" ]; do sleep 0.1; done; echo "attempt $HPCRUN_ATTEMPT ends"'
"""A program that ends when it is told to, with the last line of its log saying so."""


def end(user: User, run_id: str) -> None:
    """Tell the programs of UNTIL_TOLD to end."""
    user.ok("touch", f"{user.home}/runs/{run_id}/results/end")


def ended_by_records(user: User, run_id: str) -> int:
    """How many shards of a run have recorded their end, found without a word from Slurm."""
    found = user.sh('grep -rl \'"event":"end"\' "$HPCRUN_HOME/runs/$1/records"', run_id)
    return len(found.stdout.split())


def running(user: User, run_id: str, count: int = 1) -> list[dict[str, Any]]:
    """The shards of a run, as soon as `count` of them run."""
    until(lambda: user.status(run_id)["counts"].get("running") == count, what=f"{count} running")
    found: list[dict[str, Any]] = user.status(run_id)["shards"]
    return found


@contextlib.contextmanager
def stopped(login: Login, daemon: str) -> Iterator[None]:
    """`daemon` is away; back, and answering, at the end."""
    docker("stop", container(daemon))
    try:
        yield
    finally:
        docker("start", container(daemon))
        answers(login, daemon)


def answers(login: Login, daemon: str) -> None:
    """Wait until a daemon answers, and the nodes take jobs."""
    asked = ("scontrol", "ping") if daemon == "slurmctld" else ("sacctmgr", "-n", "show", "cluster")
    until(lambda: login(*asked).returncode == 0, 90, f"{daemon} back")
    until(lambda: login("sinfo", "-h", "-t", "idle,mix,alloc", "-o", "%D").stdout.strip() == "4", 90, "four nodes")


def crashed(login: Login, daemon: str) -> None:
    """Kill a daemon; its container starts again by itself."""
    assert login("pkill", "-9", "-x", daemon, node=daemon, user="root").returncode == 0


@contextlib.contextmanager
def frozen(name: str) -> Iterator[None]:
    """Every process of a machine stands still, and what is sent to it is taken and not answered."""
    docker("pause", container(name))
    try:
        yield
    finally:
        docker("unpause", container(name))


def fall_silent(user: User, run_id: str, node: str) -> str:
    """Freeze a node until its loss is noticed and the job is back in the queue, and start that; what was recorded."""
    (job,) = user.status(run_id)["jobs"]
    record = f"{user.home}/runs/{run_id}/records/0/000/0.jsonl"
    with frozen(node):
        until(lambda: '"node_failed"' in user.read(record), what="the loss of the node")
        until(lambda: user.status(run_id)["shards"][0]["state"] == "pending", what="a requeued job")
    user.restart(job)
    return user.read(record)


def restart(user: User, element: str) -> None:
    """End the two minutes for which Slurm holds back what it has requeued."""
    asked = ("squeue", "--noheader", "--array", "--states=all", f"--jobs={element}", "--format=%T")
    until(lambda: user.ok(*asked).strip() == "PENDING", 120, f"{element} back in the queue")
    due = time.monotonic() + AFTER_COMPLETING
    until(lambda: time.monotonic() > due)
    user.ok("scontrol", "update", f"jobid={element}", "StartTime=now")
