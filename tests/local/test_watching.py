"""Looking at a run: logs, status, list and wait, while it runs and after."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from machine import HPCRUN, Machine, ended, text_of
from waiting import until

WAIT = """
echo begun
echo up >"$HPCRUN_RESULTS_DIR/up.$HPCRUN_SHARD_INDEX"
while [ ! -e "$HPCRUN_RESULTS_DIR/go" ]; do sleep 0.02; done
printf over
"""


def test_logs_of_all_shards(machine: Machine) -> None:
    """Lines begin with their shard; an unfinished last line is shown too."""
    machine.run("-N", "2", "--", "sh", "-c", 'echo a; printf "b$HPCRUN_SHARD_INDEX"')
    out = machine.hpcrun("logs", "last").stdout.decode()
    assert out.startswith("[0] a\n[0] b0")
    assert "[1] a\n[1] b1" in out
    assert machine.hpcrun("logs", "last", "--shard", "1").stdout == b"a\nb1"


def test_the_tail_of_a_log(machine: Machine) -> None:
    """The last lines, none, and more than there are."""
    machine.run("seq", "100")
    assert machine.hpcrun("logs", "last", "--tail", "2").stdout == b"99\n100\n"
    assert machine.hpcrun("logs", "last", "--tail", "0").stdout == b""
    assert len(machine.hpcrun("logs", "last", "--tail", "1000").stdout.splitlines()) == 100


def test_a_progress_bar_is_one_line(machine: Machine) -> None:
    """A status quotes what a terminal would show of it, and not each of its steps."""
    bar = r'for i in $(seq 500); do printf "\r%s/500" $i >&2; done; echo >&2; echo killed >&2; exit 1'
    machine.run("sh", "-c", f"echo begun; {bar}", code=1)
    assert machine.hpcrun("status").stdout.decode().endswith("  begun\n  500/500\n  killed\n")


def test_garbage_in_a_log(machine: Machine) -> None:
    """Bytes that are no text hinder nothing, and the log file has them as they were."""
    run = machine.run("printf", r"\377\376\000x\r\n")
    assert b"x\r\n" in machine.hpcrun("logs", "last").stdout
    assert Path(run.log_paths(0)[0]).read_bytes() == b"\xff\xfe\0x\r\n"


def test_standard_error_apart(machine: Machine) -> None:
    """On request two files; `logs` shows both."""
    run = machine.run("--stderr", "separate", "--", "sh", "-c", "echo out; echo err >&2")
    assert [Path(path).read_text() for path in run.log_paths(0)] == ["out\n", "err\n"]
    assert machine.hpcrun("logs", "last").stdout == b"out\nerr\n"


def test_readers_that_have_enough(machine: Machine) -> None:
    """`hpcrun logs | head` ends without a word."""
    machine.run("seq", "200000")
    done = machine.command("bash", "-c", f'"{HPCRUN}" logs last | head -1')
    assert (done.stdout, done.stderr) == (b"1\n", b"")


def test_followers_end_with_the_run(machine: Machine) -> None:
    """Two followers of the logs, one of the run: each sees everything and ends when the run has."""
    run = machine.submit("sh", "-c", WAIT)
    until(lambda: text_of(run, "up.0"))
    commands = (["logs", run.id, "-f"], ["logs", run.id, "-f"], ["wait", run.id])
    followers = [machine.start(HPCRUN, *command) for command in commands]
    Path(run.dir.results, "go").touch()
    said = [follower.communicate(timeout=20) for follower in followers]
    assert [follower.returncode for follower in followers] == [0, 0, 0]
    assert [out for out, _ in said[:2]] == [b"begun\nover"] * 2


def test_status_of_a_run_that_runs(machine: Machine) -> None:
    """What runs and what waits, in the documented fields."""
    run = machine.submit("-N", "3", "--max-parallel", "1", "--", "sh", "-c", WAIT)
    until(lambda: text_of(run, "up.0"))
    status = machine.json("status", run.id, "--json")
    assert (status["status"], status["counts"]) == ("running", {"pending": 2, "running": 1})
    assert "pending  2  1,2" in machine.hpcrun("status", run.id).stdout.decode()
    assert [row["status"] for row in machine.json("list", "--json")] == ["running"]
    Path(run.dir.results, "go").touch()
    ended(run)
    status = machine.json("wait", run.id, "--json")
    assert status["completedIndexes"] == "0-2"
    fields = {
        "run_id",
        "name",
        "status",
        "counts",
        "completedIndexes",
        "failedIndexes",
        "jobs",
        "created",
        "notes",
        "shards",
    }
    assert fields <= set(status)
    shard = status["shards"][2]
    assert (shard["index"], shard["state"], shard["exit_code"], shard["attempts"]) == (2, "succeeded", 0, 1)
    assert shard["started"] <= shard["ended"]


def test_status_of_a_run_that_failed(machine: Machine) -> None:
    """The failing index, its code and the last lines that it wrote."""
    run = machine.run(
        "-N", "3", "--", "sh", "-c", 'echo "part $HPCRUN_SHARD_INDEX"; exit $((HPCRUN_SHARD_INDEX == 1))', code=3
    )
    out = machine.hpcrun("status", run.id).stdout.decode()
    assert "partial" in out
    assert "part 1" in out
    assert machine.json("status", run.id, "--json")["failedIndexes"] == "1"


@pytest.mark.parametrize("command", ["status", "wait", "cancel", "logs"])
def test_a_run_that_is_not_there(machine: Machine, command: str) -> None:
    """One line of error, exit code 2; also for `last` where nothing has run."""
    for name in ("nothere", "last"):
        done = machine.hpcrun(command, name)
        assert done.returncode == 2
        assert f"no run '{name}'" in done.stderr.decode()


def test_a_list_of_nothing(machine: Machine) -> None:
    """No runs are an empty list, not an error."""
    assert machine.json("list", "--json") == []
    assert machine.hpcrun("list").returncode == 0


def test_run_as_json(machine: Machine) -> None:
    """`run --json` prints the last status and nothing else."""
    done = machine.hpcrun("run", "--json", "-N", "2", "--", "echo", "x")
    assert json.loads(done.stdout)["status"] == "succeeded"
