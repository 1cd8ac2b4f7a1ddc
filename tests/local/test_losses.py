"""What is lost on this machine, and what must not be lost with it: supervisors, files, disks, records."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from machine import HPCRUN, Machine, alive, ended, gone, number_in
from waiting import until

from hpcrun import Run, ledger
from hpcrun.cli import main

STAYS = 'echo $PPID >"$HPCRUN_RESULTS_DIR/supervisor.$HPCRUN_SHARD_INDEX"; exec sleep 1000'
WAITS = '[ -e "$HPCRUN_RESULTS_DIR/good" ] || exec sleep 1000'

STRANGER = """
import ctypes, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
subprocess.run(sys.argv[1:], check=True)
sys.stdin.read()
"""
"""A process that adopts what is left behind below it, as a user's systemd does."""


def good(run: Run) -> None:
    """From now on the programs of a run succeed."""
    Path(run.dir.results, "good").touch()


def supervisor_of(run: Run) -> int:
    return int(Path(run.dir.local_lock).read_text().split()[0])


def causes(run: Run, shard: int = 0) -> list[str | None]:
    return [entry.cause for entry in ledger.read(run.dir, shard)]


# Supervisors.


def test_whoever_adopts_a_shard_is_left_alone(machine: Machine) -> None:
    """A run whose supervisor was killed loses its shards, one more than it allows: no stranger is ended for that."""
    argv = [HPCRUN, "submit", "-N", "2", "--max-failed-indexes", "0", "--", "bash", "-c", STAYS]
    with machine.start(sys.executable, "-c", STRANGER, *argv, stdin=subprocess.PIPE) as stranger:
        run = until(machine.newest, what="the run")
        supervisors = [number_in(run, f"supervisor.{shard}") for shard in range(2)]
        os.kill(supervisor_of(run), signal.SIGKILL)
        gone(*supervisors)
        assert alive(stranger.pid)
        assert [shard.state for shard in ended(run).shards] == ["failed"] * 2
        stranger.communicate(timeout=20)
    assert stranger.returncode == 0


def test_a_supervisor_is_killed_in_a_pause(machine: Machine) -> None:
    """That of the shard, between two attempts: the next one is made all the same."""
    script = 'echo $PPID >"$HPCRUN_RESULTS_DIR/supervisor.$HPCRUN_ATTEMPT"; exit $((HPCRUN_ATTEMPT == 0))'
    run = machine.submit("--retries", "1", "--backoff", "3s", "--", "bash", "-c", script)
    until(lambda: causes(run) == ["failed"], what="the end of the first attempt")
    os.kill(number_in(run, "supervisor.0"), signal.SIGKILL)
    (shard,) = ended(run).shards
    assert (shard.state, shard.attempts) == ("succeeded", 2)
    assert causes(run) == ["failed", None]


def test_a_supervisor_is_killed_and_its_record_cannot_be_written(machine: Machine) -> None:
    """The others run: the run's own supervisor does not end with it."""
    script = f"if [ $HPCRUN_SHARD_INDEX = 0 ]; then {STAYS}; fi"
    run = machine.submit("-N", "3", "--max-parallel", "1", "--", "bash", "-c", script)
    supervisor = number_in(run, "supervisor.0")
    record = Path(run.dir.record(0, 0))
    record.unlink()
    record.mkdir()
    os.kill(supervisor, signal.SIGKILL)
    assert [shard.state for shard in ended(run).shards] == ["failed", "succeeded", "succeeded"]


def test_a_log_that_cannot_be_opened(machine: Machine) -> None:
    """Its shard is lost, and the others run."""
    script = 'until [ -e "$HPCRUN_RESULTS_DIR/good" ]; do sleep 0.02; done'
    run = machine.submit("-N", "3", "--max-parallel", "1", "--", "bash", "-c", script)
    until(lambda: run.status().counts().get("running"), what="the first shard")
    os.mkdir(run.dir.log(1, 0))
    good(run)
    assert [shard.state for shard in ended(run).shards] == ["succeeded", "failed", "succeeded"]


# Retries by hand.


def test_a_lock_that_names_another_at_greater_length(machine: Machine) -> None:
    """The line of the supervisor before is not mixed with that of the one in charge: the run is seen to run."""
    run = machine.run("bash", "-c", "[ $HPCRUN_ATTEMPT = 0 ] && exit 1; exec sleep 1000", code=1)
    Path(run.dir.local_lock).write_text(f"{10**12} {os.uname().nodename}\n")
    assert machine.hpcrun("retry", run.id).returncode == 0
    until(lambda: len(causes(run)) == 2, what="the next attempt")
    assert machine.json("status", run.id, "--json")["status"] == "running"
    machine.hpcrun("cancel", run.id)
    assert ended(run).state == "cancelled"


def test_what_was_cancelled_stays_so(machine: Machine) -> None:
    """Of a cancelled run one shard is tried again by hand: the others have still been cancelled."""
    run = machine.submit("-N", "4", "--max-parallel", "2", "--", "bash", "-c", WAITS)
    until(lambda: run.status().counts().get("running") == 2, what="two shards to run")
    machine.hpcrun("cancel", run.id)
    ended(run)
    good(run)
    assert machine.hpcrun("retry", run.id, "0", "-f").returncode == 3
    shards = machine.json("status", run.id, "--json")["shards"]
    assert [(shard["state"], shard["cause"]) for shard in shards] == [
        ("succeeded", None), *[("cancelled", "cancelled")] * 3
    ]  # fmt: skip


