"""The record: whole lines in, whole lines out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpcrun import events
from hpcrun.rundir import RunDir


def test_read_back(tmp_path: Path) -> None:
    """Events come back in order, with hostile text in them."""
    path = str(tmp_path / "r.jsonl")
    events.add(path, "start", {"node": "n\n1", "job": "\udcff"})
    events.add(path, "end", {"exit_code": 0}, durable=True)
    assert events.read(path) == [
        {"format": 1, "event": "start", "node": "n\n1", "job": "\udcff"},
        {"format": 1, "event": "end", "exit_code": 0},
    ]
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_no_file(tmp_path: Path) -> None:
    """A record that is not there has no events."""
    assert events.read(str(tmp_path / "none")) == []


@pytest.mark.parametrize(
    "garbage",
    [
        b'{"format":1,"event":"end"', b"\xff\xfe", b"\0\0\0", b"[]", b"3", b'{"event":"end"}',
        b'{"format":9,"event":"x"}', b"[" * 100_000,
    ],
)  # fmt: skip
def test_garbled_lines(tmp_path: Path, garbage: bytes) -> None:
    """A line that is cut short, garbled or of another format is not there; the others are."""
    path = tmp_path / "r.jsonl"
    good = b'{"format":1,"event":"start"}\n'
    path.write_bytes(good + garbage + b"\n" + good + garbage)
    assert [event["event"] for event in events.read(str(path))] == ["start", "start"]


def test_attempts_are_found(tmp_path: Path) -> None:
    """Every record is found by shard and attempt; strangers' files in the folder are passed over."""
    run = RunDir(str(tmp_path))
    for shard, number in [(0, 0), (7, 0), (501, 2)]:
        path = Path(run.record(shard, number))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "records" / "0" / "000" / ".nfs0001").touch()
    (tmp_path / "records" / "0" / "stray").touch()
    (tmp_path / "records" / "lost+found").mkdir()
    assert sorted((shard, number) for shard, number, _ in events.attempts(run)) == [(0, 0), (7, 0), (501, 2)]
