"""The ledger of a shard: its attempts, and who says how they ended."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from hpcrun import events, ledger
from hpcrun.ledger import Entry
from hpcrun.rundir import RunDir

Events = list[dict[str, Any]]

START = {"event": "start", "at": 1.0, "node": "n1", "job": "12", "shard": 0, "attempt": 0, "round": 0}
GOOD = {"event": "end", "at": 2.0, "exit_code": 0, "signal": 0, "cause": None, "again": False}
FAILED = {"event": "end", "at": 2.0, "exit_code": 3, "signal": 0, "cause": "failed", "again": True}
SILENT = {"event": "end", "at": 3.0, "exit_code": -1, "signal": 0, "cause": "node_failed", "round": 0}
GAVE_UP = {"event": "given_up", "at": 4.0, "text": "Slurm refuses"}


def write(path: str, *said: dict[str, Any]) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).touch()
    for event in said:
        events.add(path, event["event"], {key: value for key, value in event.items() if key != "event"})


def causes(run: RunDir, shard: int = 0) -> list[str | None]:
    return [entry.cause for entry in ledger.read(run, shard)]


@pytest.mark.parametrize(
    ("own", "other", "cause", "succeeded"),
    [
        ([START], [], "lost", False),
        ([], [], "lost", False),
        ([START, GOOD], [], None, True),
        ([START, FAILED], [], "failed", False),
        # What another saw is what was acted upon.
        ([START], [SILENT], "node_failed", False),
        ([], [SILENT], "node_failed", False),
        ([START, FAILED], [SILENT], "node_failed", False),
        ([START], [SILENT, {**SILENT, "cause": "lost"}], "node_failed", False),
        # But a success is one, whoever believed what.
        ([START, GOOD], [SILENT], None, True),
        # A supervisor's last word is its word.
        ([START, FAILED, {**FAILED, "cause": "lost"}], [], "lost", False),
        # A shard of a gang that ended well is no success where the gang was none and is tried again.
        ([START, {**GOOD, "again": True, "gang": "failed"}], [], "failed", False),
        ([START, {**FAILED, "gang": "node_failed"}], [], "node_failed", False),
        ([START, {**GOOD, "gang": None}], [], None, True),
    ],
)
def test_one_attempt(own: Events, other: Events, cause: str | None, succeeded: bool) -> None:
    """Its cause for budgets, and whether it is the shard's success, from its record and from what others saw."""
    found = Entry(0, own, other)
    assert (found.cause, found.succeeded) == (cause, succeeded)
    assert (found.start is None) == (not own)


def test_nobody_takes_it_back() -> None:
    """Where no other attempt could be had, an end that was to be followed by one is the last, and says why."""
    found = Entry(0, [START, FAILED, GAVE_UP], [])
    assert found.end is not None
    assert (found.end["again"], found.end["detail"], found.cause) == (False, "Slurm refuses", "failed")


@pytest.mark.parametrize(
    ("own", "other", "number"),
    [
        ([START], [], 0),
        ([{**START, "round": 2}], [], 2),
        ([], [{**SILENT, "round": 1}], 1),
        ([], [{key: value for key, value in SILENT.items() if key != "round"}], 0),
        ([], [], 0),
    ],
)
def test_rounds(own: Events, other: Events, number: int) -> None:
    """An attempt belongs to the round that its start names, or else its end."""
    assert Entry(0, own, other).round == number


def test_budgets_start_afresh_in_each_round() -> None:
    """Of earlier rounds nothing is counted."""
    entries = [Entry(0, [START, FAILED], []), Entry(1, [{**START, "round": 1}, FAILED], []),
               Entry(2, [{**START, "round": 1}], [SILENT])]  # fmt: skip
    assert ledger.history(entries, 0) == ["failed"]
    assert ledger.history(entries, 1) == ["failed", "node_failed"]
    assert ledger.history(entries, 2) == []


def test_in_the_run_folder(tmp_path: Path) -> None:
    """Attempts are read in order; of one that its gang began without it there is an empty one."""
    run = RunDir(str(tmp_path))
    assert ledger.read(run, 0) == []
    write(run.record(0, 0), START, FAILED)
    write(run.record(0, 1), START)
    write(run.record(0, 3), START, GOOD)
    write(run.record(1, 0), START, GOOD)
    assert causes(run) == ["failed", "lost", "lost", None]
    assert causes(run, 1) == [None]
    assert [entry.number for entry in ledger.read(run, 0)] == [0, 1, 2, 3]


def test_an_attempt_that_never_began(tmp_path: Path) -> None:
    """Somebody's word that it ended is enough for it to have a number, and so is an empty record."""
    run = RunDir(str(tmp_path))
    write(run.silence(0, 0), SILENT)
    write(run.record(0, 1))
    write(run.record(0, 2), START, GOOD)
    assert causes(run) == ["node_failed", "lost", None]


def test_back_from_the_dead(tmp_path: Path) -> None:
    """A supervisor that was given up writes its end all the same: a success then counts, and nothing else does."""
    run = RunDir(str(tmp_path))
    for attempt, end in ((0, GOOD), (1, FAILED)):
        write(run.record(0, attempt), START)
        write(run.silence(0, attempt), SILENT)
        write(run.record(0, attempt), end)
    assert causes(run) == [None, "node_failed"]
    assert [entry.succeeded for entry in ledger.read(run, 0)] == [True, False]


def test_a_record_that_is_cut_short(tmp_path: Path) -> None:
    """An end that is half a line is none: its writer died in it."""
    run = RunDir(str(tmp_path))
    write(run.record(0, 0), START)
    with open(run.record(0, 0), "a", encoding="ascii") as file:
        file.write('{"format":1,"event":"end","at":2.0,"exit_code":0,"cau')
    assert causes(run) == ["lost"]
    assert os.path.exists(run.record(0, 0))
