"""Retries on the real cluster: by Slurm's requeue of the one element, in place, and by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from containers import User
from waiting import until

UNTIL_END = 'until [ -e "$HPCRUN_RESULTS_DIR/end" ]; do sleep 0.1; done; '


def attempts(status: dict[str, Any]) -> list[tuple[str, int, int | None]]:
    """State, attempts and exit code of each shard."""
    return [(shard["state"], shard["attempts"], shard["exit_code"]) for shard in status["shards"]]


def test_only_the_element_that_failed_runs_again(user: User, in_queue: Callable[[], str]) -> None:
    """Shard 1 fails twice and shard 2 always; the others run once, under the array they were submitted in."""
    code = 'echo "$HPCRUN_ATTEMPT"; exit $((HPCRUN_SHARD_INDEX == 2 || HPCRUN_SHARD_INDEX == 1 && HPCRUN_ATTEMPT < 2))'
    done = user.hpcrun("run", "-N", "4", "--retries", "2", "--", "bash", "-c", code)
    assert done.returncode == 3, done.stderr
    status = user.status("last")
    assert attempts(status) == [("succeeded", 1, 0), ("succeeded", 3, 0), ("failed", 3, 1), ("succeeded", 1, 0)]
    assert len(status["jobs"]) == 1
    assert [user.hpcrun("logs", "last", "--shard", "1", "--attempt", str(n)).stdout for n in range(3)] == [
        "0\n", "1\n", "2\n"
    ]  # fmt: skip
    assert in_queue() == ""


def test_in_place(user: User) -> None:
    """All attempts run in one allocation, on one node, without Slurm's wait; nobody follows."""
    run_id = user.submit(
        "-N", "2", "--retries", "2", "--retry", "in_place", "--", "bash", "-c", "echo $SLURM_JOB_ID; exit 5"
    )
    status = until(lambda: found if (found := user.status(run_id))["status"] == "failed" else {}, what="the end")
    assert attempts(status) == [("failed", 3, 5)] * 2
    jobs = {user.hpcrun("logs", run_id, "--shard", "0", "--attempt", str(n)).stdout for n in range(3)}
    assert len(jobs) == 1
    assert user.ok("sacct", "-nXP", "--duplicates", f"--jobs={status['jobs'][0]}_0", "--format=State").split() == [
        "FAILED"
    ]


def test_an_end_from_outside_is_one(user: User, in_queue: Callable[[], str]) -> None:
    """A bare scancel of an element whose program exits with 143 ends it for good, whatever its budget; its neighbour
    is requeued by its owner, runs again, and has lost none of its own retries.
    """
    stubborn = 'trap "exit 143" TERM; ' + UNTIL_END + "exit $((HPCRUN_ATTEMPT < 2))"
    run_id = user.submit("-N", "2", "--retries", "1", "--", "bash", "-c", stubborn)
    running = until(
        lambda: found if (found := user.status(run_id))["counts"].get("running") == 2 else {}, 60, "both to run"
    )
    job = running["jobs"][0]
    user.ok("scancel", f"{job}_0")
    user.ok("scontrol", "requeue", f"{job}_1")
    user.end(run_id)
    done = user.hpcrun("wait", run_id)
    status = user.status(run_id)
    assert attempts(status) == [("cancelled", 1, 143), ("succeeded", 3, 0)], done.stdout
    assert in_queue() == ""


def test_too_many_failures_stop_a_run_that_nobody_follows(user: User, in_queue: Callable[[], str]) -> None:
    """The third failure is one too many: what runs is ended, what waits leaves the queue."""
    code = '[ "$HPCRUN_SHARD_INDEX" -lt 3 ] || exec sleep 1000'
    run_id = user.submit("-N", "30", "--max-failed-indexes", "2", "--", "bash", "-c", f"{code}; exit 1")
    status = until(lambda: found if (found := user.status(run_id))["status"] == "failed" else {}, what="the end")
    assert (status["counts"], status["failedIndexes"]) == ({"failed": 3, "cancelled": 27}, "0-29")
    assert status["stopped"] == "3 shards have failed for good, and max_failed_indexes is 2"
    until(lambda: in_queue() == "", what="an empty queue")
    assert user.left(run_id) == ""


