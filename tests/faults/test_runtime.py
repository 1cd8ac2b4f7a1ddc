"""The runtime on the nodes is killed, cannot be started, is refused by Slurm, or has a wrong clock."""

from __future__ import annotations

import json

import pytest
from containers import Login, User
from gangs import asked, gone, with_workers
from trouble import UNTIL_TOLD, end, running
from waiting import until

TELLS_WHO = f'echo $$ $PPID >"$HPCRUN_RESULTS_DIR/of.$HPCRUN_SHARD_INDEX.$HPCRUN_ATTEMPT"; {UNTIL_TOLD}'
"""A program that says which process it is and which its supervisor's."""


def processes(user: User, run_id: str, name: str) -> list[str]:
    return user.read(f"{user.home}/runs/{run_id}/results/of.{name}").split()


def test_a_program_is_killed(user: User) -> None:
    """Its shard is tried again as after any failure; the other one is not disturbed, and nothing is left."""
    run_id = user.submit("-N", "2", "--retries", "1", "--", "bash", "-c", TELLS_WHO)
    node = running(user, run_id, 2)[1]["node"]
    user.ok("kill", "-9", processes(user, run_id, "1.0")[0], node=node)
    record = f"{user.home}/runs/{run_id}/records/0/000/1.jsonl"
    until(lambda: '"signal":9,"cause":"failed"' in user.read(record), what="the end")
    end(user, run_id)
    assert user.hpcrun("wait", "-q", run_id).returncode == 0
    assert [one["attempts"] for one in user.status(run_id)["shards"]] == [1, 2]
    gone(user, run_id)


def test_a_supervisor_is_killed_and_nobody_follows(user: User) -> None:
    """Its shard is called what it is, lost, and `hpcrun retry` makes it good."""
    run_id = user.submit("-N", "2", "--", "bash", "-c", TELLS_WHO)
    node = running(user, run_id, 2)[1]["node"]
    user.ok("kill", "-9", processes(user, run_id, "1.0")[1], node=node)
    end(user, run_id)
    until(lambda: user.status(run_id)["status"] == "partial", what="a run that is partial")
    lost = user.status(run_id)["shards"][1]
    assert (lost["state"], lost["cause"], lost["attempts"]) == ("failed", "lost", 1)
    assert user.hpcrun("retry", run_id).returncode == 0
    assert user.hpcrun("wait", "-q", run_id).returncode == 0
    assert [one["attempts"] for one in user.status(run_id)["shards"]] == [1, 2]


def test_a_job_that_ends_before_its_program_starts(user: User) -> None:
    """It is launched again by whoever follows, which costs none of its program's retries."""
    user.write("hpcrun.toml", f"prologue = 'mkdir {user.folder}/tried.$SLURM_ARRAY_TASK_ID 2>/dev/null && exit 1'\n")
    done = user.hpcrun("run", "-N", "2", "--", "true")
    assert done.returncode == 0, done.stdout
    assert {one["state"] for one in user.status("last")["shards"]} == {"succeeded"}


@pytest.mark.full
def test_a_job_that_never_gets_to_its_program(user: User) -> None:
    """It is given up when its launches are used up, and says so."""
    user.write("hpcrun.toml", "prologue = 'exit 1'\n")
    spec = {"command": ["true"], "retries": {"launch_failed": 2}}
    run_id = user.submit_spec(spec)
    assert user.hpcrun("wait", "-q", run_id).returncode == 1
    (shard,) = user.status(run_id)["shards"]
    assert (shard["state"], shard["cause"]) == ("failed", "launch_failed")


REFUSES = """#!/bin/sh
# As a site may have it: nobody requeues here.
case "$*" in
    requeue* | *requeue=1*) echo "scontrol: error: Requested operation is presently disabled" >&2; exit 1;;
esac
exec {scontrol} "$@"
"""


