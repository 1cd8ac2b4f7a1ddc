"""Runs that wait for runs on the real cluster: by their finalisers, with nobody following."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from containers import MAX_ARRAY_SIZE, User
from waiting import until

from hpcrun.states import TERMINAL

HOLD = 'until [ -e "$HPCRUN_RESULTS_DIR/end" ]; do sleep 0.1; done; '


def held(user: User, *options: str, then: str = "exit 0") -> str:
    """A run that goes on until it is told to end, and ends with `then`."""
    return user.submit(*options, "--", "bash", "-c", HOLD + then)


def after(user: User, option: str, run_id: str, *more: str) -> str:
    return user.submit(option, run_id, *more, "--", "date", "+%s.%N")


def ended(user: User, run_id: str) -> dict[str, Any]:
    """The status of a run once it has ended; nobody follows it."""
    return until(lambda: found if (found := user.status(run_id))["status"] in TERMINAL else {}, 90, f"{run_id}'s end")


def finalisers(user: User, run_id: str) -> list[str]:
    """The ids of the finalisers of a run in the queue."""
    return user.ok("squeue", "--noheader", "--me", f"--name=finish-{run_id}", "--format=%i").split()


def started(status: dict[str, Any]) -> list[int]:
    """How many attempts each shard has begun."""
    return [shard["attempts"] for shard in status["shards"]]


def test_after_a_retry(user: User, in_queue: Callable[[], str]) -> None:
    """A shard that fails and is requeued keeps others waiting until its last attempt has ended, and it is a success."""
    first = held(user, "-N", "3", "--retries", "1", then="[ $HPCRUN_SHARD_INDEX$HPCRUN_ATTEMPT != 10 ]")
    second = after(user, "--after-success", first)
    waiting = user.status(second)
    assert (waiting["status"], waiting["shards"][0]["detail"]) == ("pending", f"after run {first} succeeds")
    user.end(first)
    assert user.hpcrun("wait", "-q", first).returncode == 0  # who follows need not wait for two minutes
    status = user.status(first)
    assert started(status) == [1, 2, 1]
    then = ended(user, second)
    assert then["status"] == "succeeded"
    assert then["shards"][0]["started"] > max(shard["ended"] for shard in status["shards"])
    assert in_queue() == ""


def test_after_a_failure(user: User, in_queue: Callable[[], str]) -> None:
    """Who was to start after a success leaves the queue and says why; who was to start after a failure does."""
    first = held(user, "-N", "3", then="exit $HPCRUN_SHARD_INDEX")
    good, bad, any_end = (after(user, f"--after{kind}", first, "-N", "2") for kind in ("-success", "-fail", ""))
    chained = after(user, "--after-fail", good)
    (finaliser,) = finalisers(user, first)
    user.end(first)
    assert [ended(user, run_id)["status"] for run_id in (bad, any_end, chained)] == ["succeeded"] * 3
    status = ended(user, good)
    said = f"run {first} has succeeded only in part; this run was to start only after its success"
    assert (status["status"], started(status)) == ("failed", [0, 0])
    assert [shard["detail"] for shard in status["shards"]] == [said, said]
    waited = user.hpcrun("wait", good)
    assert (waited.returncode, said in waited.stdout) == (1, True)
    until(lambda: in_queue() == "", what="an empty queue")
    outcome = json.loads(user.read(f"{user.home}/runs/{first}/outcome.json"))
    assert (outcome["state"], outcome["failedIndexes"]) == ("partial", "1,2")
    shown = user.ok("scontrol", "--oneliner", "show", "job", finaliser)
    assert (" ExitCode=3:0 " in shown, outcome["exit_code"]) == (True, 3)
    refused = user.hpcrun("submit", "--after-success", first, "true")
    assert (refused.returncode, said in refused.stderr) == (2, True)


def test_a_cancel_is_handed_down(user: User, in_queue: Callable[[], str]) -> None:
    """Of a chain whose first run is cancelled nothing else runs, and nothing is left in the queue."""
    first = held(user)
    second = after(user, "--after", first, "-N", "3")
    third = after(user, "--after-fail", second)
    until(lambda: user.status(first)["status"] == "running", what="the first run")
    assert user.hpcrun("cancel", first).returncode == 0
    until(lambda: in_queue() == "", what="an empty queue")
    for run_id, before in ((second, first), (third, second)):
        status = user.status(run_id)
        assert status["status"] == "cancelled"
        assert set(started(status)) == {0}
        assert f"run {before} was cancelled" in status["shards"][0]["detail"]
        assert user.hpcrun("wait", "-q", run_id).returncode == 130


def test_two_at_once_share_a_finaliser(user: User) -> None:
    """Whoever of them comes first; and each starts when the run has ended."""
    first = held(user)
    with ThreadPoolExecutor() as threads:
        waiting = list(threads.map(lambda _: after(user, "--after", first), range(4)))
    assert len(finalisers(user, first)) == 1
    user.end(first)
    assert [ended(user, run_id)["status"] for run_id in waiting] == ["succeeded"] * 4


def test_after_several_arrays(user: User) -> None:
    """A run of more shards than an array holds is at its end when all its arrays are."""
    script = f"[ $HPCRUN_SHARD_INDEX != {MAX_ARRAY_SIZE} ] || {{ {HOLD}:; }}"
    first = user.submit("-N", str(MAX_ARRAY_SIZE + 1), "--", "bash", "-c", script)
    second = after(user, "--after-success", first)
    assert len(user.status(first)["jobs"]) == 2
    until(lambda: user.status(first)["counts"] == {"succeeded": MAX_ARRAY_SIZE, "running": 1}, 120, "one array's end")
    assert user.status(second)["status"] == "pending"
    user.end(first)
    assert ended(user, second)["status"] == "succeeded"


def test_no_promise_rests_on_the_finaliser(user: User, in_queue: Callable[[], str]) -> None:
    """Where somebody cancels it, who waits for it does not start before the end, and says so."""
    first = held(user)
    second = after(user, "--after", first, "-N", "2")
    (finaliser,) = finalisers(user, first)
    user.ok("scancel", finaliser)
    status = ended(user, second)
    assert status["status"] == "failed"
    assert status["shards"][1]["detail"].startswith(f"run {first} is running and nobody waits for its end any more")
    assert user.hpcrun("logs", second).stdout == ""
    third = after(user, "--after", first)
    user.end(first)
    assert ended(user, third)["status"] == "succeeded"
    assert user.hpcrun("retry", second).returncode == 0
    until(lambda: user.status(second)["status"] == "succeeded", what="the run that was tried again")
    until(lambda: in_queue() == "", what="an empty queue")


def test_what_was_lost_runs_again_before_others_start(user: User) -> None:
    """The finaliser starts again what ended without a word, and waits for it."""
    script = f'if [ $HPCRUN_ATTEMPT = 0 ]; then ps -o ppid= -p $$ >"$HPCRUN_RESULTS_DIR/up"; {HOLD} fi'
    first = user.submit("--", "bash", "-c", script)
    second = after(user, "--after-success", first)
    results = f"{user.home}/runs/{first}/results"
    supervisor = until(lambda: user.login("cat", f"{results}/up").stdout.strip(), what="the program")
    user.ok("kill", "-KILL", supervisor, node=user.status(first)["shards"][0]["node"])
    assert ended(user, second)["status"] == "succeeded"
    assert started(user.status(first)) == [2]