def test_the_time_of_a_run_that_nobody_follows(user: User, in_queue: Callable[[], str]) -> None:
    """At run_timeout what runs is ended and what waits does not start; the status is that of timeouts."""
    run_id = user.submit("-N", "20", "--max-parallel", "2", "--run-timeout", "3s", "--", "sleep", "1000")
    status = until(lambda: found if (found := user.status(run_id))["status"] == "timed_out" else {}, what="the end")
    assert status["counts"] == {"timed_out": 20}
    until(lambda: in_queue() == "", what="an empty queue")
    assert user.left(run_id) == ""


def test_again_by_hand(user: User, in_queue: Callable[[], str]) -> None:
    """The same run goes on with just the shards that failed, as an array of their indices, and with fresh budgets."""
    code = (
        'echo "$HPCRUN_SHARD_COUNT"; '
        '[ -e "$HPCRUN_RESULTS_DIR/end" ] || exit $((HPCRUN_SHARD_INDEX == 3 || HPCRUN_SHARD_INDEX == 17))'
    )
    first = user.hpcrun("run", "-N", "20", "--", "bash", "-c", code)
    assert first.returncode == 3, first.stderr
    before = user.status("last")
    refused = user.hpcrun("retry", "last", "2,3")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("hpcrun: error: shard 2 of run")
    one = user.hpcrun("retry", "last", "3")
    assert one.stdout == f"run {before['run_id']}: shard 3 is tried again\n"
    assert user.hpcrun("wait", "-q").returncode == 3
    user.end(before["run_id"])
    done = user.hpcrun("retry", "last", "-f")
    assert done.returncode == 0, done.stderr
    after = user.status("last")
    assert after["run_id"] == before["run_id"]
    assert [shard["attempts"] for shard in after["shards"]] == [3 if i == 3 else 2 if i == 17 else 1 for i in range(20)]
    assert user.hpcrun("logs", "last", "--shard", "17").stdout == "20\n"
    nothing = user.hpcrun("retry", "last")
    assert (nothing.returncode, nothing.stderr) == (
        2, f"hpcrun: error: run {before['run_id']} has no shard that has failed\n"
    )  # fmt: skip
    assert in_queue() == ""


def test_a_cancelled_run_again_by_hand(user: User) -> None:
    """Cancel is not for ever: what it ended may be taken up again."""
    run_id = user.submit("-N", "3", "--max-parallel", "1", "--", "bash", "-c", UNTIL_END)
    until(lambda: user.status(run_id)["counts"].get("running"), what="a shard to run")
    assert user.hpcrun("cancel", run_id).returncode == 0
    until(lambda: user.status(run_id)["status"] == "cancelled", what="the end")
    user.end(run_id)
    done = user.hpcrun("retry", run_id, "-f")
    assert done.returncode == 0, done.stderr
    assert user.status(run_id)["counts"] == {"succeeded": 3}


def test_a_gang_again(user: User) -> None:
    """A job with workers is requeued whole, workers and all; by hand too."""
    spec = {
        "script": '[ "$HPCRUN_ATTEMPT" -ge 1 ] && [ -e "$HPCRUN_RESULTS_DIR/end" ]',
        "retries": 1,
        "worker": {
            "command": ["bash", "-c", 'echo "$HPCRUN_ATTEMPT"; exec python3 -m http.server "$HPCRUN_PORT_WEB"'],
            "endpoints": {"web": "auto"},
            "replicas": 2,
        },
    }
    run_id = user.submit_spec(spec)
    assert user.hpcrun("wait", "-q", run_id).returncode == 1
    assert attempts(user.status(run_id)) == [("failed", 2, 1)]
    user.end(run_id)
    assert user.hpcrun("retry", run_id, "-f").returncode == 0
    assert attempts(user.status(run_id)) == [("succeeded", 3, 0)]
    logs = [user.hpcrun("logs", run_id, "--role", "worker", "--replica", "1", "--attempt", str(n)) for n in range(3)]
    assert [log.stdout.splitlines()[0] for log in logs] == ["0", "1", "2"]
