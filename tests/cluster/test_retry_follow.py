"""Who follows a run on the real cluster: retries without Slurm's two minutes, lost shards started again."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from containers import NAME, RELEASE, SCRIPTS, Login, User
from trouble import UNTIL_TOLD, end, running
from waiting import until

FAR_LESS = 30.0
"""Seconds from a failure to the next start, at most; Slurm by itself takes 121. benchmarks/retry.py measures it."""


def events(user: User, run_id: str, shard: int) -> list[dict[str, Any]]:
    """All that the records of a shard's attempts hold, and what others said of their ends, in the order of time."""
    printed = user.sh('cat "$HPCRUN_HOME/runs/$1/records/"*/000/"$2".*', run_id, str(shard)).stdout
    return sorted((json.loads(line) for line in printed.splitlines()), key=lambda event: float(event["at"]))


def waits(user: User, run_id: str, shard: int) -> list[float]:
    """Seconds from the end of each attempt to the start of the next."""
    found = events(user, run_id, shard)
    return [
        after["at"] - before["at"]
        for before, after in pairwise(found)
        if (before["event"], after["event"]) == ("end", "start")
    ]


def following(user: User, run_id: str) -> subprocess.Popen[bytes]:
    """Somebody who follows, in the background."""
    script = 'cd "$1" && export HPCRUN_HOME="$2" && echo $$ >follower && exec hpcrun wait -q "$3"'
    command = [str(SCRIPTS / "login"), "bash", "-c", script, "bash", user.folder, user.home, run_id]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, env={**os.environ, "DOCKER_SLURM_NAME": NAME})


def test_retries_do_not_wait_for_slurm(user: User, in_queue: Callable[[], str]) -> None:
    """Each failure is told with its shard, its code and its node; the table at the end has all shards."""
    script = "exit $((HPCRUN_ATTEMPT < HPCRUN_SHARD_INDEX ? 3 : 0))"
    done = user.hpcrun("run", "-N", "3", "--retries", "2", "--", "bash", "-c", script)
    assert done.returncode == 0, done.stderr
    run_id = user.status("last")["run_id"]
    found = {shard: waits(user, run_id, shard) for shard in range(3)}
    assert {shard: len(one) for shard, one in found.items()} == {0: 0, 1: 1, 2: 2}
    assert all(2 <= wait < FAR_LESS for one in found.values() for wait in one), found
    said = [line.strip() for line in done.stderr.splitlines() if "attempt" in line]
    assert sorted(line.partition(" on c")[0] for line in said) == [
        f"shard {shard}: attempt {attempt} failed with exit code 3" for shard, attempt in [(1, 0), (2, 0), (2, 1)]
    ]
    assert said[-1].endswith("; tried again (2 of 2 retries used)")
    rows = [line.split()[:3] for line in done.stdout.splitlines() if line[:1] in ("0", "1", "2")]
    assert rows == [["0", "succeeded", "1"], ["1", "succeeded", "2"], ["2", "succeeded", "3"]]
    assert in_queue() == ""


def test_two_who_follow_at_once(user: User) -> None:
    """Neither does any harm: no retry is lost, none is counted twice."""
    run_id = user.submit("-N", "4", "--retries", "3", "--", "bash", "-c", "exit $((HPCRUN_ATTEMPT < 3))")
    both = [following(user, run_id), following(user, run_id)]
    assert [one.wait(timeout=200) for one in both] == [0, 0]
    for shard in range(4):
        assert [event["cause"] for event in events(user, run_id, shard) if event["event"] == "end"] == [
            "failed", "failed", "failed", None
        ]  # fmt: skip
        assert max(waits(user, run_id, shard)) < FAR_LESS


def test_who_follows_is_killed_and_another_one_comes(user: User) -> None:
    """The second one goes on where the first was, also with a shard that waits."""
    script = f"[ $HPCRUN_ATTEMPT -gt 0 ] || exit 1; [ $HPCRUN_ATTEMPT -gt 1 ] || {{ {UNTIL_TOLD}; exit 1; }}"
    run_id = user.submit("-N", "2", "--retries", "2", "--", "bash", "-c", script)
    first = following(user, run_id)
    until(lambda: [shard["attempts"] for shard in user.status(run_id)["shards"]] == [2, 2], what="the second attempts")
    user.ok("kill", "-9", user.read(f"{user.folder}/follower").strip())
    assert first.wait(timeout=30) != 0
    end(user, run_id)
    until(lambda: user.status(run_id)["counts"] == {"pending": 2}, what="two shards that wait")
    assert user.hpcrun("wait", "-q", run_id).returncode == 0
    assert all(max(waits(user, run_id, shard)) < FAR_LESS * 2 for shard in range(2))


