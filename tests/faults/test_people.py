"""What people do to the elements of a run, with Slurm's commands, while it goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from containers import Login, User
from trouble import UNTIL_TOLD, end, running
from waiting import until

ENDS_WITH_143 = 'trap "exit 143" TERM; touch "$HPCRUN_RESULTS_DIR/up.$HPCRUN_SHARD_INDEX"; while :; do sleep 0.1; done'
FAILS_FIRST = f"{UNTIL_TOLD}; exit $((HPCRUN_ATTEMPT == 0))"


def shard(user: User, run_id: str, index: int) -> dict[str, Any]:
    found: dict[str, Any] = user.status(run_id)["shards"][index]
    return found


CANCELS = {
    "the array": lambda job: [job],
    "only a signal": lambda job: ["--signal=TERM", "--full", job],
}


@pytest.mark.parametrize("how", CANCELS)
def test_scancel_of_programs_that_exit_with_143(user: User, in_queue: Callable[[], str], how: str) -> None:
    """They are cancelled for good, although their retries are left and their exit codes are no zeros."""
    run_id = user.submit("-N", "4", "--retries", "3", "--", "bash", "-c", ENDS_WITH_143)
    ready = 'ls "$HPCRUN_HOME/runs/$1/results" | wc -l'
    until(lambda: user.sh(ready, run_id).stdout.strip() == "4", what="four programs")
    user.ok("scancel", *CANCELS[how](user.status(run_id)["jobs"][0]))
    assert user.hpcrun("wait", "-q", run_id).returncode == 130
    assert [(one["state"], one["attempts"]) for one in user.status(run_id)["shards"]] == [("cancelled", 1)] * 4
    assert in_queue() == ""


def test_scancel_of_one_that_waits_to_be_tried_again(user: User, in_queue: Callable[[], str]) -> None:
    """It is cancelled, and the other one is tried again."""
    run_id = user.submit("-N", "2", "--retries", "3", "--", "bash", "-c", "exit $((HPCRUN_ATTEMPT == 0))")

    def waiting() -> bool:
        shards = user.status(run_id)["shards"]
        return [(one["state"], one["attempts"]) for one in shards] == [("pending", 1)] * 2

    until(waiting, what="two that wait again")
    job = user.status(run_id)["jobs"][0]
    until(lambda: user.ok("squeue", "-h", "-r", "-t", "PD", "-j", job, "-o", "%i").split() != [], what="the queue")
    user.ok("scancel", f"{job}_1")
    assert user.hpcrun("wait", "-q", run_id).returncode == 3
    states = [(one["state"], one["attempts"]) for one in user.status(run_id)["shards"]]
    assert states == [("succeeded", 2), ("cancelled", 1)]
    assert in_queue() == ""


def test_an_administrator_cancels_one(user: User, login: Login) -> None:
    """That one is cancelled, and not tried again; the other one goes on."""
    run_id = user.submit("-N", "2", "--retries", "3", "--", "bash", "-c", UNTIL_TOLD)
    first = running(user, run_id, 2)[0]
    login("scancel", first["job"], user="root", node="slurmctld")
    until(lambda: shard(user, run_id, 0)["state"] == "cancelled", what="a cancelled shard")
    end(user, run_id)
    assert user.hpcrun("wait", "-q", run_id).returncode == 3
    assert [one["state"] for one in user.status(run_id)["shards"]] == ["cancelled", "succeeded"]


def test_one_that_runs_is_held_and_fails(user: User) -> None:
    """It is tried again when it is let go, not before."""
    run_id = user.submit("--retries", "1", "--", "bash", "-c", FAILS_FIRST)
    job = running(user, run_id)[0]["job"]
    user.ok("scontrol", "hold", job, user="root", node="slurmctld")
    end(user, run_id)
    until(lambda: "JobHeld" in shard(user, run_id, 0)["detail"], what="a held job in the queue")
    assert shard(user, run_id, 0)["state"] == "pending"
    user.ok("scontrol", "release", job, user="root", node="slurmctld")
    assert user.hpcrun("wait", "-q", run_id).returncode == 0
    assert shard(user, run_id, 0)["attempts"] == 2


def test_an_administrators_requeue_takes_nothing_from_the_retries(user: User) -> None:
    """Requeued by somebody else, and then failing as often as it may, it still succeeds."""
    script = f"[ $HPCRUN_ATTEMPT != 0 ] || {{ {UNTIL_TOLD}; }}; exit $((HPCRUN_ATTEMPT == 1))"
    run_id = user.submit("--retries", "1", "--", "bash", "-c", script)
    job = running(user, run_id)[0]["job"]
    user.ok("scontrol", "requeue", job, user="root", node="slurmctld")
    assert user.hpcrun("wait", "-q", run_id).returncode == 0
    assert shard(user, run_id, 0)["attempts"] == 3


def test_preemption_takes_nothing_from_the_retries(user: User) -> None:
    """A program that ends badly because it has to make way has not failed: it can still fail once and succeed."""
    script = f'trap "exit 9" TERM; [ $HPCRUN_ATTEMPT != 0 ] || {{ {UNTIL_TOLD}; }}; exit $((HPCRUN_ATTEMPT == 1))'
    run_id = user.submit("--retries", "1", "-p", "low", "-w", "c1", "-c", "8", "--", "bash", "-c", script)
    running(user, run_id)
    assert user.hpcrun("run", "-p", "high", "-w", "c1", "-c", "8", "--", "true").returncode == 0
    assert user.hpcrun("wait", "-q", run_id).returncode == 0
    assert shard(user, run_id, 0)["attempts"] == 3
    first = user.read(f"{user.home}/runs/{run_id}/records/0/000/0.jsonl")
    assert '"cause":"preempted"' in first
