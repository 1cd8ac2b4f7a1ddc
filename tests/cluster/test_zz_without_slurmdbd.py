"""A cluster without accounting, as smaller sites have it. The last file, for it makes the cluster anew and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from containers import Done, Login, User, up
from waiting import until

from hpcrun.slurm import Completed, Slurm


@pytest.fixture(scope="module", autouse=True)
def without_slurmdbd(login: Login) -> Iterator[None]:
    """Slurm keeps no accounting while this module's tests run."""
    up("--without-slurmdbd")
    yield
    up()


def forget(user: User, login: Login) -> None:
    """Have the queue forget every job that has ended, as it does by itself after five minutes (MinJobAge)."""
    shorter = "echo MinJobAge=2 >>/etc/slurm/slurm.conf && scontrol reconfigure"
    done = login("bash", "-c", shorter, user="root", node="slurmctld")
    assert done.returncode == 0, done.stderr
    gone = lambda: user.login("squeue", "--noheader", "--states=all", "--me").stdout == ""  # noqa: E731
    until(gone, 120, what="a queue that has forgotten them")


def test_there_is_no_accounting(login: Login) -> None:
    """hpcrun knows it from Slurm's configuration, and does not ask in vain."""
    slurm = Slurm({}, lambda argv, environ, deadline: completed(login(*argv, timeout=deadline)))
    assert slurm.limits().accounting is False


def completed(done: Done) -> Completed:
    return Completed(done.returncode, done.stdout, done.stderr)


def test_a_partial_run(user: User) -> None:
    """Exit codes, signals and the failed shard's log are there as soon as the run has ended."""
    script = 'case $HPCRUN_SHARD_INDEX in 1) echo "disk quota exceeded"; exit 9;; 2) kill -KILL $$;; esac'
    done = user.hpcrun("run", "-N", "4", "--", "bash", "-c", script)
    assert done.returncode == 3
    assert "succeeded  2  0,3" in done.stdout
    assert "  disk quota exceeded\n" in done.stdout
    assert "note:" not in done.stdout
    shards = user.status("last")["shards"]
    assert [(shard["exit_code"], shard["signal"]) for shard in shards] == [(0, 0), (9, 0), (None, 9), (0, 0)]


def test_scancel_of_elements(user: User, in_queue: Callable[[], str]) -> None:
    """A running and a waiting element that somebody cancels are cancelled; the others end well."""
    script = "if [ $HPCRUN_SHARD_INDEX -lt 2 ]; then exec sleep 1000; fi"
    run_id = user.submit("-N", "5", "--max-parallel", "2", "--", "bash", "-c", script)
    job = user.status(run_id)["jobs"][0]
    until(lambda: user.status(run_id)["counts"].get("running") == 2, what="two running shards")
    user.ok("scancel", f"{job}_4", f"{job}_0", f"{job}_1")
    assert user.hpcrun("wait", "-q", run_id).returncode == 3
    states = [shard["state"] for shard in user.status(run_id)["shards"]]
    assert states == ["cancelled", "cancelled", "succeeded", "succeeded", "cancelled"]
    assert in_queue() == ""


def test_cancel(user: User, in_queue: Callable[[], str]) -> None:
    """All of the run is cancelled, what waits as what runs."""
    run_id = user.submit("-N", "120", "--max-parallel", "4", "--", "sleep", "1000")
    until(lambda: user.status(run_id)["counts"].get("running") == 4, what="four running shards")
    assert user.hpcrun("cancel", run_id).returncode == 0
    until(lambda: in_queue() == "", what="an empty queue")
    assert user.hpcrun("wait", "-q", run_id).returncode == 130
    assert user.status(run_id)["counts"] == {"cancelled": 120}


def test_runs_that_the_queue_has_forgotten(user: User, login: Login) -> None:
    """What is known of a run is in its folder: it stays when Slurm has forgotten the job."""
    good = user.submit("-N", "3", "--", "bash", "-c", "exit $HPCRUN_SHARD_INDEX")
    assert user.hpcrun("wait", "-q", good).returncode == 3
    before = user.status(good)
    killed = user.submit("--", "bash", "-c", "kill -KILL $PPID; sleep 1000")
    until(lambda: user.status(killed)["status"] == "failed", what="the end of the one whose supervisor was killed")
    forget(user, login)
    after = user.status(good)
    assert {**after, "asked": 0} == {**before, "asked": 0}
    assert user.status(killed)["shards"][0]["cause"] == "lost"
    assert user.hpcrun("status", killed).returncode == 0
    listed = json.loads(user.hpcrun("list", "--json").stdout)
    assert {row["run_id"]: row["status"] for row in listed} == {good: "partial", killed: "failed"}