TOO_SOON = """
until compgen -G "$1/records/*/000/0.silent"; do
    [ "$(squeue -h -j "$2" -o %T,%r)" != PENDING,BeginTime ] || scontrol update jobid="$2" StartTime=now
done
"""
"""Has a job start in the second of its requeue, as often as that takes until one has died of it."""


@pytest.mark.skipif(RELEASE == "26.05", reason="26.05 waits for the next second by itself: of 40 starts none died")
def test_a_retry_that_slurm_killed_on_its_start(user: User) -> None:
    """Told to start too soon, a job dies of its revoked credential: its shard is started again, as a launch."""
    run_id = user.submit("-w", "c1", "--retries", "40", "--", "bash", "-c", '[ -e "$HPCRUN_RESULTS_DIR/end" ]')
    (job,) = user.status(run_id)["jobs"]
    follower = following(user, run_id)
    user.ok("timeout", "100", "bash", "-c", TOO_SOON, "bash", f"{user.home}/runs/{run_id}", job)
    end(user, run_id)
    assert follower.wait(timeout=100) == 0
    ends = [event for event in events(user, run_id, 0) if event["event"] == "end"]
    assert {event["cause"] for event in ends[:-1]} <= {"failed", "launch_failed"}
    assert "launch_failed" in {event["cause"] for event in ends}
    assert ends[-1]["cause"] is None


def test_a_supervisor_is_killed_while_somebody_follows(user: User, login: Login) -> None:
    """Its shard left no end, and runs again; nobody has to do anything."""
    script = f'echo $PPID >"$HPCRUN_RESULTS_DIR/of.$HPCRUN_SHARD_INDEX"; {UNTIL_TOLD}'
    run_id = user.submit("-N", "2", "--", "bash", "-c", script)
    shards = running(user, run_id, 2)
    follower = following(user, run_id)
    supervisor = user.read(f"{user.home}/runs/{run_id}/results/of.1").strip()
    assert login("kill", "-9", supervisor, node=shards[1]["node"]).returncode == 0
    until(lambda: [shard["attempts"] for shard in user.status(run_id)["shards"]] == [1, 2], what="another attempt")
    end(user, run_id)
    assert follower.wait(timeout=60) == 0
    assert [event["cause"] for event in events(user, run_id, 1) if event["event"] == "end"] == ["lost", None]


def test_a_shard_that_is_held(user: User) -> None:
    """It stays held, its status says by whom, and released it starts."""
    script = f"{UNTIL_TOLD}; exit $((HPCRUN_ATTEMPT < 1))"
    run_id = user.submit("-N", "2", "--retries", "1", "--", "bash", "-c", script)
    job = running(user, run_id, 2)[0]["job"]
    end(user, run_id)
    until(lambda: user.status(run_id)["shards"][0]["state"] == "pending", what="a shard that waits")
    user.ok("scontrol", "hold", job)
    follower = following(user, run_id)
    until(lambda: user.status(run_id)["shards"][1]["state"] == "succeeded", what="the other one")
    held = user.status(run_id)["shards"][0]
    assert (held["state"], held["attempts"]) == ("pending", 1)
    assert "JobHeldUser" in held["detail"]
    user.ok("scontrol", "release", job)
    assert follower.wait(timeout=120) == 0


def test_the_time_of_a_run_is_up_while_it_is_held(user: User, in_queue: Callable[[], str]) -> None:
    """Nothing of it runs on a node, so whoever follows takes it out of the queue."""
    done = user.hpcrun("run", "-N", "3", "--run-timeout", "4s", "--hold", "--", "true")
    assert done.returncode == 124, done.stderr
    assert user.status("last")["counts"] == {"timed_out": 3}
    until(lambda: in_queue() == "", what="an empty queue")
