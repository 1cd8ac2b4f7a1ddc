"""Runs that wait for runs, on this machine: their supervisors wait for each other, with nobody watching."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from machine import Machine, ended, number_in
from waiting import until

from hpcrun import Run

HOLD = 'echo $$ >"$HPCRUN_RESULTS_DIR/up"; until [ -e "$HPCRUN_RESULTS_DIR/enough" ]; do sleep 0.02; done; '


def held(machine: Machine, *options: str, then: str = "exit 0") -> Run:
    """A run that goes on until it is let go, and ends with `then`."""
    return machine.submit(*options, "--", "bash", "-c", HOLD + then)


def let_go(run: Run) -> None:
    Path(run.dir.results, "enough").touch()


def supervisor(run: Run) -> int:
    return int(run.status().jobs[0].partition("-")[2])


@pytest.mark.parametrize(
    ("end", "starting"),
    [
        ("exit 0", {"--after", "--after-success"}),
        ("exit 7", {"--after", "--after-fail"}),
        ("exit $HPCRUN_SHARD_INDEX", {"--after", "--after-fail"}),
    ],
)
def test_who_starts_when_a_run_has_ended(machine: Machine, end: str, starting: set[str]) -> None:
    """Success, failure and a part of both: who was to wait for that starts, the others fail and say why."""
    first = held(machine, "-N", "2", then=end)
    waiting = {
        option: machine.submit(option, first.id, "--", "bash", "-c", "exit 0")
        for option in ("--after", "--after-success", "--after-fail")
    }
    assert {run.status().state for run in waiting.values()} == {"pending"}
    let_go(first)
    assert {option for option, run in waiting.items() if ended(run).state == "succeeded"} == starting
    for option, run in waiting.items():
        if option not in starting:
            status = run.status()
            assert (status.state, status.shards[0].attempts, status.exit_code()) == ("failed", 0, 1)
            assert status.shards[0].detail.startswith(f"run {first.id} has ")
            assert "this run was to start only after its" in machine.hpcrun("status", run.id).stdout.decode()


def test_a_waiting_run_says_for_what(machine: Machine) -> None:
    """Status names the runs; all of them have to have ended."""
    first, second = held(machine), held(machine)
    run = machine.submit("--after", first.id, "--after-success", f"{second.id},{second.id}", "--", "true")
    said = f"after run {first.id} ends, run {second.id} succeeds"
    assert run.status().shards[0].detail == said
    assert said in machine.hpcrun("status", run.id).stdout.decode()
    let_go(first)
    ended(first)
    assert run.status().state == "pending"
    let_go(second)
    assert ended(run).state == "succeeded"


def test_a_cancel_is_handed_down(machine: Machine) -> None:
    """Of a chain whose first run is cancelled nothing else runs, whatever it was to start after."""
    first = held(machine)
    second = machine.submit("--after", first.id, "--", "true")
    third = machine.submit("--after-fail", second.id, "--", "true")
    machine.hpcrun("cancel", first.id)
    for run in (first, second, third):
        assert ended(run).state == "cancelled"
    assert [run.shards()[0].attempts for run in (second, third)] == [0, 0]
    assert f"run {first.id} was cancelled" in second.shards()[0].detail
    assert machine.hpcrun("wait", "-q", third.id).returncode == 130


def test_a_run_that_did_not_start_counts_as_failed(machine: Machine) -> None:
    """What was to start after its failure, or its end, does."""
    first = held(machine, then="exit 1")
    second = machine.submit("--after-success", first.id, "--", "true")
    third = machine.submit("--after-fail", second.id, "--", "true")
    fourth = machine.submit("--after-success", second.id, "--", "true")
    let_go(first)
    assert [ended(run).state for run in (second, third, fourth)] == ["failed", "succeeded", "failed"]


def test_a_waiting_run_can_be_cancelled(machine: Machine) -> None:
    """At once, with the run that it waits for left alone, and nothing left behind."""
    first = held(machine)
    run = machine.submit("--after", first.id, "-N", "3", "--", "true")
    machine.hpcrun("cancel", run.id)
    assert ended(run).counts() == {"cancelled": 3}
    until(lambda: not [p for p in machine.processes() if run.dir.path in _command(p)], what="the end of its processes")
    assert first.status().state == "running"


def test_a_killed_supervisor_leaves_nobody_waiting(machine: Machine) -> None:
    """Who waits for it ends, too; and the run says that it was lost."""
    first = held(machine)
    run = machine.submit("--after", first.id, "--", "true")
    until(lambda: run.status().shards[0].detail.startswith("after run"), what="the wait")
    os.kill(supervisor(run), signal.SIGKILL)
    until(lambda: not [p for p in machine.processes() if run.dir.path in _command(p)], what="the end of its processes")
    assert ended(run).state == "failed"


def test_the_killed_supervisor_of_the_first(machine: Machine) -> None:
    """It is an end as any other: the run has failed."""
    first = held(machine)
    number_in(first, "up")
    run = machine.submit("--after-fail", first.id, "--", "true")
    os.kill(supervisor(first), signal.SIGKILL)
    assert ended(run).state == "succeeded"
    assert first.status().state == "failed"


def test_a_run_that_has_ended_is_judged_at_once(machine: Machine) -> None:
    """As wanted: nothing is waited for. Otherwise: exit code 2, and there is no run."""
    first = machine.run("true")
    run = machine.submit("--after-success", "last", "--", "true")
    assert run.plan.upstream == ()
    assert ended(run).state == "succeeded"
    refused = machine.hpcrun("submit", "--after-fail", first.id, "--", "true")
    assert refused.returncode == 2
    assert refused.stderr.decode() == (
        f"hpcrun: error: --after-fail: run {first.id} has succeeded; this run was to start only after its failure. "
        "Nothing was submitted\n"
    )
    assert len(os.listdir(machine.home / "runs")) == 2


def test_retried_by_hand_it_waits_for_nobody(machine: Machine) -> None:
    """Whoever asks for a run that was not let start gets it."""
    first = held(machine, then="exit 1")
    run = machine.submit("--after-success", first.id, "--", "true")
    let_go(first)
    assert ended(run).state == "failed"
    assert machine.hpcrun("retry", run.id).returncode == 0
    until(lambda: run.status().state == "succeeded", what="the end of the retry")


def test_from_python(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is named by its handle, its id, or several in a list."""
    import hpcrun

    for name, value in machine.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(machine.cwd)
    first = hpcrun.submit(["bash", "-c", HOLD])
    second = hpcrun.submit(["true"], after_success=first)
    third = hpcrun.submit(["true"], after=[first, second.id])
    assert [one.run_id for one in third.plan.upstream] == [first.id, second.id]
    let_go(first)
    assert third.wait(20).state == "succeeded"


def _command(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""
