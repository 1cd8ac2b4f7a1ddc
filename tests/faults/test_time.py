"""Slurm's time limit and hpcrun's own."""

from __future__ import annotations

import pytest
from containers import User
from trouble import UNTIL_TOLD
from waiting import until


@pytest.mark.full
def test_slurms_time_limit_is_not_tried_again(user: User) -> None:
    """A shard that Slurm ends at its limit has timed out, whatever retries are left; the other one succeeds."""
    script = f'trap "exit 9" TERM; [ $HPCRUN_SHARD_INDEX = 1 ] || {{ {UNTIL_TOLD}; }}'
    run_id = user.submit("-N", "2", "--time", "1", "--retries", "3", "--", "bash", "-c", script)
    job = until(lambda: user.status(run_id)["shards"][0]["job"], what="the job")
    until(lambda: user.status(run_id)["counts"] == {"succeeded": 1, "running": 1}, what="one that runs")
    # An administrator can set a limit that has passed; the shortest there is takes two minutes to be enforced.
    user.ok("scontrol", "update", f"jobid={job}", "timelimit=0:01", user="root", node="slurmctld")
    assert user.hpcrun("wait", "-q", run_id).returncode == 3
    shards = [(one["state"], one["attempts"]) for one in user.status(run_id)["shards"]]
    assert shards == [("timed_out", 1), ("succeeded", 1)]


def test_a_timeout_that_may_be_tried_again(user: User) -> None:
    """With a budget of its own it is, and it takes nothing from the program's retries."""
    script = "case $HPCRUN_ATTEMPT in 0) exec sleep 1000;; 1) exit 5;; esac"
    spec = {
        "command": ["bash", "-c", script], "timeout": "2s", "retries": {"failed": 1, "timed_out": 1},
        "retry": "in_place",
    }  # fmt: skip
    run_id = user.submit_spec(spec)
    assert user.hpcrun("wait", "-q", run_id).returncode == 0
    assert user.status(run_id)["shards"][0]["attempts"] == 3
    causes = user.sh('grep -oh "\\"cause\\":[a-z_\\"]*" "$HPCRUN_HOME/runs/$1/records/"*/000/0.jsonl', run_id).stdout
    assert causes.split() == ['"cause":"timed_out"', '"cause":"failed"', '"cause":null']


@pytest.mark.full
def test_a_program_that_ends_well_after_its_time_limit(user: User) -> None:
    """Slurm is late, and says TIMEOUT of it; what counts is that it has ended well."""
    run_id = user.submit("--time", "1", "--", "sleep", "70")
    code = user.hpcrun("wait", "-q", run_id).returncode
    word = user.ok("sacct", "-nPX", "-j", user.status(run_id)["jobs"][0], "-o", "State").strip()
    ended = user.status(run_id)["shards"][0]
    assert (code, ended["state"]) in ((0, "succeeded"), (124, "timed_out")), (word, ended)
    assert ended["exit_code"] == 0 or ended["state"] == "timed_out"
