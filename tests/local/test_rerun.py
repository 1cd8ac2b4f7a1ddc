"""hpcrun retry on this machine."""

from __future__ import annotations

from machine import Machine, ended
from waiting import until

FAILS = '[ -e "$HPCRUN_RESULTS_DIR/good" ] || exit $((HPCRUN_SHARD_INDEX % 2))'


def good(machine: Machine) -> None:
    """From now on the programs of the last run succeed."""
    (machine.home / "runs" / machine.open("last").id / "results" / "good").touch()


def test_all_that_failed(machine: Machine) -> None:
    """They are tried again in the same run, and only they."""
    run = machine.run("-N", "5", "--", "bash", "-c", FAILS, code=3)
    assert [shard.attempts for shard in run.shards()] == [1] * 5
    again = machine.hpcrun("retry", "last")
    assert again.stdout.decode() == f"run {run.id}: 2 shards (1,3) are tried again\n"
    assert machine.hpcrun("wait", "-q").returncode == 3
    good(machine)
    assert machine.hpcrun("retry", run.id, "3", "-f").returncode == 3
    assert machine.hpcrun("retry", run.id, "failed", "-f").returncode == 0
    after = machine.open(run.id)
    assert [shard.attempts for shard in after.shards()] == [1, 3, 1, 3, 1]
    assert after.status().state == "succeeded"


def test_budgets_are_fresh(machine: Machine) -> None:
    """What earlier rounds used up is forgotten."""
    run = machine.run("--retries", "1", "--", "bash", "-c", "exit 7", code=7)
    assert machine.hpcrun("retry", "last", "-f").returncode == 7
    assert machine.open(run.id).shards()[0].attempts == 4


def test_what_is_refused(machine: Machine) -> None:
    """Each with what was found and what was wanted, exit code 2, and nothing started."""
    run = machine.run("-N", "3", "--", "bash", "-c", FAILS, code=3)
    said = {
        asked: machine.hpcrun("retry", "last", asked) for asked in ("0", "3", "1-", "all")
    }  # fmt: skip
    assert {asked: done.returncode for asked, done in said.items()} == dict.fromkeys(said, 2)
    assert said["0"].stderr.decode() == (
        f"hpcrun: error: shard 0 of run {run.id} has succeeded; wanted shards that have not, such as `failed`. "
        "To do it once more, submit a new run\n"
    )
    assert said["3"].stderr.decode() == "hpcrun: error: found shard 3, wanted 0 to 2\n"
    assert all(shard.attempts == 1 for shard in machine.open(run.id).shards())


def test_a_run_that_goes_on(machine: Machine) -> None:
    """Its machine is busy with it; the message says what to do."""
    run = machine.submit(
        "-N", "2", "--cpus", "1", "--", "bash", "-c", "[ $HPCRUN_SHARD_INDEX = 0 ] || exec sleep 1000; exit 1"
    )
    until(lambda: run.status().counts().get("failed") == 1, what="one to fail")
    done = machine.hpcrun("retry", run.id)
    assert (done.returncode, done.stderr.decode()) == (
        2,
        f"hpcrun: error: run {run.id} still goes on on this machine; wait for its end (hpcrun wait {run.id})\n",
    )
    run.cancel()
    ended(run)


def test_after_a_cancel(machine: Machine) -> None:
    """What a cancel ended may be taken up again."""
    run = machine.submit("-N", "2", "--", "bash", "-c", '[ -e "$HPCRUN_RESULTS_DIR/good" ] || exec sleep 1000')
    until(lambda: run.status().counts().get("running"), what="a shard to run")
    run.cancel()
    ended(run)
    good(machine)
    assert machine.hpcrun("retry", run.id, "-f").returncode == 0


def test_too_many_failures_count_anew(machine: Machine) -> None:
    """The shards that are tried again count as failed no more."""
    run = machine.run("-N", "4", "--max-failed-indexes", "1", "--", "bash", "-c", FAILS, code=3)
    assert machine.open(run.id).status().stopped.startswith("2 shards have failed for good")
    good(machine)
    assert machine.hpcrun("retry", run.id, "-f").returncode == 0
    assert machine.open(run.id).status().stopped == ""
