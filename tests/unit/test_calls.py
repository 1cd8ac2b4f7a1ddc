"""Which of the values that attempts have left are those of their calls."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hpcrun import RunFolderError, calls, returned
from hpcrun.rundir import RunDir


def left(folder: Path, attempt: int, values: dict[int, object], kept: list[int] | None) -> None:
    """What an attempt of shard 0 leaves; `kept` are the calls that it did not make again."""
    out = returned.Writer(RunDir(str(folder)).returned(0, attempt))
    if kept is not None:
        out.add(returned.KEPT, 0, pickle.dumps(kept))
    for call, value in values.items():
        out.add(returned.VALUE, call, pickle.dumps(value))
    out.close()


def read(folder: Path, last: int, *, anew: bool = False) -> dict[int, Any]:
    run: Any = SimpleNamespace(plan=SimpleNamespace(gang=anew, committed=False), dir=RunDir(str(folder)))
    shard = calls._Shard(run, 0)
    shard.read(last)
    return {call: pickle.loads(body.bytes()) for call, body in shard.values().items() if body is not None}


def test_the_first_value_stays(tmp_path: Path) -> None:
    """What an attempt has kept is that of the one before; what it has not is its own."""
    left(tmp_path, 0, {0: "first", 1: "late"}, None)
    left(tmp_path, 1, {1: "second"}, [0])
    assert read(tmp_path, 1) == {0: "first", 1: "second"}


def test_the_newest_attempt_knows(tmp_path: Path) -> None:
    """A value that was late for one attempt and in time for the next is the one that counts: nobody made it again."""
    left(tmp_path, 0, {0: "in time for 2"}, None)
    left(tmp_path, 1, {}, [])
    left(tmp_path, 2, {1: "own"}, [0])
    assert read(tmp_path, 2) == {0: "in time for 2", 1: "own"}


def test_while_an_attempt_runs(tmp_path: Path) -> None:
    """What a node writes that was given up counts for nobody, also before the next attempt has ended."""
    left(tmp_path, 0, {0: "from the dead"}, None)
    left(tmp_path, 1, {}, [])
    assert read(tmp_path, 1) == {}


def test_what_has_succeeded(tmp_path: Path) -> None:
    """Where an earlier attempt is the shard's success after all, those after it do not count."""
    left(tmp_path, 0, {0: "succeeded"}, None)
    left(tmp_path, 1, {0: "too late"}, [])
    assert read(tmp_path, 0) == {0: "succeeded"}


def test_of_a_gang_all_is_of_one_attempt(tmp_path: Path) -> None:
    """Also where that one has left nothing."""
    left(tmp_path, 0, {0: "of another"}, None)
    assert read(tmp_path, 1, anew=True) == {}


def test_a_large_value_that_has_changed(tmp_path: Path) -> None:
    """What is read a second time is checked a second time."""
    left(tmp_path, 0, {0: "x" * 100_000}, None)
    path = Path(RunDir(str(tmp_path)).returned(0, 0))
    [(_, _, body)] = returned.Reader(str(path)).frames()
    path.write_bytes(path.read_bytes()[:-10] + b"y" * 10)
    with pytest.raises(RunFolderError, match="have changed since they were read"):
        body.bytes()
