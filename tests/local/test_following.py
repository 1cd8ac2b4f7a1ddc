"""What somebody sees who follows a run with retries: every attempt's output, each failure, the table at the end."""

from __future__ import annotations

from machine import Machine

FAILS_TWICE = 'echo "this is $HPCRUN_ATTEMPT"; exit $((HPCRUN_ATTEMPT < 2 ? 3 : 0))'


def test_a_single_programs_attempts(machine: Machine) -> None:
    """Its output is that of all its attempts, in order; on the side it is said how each of them ended."""
    done = machine.hpcrun("run", "--retries", "2", "--", "sh", "-c", FAILS_TWICE)
    assert done.returncode == 0
    assert done.stdout.decode() == "this is 0\nthis is 1\nthis is 2\n"
    said = done.stderr.decode()
    assert "shard 0: attempt 0 failed with exit code 3 on" in said
    assert "; tried again (2 of 2 retries used)" in said


def test_shards_that_fail(machine: Machine) -> None:
    """One line a failure, in words: the retries used, and where none is left; the table has every shard of a few."""
    script = 'echo x; [ "$HPCRUN_SHARD_INDEX" != 2 ] || kill -9 $$; [ "$HPCRUN_ATTEMPT" -ge "$HPCRUN_SHARD_INDEX" ]'
    done = machine.hpcrun("run", "-N", "3", "--retries", "1", "--", "sh", "-c", script)
    assert done.returncode == 3
    said = [line.split(" on ")[0].strip() + line.partition(";")[2] for line in done.stderr.decode().splitlines()]
    assert "shard 1: attempt 0 failed with exit code 1 tried again (1 of 1 retries used)" in said
    assert "shard 2: attempt 0 was killed by signal 9 tried again (1 of 1 retries used)" in said
    assert "shard 2: attempt 1 was killed by signal 9 none of 1 retries left" in said
    rows = [line.split()[:3] for line in done.stdout.decode().splitlines() if line[:1] in ("0", "1", "2")]
    assert rows == [["0", "succeeded", "1"], ["1", "succeeded", "2"], ["2", "failed", "2"]]


def test_many_failures_are_few_lines(machine: Machine) -> None:
    """Sixty shards that fail at once: some are told of one by one, the rest is counted; the table has twenty."""
    done = machine.hpcrun("run", "-N", "60", "--", "sh", "-c", "exit 4")
    assert done.returncode == 1
    lines = done.stderr.decode().splitlines()
    assert any(line.startswith("  shard ") and "failed with exit code 4" in line for line in lines)
    assert len(lines) < 80
    out = done.stdout.decode().splitlines()
    assert sum("failed" in line and line[:1].isdigit() for line in out) == 20
    assert any(line.strip().startswith("… and 40 more") for line in out)


def test_who_waits_is_told_of_what_is_new(machine: Machine) -> None:
    """Of a run that has ended `wait` repeats no failures, but shows the table."""
    run = machine.run("-N", "2", "--retries", "1", "--", "sh", "-c", "exit $HPCRUN_SHARD_INDEX", code=3)
    done = machine.hpcrun("wait", run.id)
    assert done.returncode == 3
    assert "attempt" not in done.stderr.decode()
    assert "1      failed     2" in done.stdout.decode()


def test_old_failures_are_told_once(machine: Machine) -> None:
    """Who follows a run that is tried again by hand is told how the new attempts end, and nothing of those before."""
    run = machine.run("-N", "2", "--retries", "1", "--", "sh", "-c", "exit 3", code=1)
    said = machine.hpcrun("retry", "-f", run.id).stderr.decode()
    told = sorted(line.split(" failed ")[0].strip() for line in said.splitlines() if " failed with " in line)
    assert told == [f"shard {shard}: attempt {attempt}" for shard in (0, 1) for attempt in (2, 3)]