# Gangs.


def without_end(run: Run, *shards: int) -> None:
    """Take the end out of these records, as where their writer was killed before it."""
    for shard in shards:
        path = Path(run.dir.record(shard, 0))
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if '"event":"end"' not in line))


def without_record(run: Run, *shards: int) -> None:
    for shard in shards:
        os.unlink(run.dir.record(shard, 0))


@pytest.mark.parametrize(
    ("lose", "shards"), [(without_end, (0,)), (without_end, (1, 2)), (without_end, (2,)), (without_record, (1, 2))]
)
def test_a_gang_of_which_some_ends_are_missing(
    machine: Machine, lose: Callable[..., None], shards: tuple[int, ...]
) -> None:
    """It has not succeeded: tried again, all of it runs again, also the shards that had recorded a good end."""
    run = machine.run("-N", "3", "--gang", "--", "bash", "-c", "echo attempt $HPCRUN_ATTEMPT")
    lose(run, *shards)
    assert machine.open(run.id).status().state == "partial"
    machine.hpcrun("retry", run.id, "-f")
    assert [run.logs(shard, 1) for shard in range(3)] == ["attempt 1\n"] * 3
    assert [shard.state for shard in machine.open(run.id).shards()] == ["succeeded"] * 3


# Records that nobody of this run has written.


@pytest.fixture
def finished(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run of three shards that has ended: one well, one badly, one well in its second attempt."""
    monkeypatch.setenv("HPCRUN_CLUSTER", "local")
    script = "echo $HPCRUN_ATTEMPT; exit $((HPCRUN_SHARD_INDEX == 1 || HPCRUN_SHARD_INDEX > 2 * HPCRUN_ATTEMPT))"
    return machine.run("-N", "3", "--retries", "1", "--", "bash", "-c", script, code=3)


def told(run: Run, *words: str) -> Result:
    """A command of this process's own, for speed; whatever it raises is raised here."""
    return CliRunner().invoke(main, [words[0], run.id, *words[1:]], prog_name="hpcrun", catch_exceptions=False)


def check_others(run: Run, how: str) -> None:
    """Every command that reads records answers, and is right about the shards 1 and 2."""
    assert told(run, "status").output.startswith("run "), how
    assert told(run, "status", "--all").output, how
    shards = json.loads(told(run, "status", "--json").output, parse_constant=pytest.fail)["shards"]
    assert [(shard["state"], shard["attempts"]) for shard in shards[1:]] == [("failed", 2), ("succeeded", 2)], how
    assert [shard["index"] for shard in shards] == [0, 1, 2], how
    assert told(run, "logs", "-s", "1").output == "1\n", how
    assert "[2] 1\n" in told(run, "logs").output, how
    assert told(run, "logs", "-s", "failed").output, how


def strange(good: str) -> list[str]:
    """Records much like `good`: fields that are missing or of the wrong kind, lines that are missing or no JSON."""
    lines = good.splitlines()
    found = ["", "\0" * 40, good + "\0" * 10, good + "[" * 20000, good + "1" * 5000, "null\n", "[]\n", '{"format":1}\n']
    for number, line in enumerate(lines):
        event = json.loads(line)
        for field in event:
            others = ["x", [{"a": 1}], -5, 10**30, float("nan")]
            events = [{**event, field: value} for value in others]
            events.append({name: value for name, value in event.items() if name != field})
            found += ["\n".join([*lines[:number], json.dumps(one), *lines[number + 1 :]]) + "\n" for one in events]
        found.append("\n".join(lines[:number] + lines[number + 1 :]) + "\n")
    return found


@pytest.mark.parametrize("which", ["record", "submission", "cancelled"])
def test_a_file_that_is_garbled(finished: Run, which: str) -> None:
    """Whatever stands in one of a run's files: no stack trace, and nothing wrong about the other shards."""
    files = {"record": finished.dir.record(0, 0), "submission": finished.dir.submission}
    path = Path(files.get(which, finished.dir.cancelled))
    whole = path.read_text() if path.exists() else '{"by":"user","text":"x"}\n'
    for text in strange(whole):
        path.write_text(text)
        check_others(finished, text[:400])


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("records/0/000/5.jsonl", True),
        ("records/0/000/0.silent", True),
        ("records/0/000/99.jsonl", False),
        ("records/99/000/0.jsonl", False),
        ("records/0/000/0.jsonl~", False),
        ("records/0/000/.nfs000123", False),
        ("records/0/000/00.jsonl", False),
        ("records/0/000/٣.jsonl", False),
        ("records/notes.txt", False),
        ("records/1/000/notes", True),
    ],
)
def test_a_file_of_a_stranger(finished: Run, name: str, folder: bool) -> None:
    """What somebody else has put among the records is passed over."""
    path = Path(finished.dir.path, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    if folder:
        path.mkdir()
    else:
        path.write_bytes(Path(finished.dir.record(1, 0)).read_bytes())
    check_others(finished, name)


def test_a_strangers_record_instead_of_one_of_the_runs(finished: Run) -> None:
    """As many records as there are shards, but not of these: the run has lost one, and says so."""
    record = Path(finished.dir.record(0, 0))
    record.rename(record.with_name("99.jsonl"))
    check_others(finished, "renamed")
    assert finished.shards()[0].cause == "lost"
