"""The record: whole lines in, whole lines out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpcrun import events
from hpcrun.rundir import RunDir

END = {"at": 2, "exit_code": 0, "signal": 0, "cause": None}


def test_read_back(tmp_path: Path) -> None:
    """Events come back in order, with hostile text in them."""
    path = str(tmp_path / "r.jsonl")
    events.add(path, "start", {"at": 1.5, "node": "n\n1", "job": "\udcff"})
    events.add(path, "end", END, durable=True)
    assert events.read(path) == [
        {"format": 1, "event": "start", "at": 1.5, "node": "n\n1", "job": "\udcff"},
        {"format": 1, "event": "end", **END},
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
        b'{"format":1}', b'{"format":1,"event":["end"]}', b'{"format":1,"event":"end","at":1}',
        b'{"format":1,"event":"end","at":NaN,"exit_code":0,"signal":0,"cause":null}',
        b'{"format":1,"event":"end","at":1e999,"exit_code":0,"signal":0,"cause":null}',
        b'{"format":1,"event":"end","at":1,"exit_code":"0","signal":0,"cause":null}',
        b'{"format":1,"event":"end","at":1,"exit_code":0,"signal":0,"cause":{}}',
        b'{"format":1,"event":"start","at":1,"round":"one"}', b'{"format":1,"event":"start","at":1,"said":null}',
        b'{"format":1,"event":"intent"}', b'{"format":1,"event":"submitted","batch":[],"job":"1"}',
    ],
)  # fmt: skip
def test_garbled_lines(tmp_path: Path, garbage: bytes) -> None:
    """A line that is cut short, garbled or of another format is not there; the others are."""
    path = tmp_path / "r.jsonl"
    good = b'{"format":1,"event":"start","at":1}\n'
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
    for shard, number in [(7, 0), (8, 1)]:
        path = Path(run.silence(shard, number))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert sorted(events.attempts(run)) == [
        (0, 0, False), (7, 0, False), (7, 0, True), (8, 1, True), (501, 2, False),
    ]  # fmt: skip


def test_the_first_word_stops_a_run(tmp_path: Path) -> None:
    """Whoever says first that nothing more may start is who has stopped it, with their reason."""
    run = RunDir(str(tmp_path / "run"))
    os.mkdir(run.path)
    assert events.stopped(run) is None
    assert events.stop(run, "max_failed_indexes", "too many: \u00e4\n")
    assert not events.stop(run, "user")
    assert events.stopped(run) == ("max_failed_indexes", "too many: \u00e4\n")
    assert os.listdir(run.path) == ["cancelled"]


@pytest.mark.parametrize("text", ["", "{}", "{", "[]", "3", "\0"])
def test_a_stop_without_a_reason(tmp_path: Path, text: str) -> None:
    """A marker is one, whatever is in it: then its user has stopped the run."""
    run = RunDir(str(tmp_path))
    Path(run.cancelled).write_text(text)
    assert events.stopped(run) == ("user", "")


def test_one_of_many_claims_wins(tmp_path: Path) -> None:
    """Of processes that claim a file at once one gets it, its text is what is there, and the others know."""
    folder = tmp_path / "claims"
    folder.mkdir()
    path = str(folder / "claim")
    code = "import sys; from hpcrun import events; print(events.claim(sys.argv[1], sys.argv[2] * 1000))"
    several = [
        subprocess.Popen([sys.executable, "-c", code, path, str(number)], stdout=subprocess.PIPE, text=True)
        for number in range(6)
    ]
    said = [process.communicate(timeout=60)[0].strip() for process in several]
    assert sorted(said) == ["False"] * 5 + ["True"]
    assert Path(path).read_text() == str(said.index("True")) * 1000
    assert os.listdir(folder) == ["claim"]


def test_a_claim_that_was_answered_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file server that repeats a call says that the file is there, and so it is: by this very call."""
    link = os.link

    def repeated(source: str, target: str) -> None:
        link(source, target)
        raise FileExistsError(17, "File exists")

    monkeypatch.setattr(os, "link", repeated)
    path = str(tmp_path / "claim")
    assert events.claim(path, "mine")
    monkeypatch.setattr(os, "link", link)
    assert not events.claim(path, "another's")
    assert Path(path).read_text() == "mine"
    assert not list(tmp_path.glob("claim.*"))
