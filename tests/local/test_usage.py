"""What runs on this machine have used, by their own records."""

from __future__ import annotations

import json

from machine import Machine
from waiting import until


def test_attempts_that_failed_cost_too(machine: Machine) -> None:
    """The table has what succeeded, what was lost and why, and their sum; the units are the machine's."""
    script = 'sleep 0.2; test "$HPCRUN_ATTEMPT" = 1 -o "$HPCRUN_SHARD_INDEX" = 0'
    run = machine.run("-N", "3", "--retries", "1", "--machine", "nano", "--", "sh", "-c", script)
    said = machine.hpcrun("usage").stdout.decode()
    lines = [line.split() for line in said.splitlines()]
    assert lines[0] == ["run", run.id, "'sh'", "0.125", "units", "a", "shard"]
    assert [line[:2] for line in lines[2:5]] == [["succeeded", "3"], ["failed", "2"], ["in", "all"]]
    assert "lost in attempts that did not succeed: " in said
    assert "Slurm" not in said

    found = json.loads(machine.hpcrun("usage", "--json", run.id).stdout)
    assert (found["units"], found["attempts"], found["lost"]["attempts"], found["slurm"]) == (0.125, 5, 2, None)
    assert found["wall_seconds"] >= 5 * 0.2
    assert abs(found["compute_seconds"] - 0.125 * found["wall_seconds"]) < 0.01
    assert found["notes"] == []


def test_a_run_that_is_not_over(machine: Machine) -> None:
    """What runs counts until now."""
    run = machine.submit("-N", "2", "--max-parallel", "1", "--", "sleep", "1000")
    until(lambda: run.shards()[0].state == "running", what="a running shard")

    def running() -> float:
        found = json.loads(machine.hpcrun("usage", "--json").stdout)
        assert found["attempts"] == 1
        return float(found["outcomes"]["running"]["compute_seconds"])

    first = running()
    until(lambda: running() > first, what="more compute-seconds")
    run.cancel()
