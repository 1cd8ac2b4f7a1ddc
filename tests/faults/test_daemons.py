"""Slurm's own daemons crash, hang or are away, and the run does what it would have done."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import pytest
from containers import Login, User
from trouble import UNTIL_TOLD, answers, crashed, end, ended_by_records, frozen, running, stopped
from waiting import until

FAILS_FIRST = f"{UNTIL_TOLD}; exit $((HPCRUN_ATTEMPT == 0))"
"""A program whose first attempt fails as soon as it is told to end."""
SAVED = 7.0
"""Seconds after which slurmctld has written down that a job runs; it does so every five, and forgets the rest."""


def crash_while_running(user: User, login: Login, age: float) -> str:
    """A run of three, none of them younger than `age` seconds when slurmctld crashes and they fail; its id."""
    run_id = user.submit("-N", "3", "--retries", "2", "--", "bash", "-c", FAILS_FIRST)
    shards = running(user, run_id, 3)
    until(lambda: time.time() - max(one["started"] for one in shards) > age, what=f"{age:g} s of age")
    crashed(login, "slurmctld")
    end(user, run_id)
    answers(login, "slurmctld")
    return run_id


def test_slurmctld_crashes_while_a_run_goes_on(user: User, login: Login, in_queue: Callable[[], str]) -> None:
    """What fails while it is away is tried again; each shard runs as often as it has to and no more."""
    run_id = crash_while_running(user, login, SAVED)
    assert user.hpcrun("wait", "-q", run_id).returncode == 0
    assert [shard["attempts"] for shard in user.status(run_id)["shards"]] == [2, 2, 2]
    until(lambda: in_queue() == "", what="an empty queue")


@pytest.fixture
def fresh_numbers(user: User) -> Iterator[None]:
    """A job whose number has been forgotten and given again would be taken for the old one by its node."""
    yield
    user.sh("for i in $(seq 12); do sbatch --hold --wrap true; done; scancel --me")


def test_slurmctld_forgets_that_a_run_goes_on(
    user: User, login: Login, in_queue: Callable[[], str], fresh_numbers: None
) -> None:
    """It comes back without its last seconds, and starts what runs once more or knows nothing of it: all end well."""
    run_id = crash_while_running(user, login, 0)
    assert user.hpcrun("wait", "-q", run_id).returncode == 0
    assert user.status(run_id)["counts"] == {"succeeded": 3}
    # What it has forgotten to have ended it takes back into the queue, for two minutes; there is nothing left to do.
    until(lambda: in_queue() == "", 300, "an empty queue")


@pytest.mark.full
def test_slurmctld_is_away_when_a_shard_fails(user: User, login: Login) -> None:
    """Nobody can take it back into the queue, so it is tried again where it is, and ends well without Slurm."""
    run_id = user.submit("-N", "2", "--retries", "1", "--", "bash", "-c", FAILS_FIRST)
    running(user, run_id, 2)
    with stopped(login, "slurmctld"):
        end(user, run_id)
        succeeded = ("grep", "-rl", '"cause":null', f"{user.home}/runs/{run_id}/records")
        until(lambda: len(user.login(*succeeded).stdout.split()) == 2, 150, "two that have ended well")
        assert user.hpcrun("status", run_id).returncode == 0, "nothing is left to ask"
    assert user.hpcrun("wait", "-q", run_id).returncode == 0
    assert [shard["attempts"] for shard in user.status(run_id)["shards"]] == [2, 2]


def test_slurmctld_hangs_while_somebody_looks(user: User) -> None:
    """Status is there all the same, within its deadline: what the records say, what it could not ask, and 69."""
    script = f"[ $HPCRUN_SHARD_INDEX = 0 ] || {{ {UNTIL_TOLD}; }}"
    run_id = user.submit("-N", "3", "--", "bash", "-c", script)
    until(lambda: user.status(run_id)["counts"] == {"succeeded": 1, "running": 2}, what="two that run")
    with frozen("slurmctld"):
        # What the queue said a second ago is believed still.
        asked = until(
            lambda: done if (done := user.hpcrun("status", run_id, timeout=60)).returncode else None, what="a failure"
        )
        end(user, run_id)
    assert (asked.returncode, asked.stderr) == (69, "")
    assert "note: the queue could not be asked: `squeue` failed" in asked.stdout
    assert "Socket timed out" in asked.stdout
    assert "succeeded  1  0" in asked.stdout
    assert user.hpcrun("wait", "-q", run_id).returncode == 0


@pytest.mark.full
def test_slurmctld_hangs_while_somebody_cancels(user: User, in_queue: Callable[[], str]) -> None:
    """They are told that Slurm does not know, and it holds all the same: nothing starts that had not started."""
    run_id = user.submit("-N", "4", "--max-parallel", "2", "--", "bash", "-c", UNTIL_TOLD)
    running(user, run_id, 2)
    with frozen("slurmctld"):
        as_json = until(
            lambda: done if (done := user.hpcrun("status", "--json", run_id, timeout=60)).returncode else None,
            what="a failure",
        )
        assert as_json.returncode == 69
        assert json.loads(as_json.stdout)["notes"]
        refused = user.hpcrun("submit", "--", "true", timeout=60)
        assert (refused.returncode, refused.stdout) == (69, "")
        cancelled = user.hpcrun("cancel", run_id, timeout=120)
        assert cancelled.returncode == 69
        assert "Traceback" not in as_json.stderr + refused.stderr + cancelled.stderr
        end(user, run_id)
        until(lambda: ended_by_records(user, run_id) == 2, what="the records of the two that ran")
    until(lambda: in_queue() == "", what="an empty queue")
    shards = user.status(run_id)["shards"]
    assert [(one["state"], one["attempts"]) for one in shards[2:]] == [("cancelled", 0)] * 2


AFTER_A_SIGN = """#!/bin/sh
touch reached
until [ -e go ]; do sleep 0.1; done
exec {sbatch} "$@"
"""


@pytest.mark.full
def test_slurmctld_goes_away_between_two_questions_of_a_submission(
    user: User, login: Login, in_queue: Callable[[], str]
) -> None:
    """It has answered for its limits and is away for sbatch: 69, and nobody is left in doubt; it can be cancelled."""
    sbatch = user.ok("bash", "-c", "command -v sbatch").strip()
    user.write("bin/sbatch", AFTER_A_SIGN.format(sbatch=sbatch))
    submit = 'chmod +x bin/sbatch; PATH="$PWD/bin:$PATH" setsid hpcrun submit -N 2 -- true >said 2>&1; echo $? >code'
    user.sh(f"({submit}) >/dev/null 2>&1 &")
    until(lambda: user.login("test", "-e", f"{user.folder}/reached").returncode == 0, what="sbatch")
    with stopped(login, "slurmctld"):
        user.ok("touch", f"{user.folder}/go")
        until(lambda: user.login("test", "-s", f"{user.folder}/code").returncode == 0, 120, "the end of submit")
        assert user.read(f"{user.folder}/code") == "69\n"
        said = user.read(f"{user.folder}/said")
        assert "Traceback" not in said
    left = user.sh('ls "$HPCRUN_HOME/runs"').stdout.split()
    for run_id in left:  # kept, because Slurm might have it: found out now that it can be asked
        assert run_id in said
        user.hpcrun("cancel", run_id)
        assert user.status(run_id)["counts"] == {"cancelled": 2}
    assert in_queue() == ""


def test_slurmdbd_crashes_while_a_run_goes_on(user: User, login: Login) -> None:
    """Nothing of a run depends on it, its retries included."""
    run_id = user.submit("-N", "2", "--retries", "1", "--", "bash", "-c", FAILS_FIRST)
    running(user, run_id, 2)
    crashed(login, "slurmdbd")
    end(user, run_id)
    assert user.hpcrun("wait", "-q", run_id).returncode == 0
    assert [shard["attempts"] for shard in user.status(run_id)["shards"]] == [2, 2]
    answers(login, "slurmdbd")