def test_requeuing_is_forbidden(user: User) -> None:
    """Then the shard is tried again where it is, and somebody who follows has nothing to do."""
    scontrol = user.ok("bash", "-c", "command -v scontrol").strip()
    user.ok("chmod", "+x", user.write("bin/scontrol", REFUSES.format(scontrol=scontrol)))
    user.write("hpcrun.toml", f"prologue = 'PATH={user.folder}/bin:$PATH'\n")
    run_id = user.submit("-N", "3", "--retries", "2", "--", "bash", "-c", "exit $((HPCRUN_ATTEMPT < 2))")
    job = user.status(run_id)["jobs"][0]
    assert user.hpcrun("wait", "-q", run_id).returncode == 0
    assert [one["attempts"] for one in user.status(run_id)["shards"]] == [3, 3, 3]
    assert "Restarts=1" not in user.ok("scontrol", "show", "job", job)
    gone(user, run_id)


SKEWS = """prologue = '''
case $SLURMD_NODENAME in c1) skew=-100;; c2) skew=+100;; *) skew=+0;; esac
export LD_PRELOAD=$(echo /usr/lib/*/faketime/libfaketime.so.1) FAKETIME=${skew}s FAKETIME_DONT_FAKE_MONOTONIC=1
'''
"""
"""c1 is 100 s behind, c2 100 s ahead, c3 and c4 are right."""


def test_clocks_that_are_wrong(user: User) -> None:
    """Shards on nodes that disagree about the time end as they would, with times that fit together on each node."""
    user.write("hpcrun.toml", SKEWS)
    script = 'date +%s >"$HPCRUN_RESULTS_DIR/$HPCRUN_SHARD_INDEX.$HPCRUN_ATTEMPT"; exit $((HPCRUN_ATTEMPT == 0))'
    spec = {"command": ["bash", "-c", script], "shards": 4, "retries": 1, "timeout": "1m",
            "cpus": 8}  # fmt: skip
    run_id = user.submit_spec(spec)
    assert user.hpcrun("wait", "-q", run_id).returncode == 0
    shards = user.status(run_id)["shards"]
    assert [(one["state"], one["attempts"]) for one in shards] == [("succeeded", 2)] * 4
    assert all(one["started"] <= one["ended"] <= one["started"] + 30 for one in shards)
    times = user.sh('cat "$HPCRUN_HOME/runs/$1/results/"*.*', run_id).stdout.split()
    assert max(map(int, times)) - min(map(int, times)) > 150, "the clocks were wrong"
    table = user.hpcrun("status", "--all", run_id).stdout
    assert "-1m" not in table


def test_a_gang_whose_clocks_are_wrong(user: User) -> None:
    """Workers on nodes that disagree about the time are found, meet their job, and are not taken for silent."""
    user.write("hpcrun.toml", SKEWS + 'lost_after = "3s"\n')
    run_id = user.submit_spec(with_workers(user, 3, topology="het", sbatch={"nodelist": "c1"}, job="0.0"))
    (facts,) = until(lambda: list(user.results(run_id, "job.*").values()), what="the job")
    assert sorted(asked(facts)) == [f"{run_id} 0 {replica}" for replica in range(3)]
    began = json.loads(user.ok("date", "+%s"))
    until(lambda: json.loads(user.ok("date", "+%s")) > began + 5, what="longer than a silent node is waited for")
    user.end(run_id)
    assert user.hpcrun("wait", "-q", run_id).returncode == 0
    assert user.status(run_id)["shards"][0]["attempts"] == 1
    gone(user, run_id)


def test_a_run_whose_time_is_up_by_a_wrong_clock(user: User, login: Login) -> None:
    """A node that is ahead ends what it runs too early, by as much as its clock is wrong, and says why."""
    user.write("hpcrun.toml", SKEWS)
    spec = {"command": ["sleep", "1000"], "run_timeout": "60s", "sbatch": {"nodelist": "c2"}}
    run_id = user.submit_spec(spec)
    assert user.hpcrun("wait", "-q", run_id).returncode == 124
    (shard,) = user.status(run_id)["shards"]
    assert (shard["state"], shard["cause"]) == ("timed_out", "timed_out")
