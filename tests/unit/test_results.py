"""Results that are committed: one rename, and the first attempt to do it wins for good."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpcrun.node import results
from hpcrun.results import MARK, attempt_of, committed
from hpcrun.rundir import RunDir


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run folder without anything in it."""
    return RunDir(str(tmp_path))


def leave(run: RunDir, shard: int, attempt: int, text: str) -> None:
    """What a program does: it writes the file `out` into the folder of its attempt."""
    Path(results.prepare(run, shard, attempt), "out").write_text(text)


def out(run: RunDir, shard: int) -> str:
    """The text that is the result of a shard."""
    return Path(run.committed(shard), "out").read_text()


def test_nothing_is_there_before(run: RunDir) -> None:
    """What an attempt writes is none of the shard's results until it is committed; then it is all of them."""
    leave(run, 3, 0, "a")
    assert committed(run, range(5)) == {}
    assert results.commit(run, 3, 0)
    assert (out(run, 3), committed(run, range(5))) == ("a", {3: 0})
    assert sorted(os.listdir(run.committed(3))) == [MARK, "out"]


def test_the_first_wins(run: RunDir) -> None:
    """An attempt that comes later changes nothing, whichever number it has; what it has left stays apart."""
    for attempt in (0, 1):
        leave(run, 3, attempt, f"by {attempt}")
    assert results.commit(run, 3, 1)
    assert not results.commit(run, 3, 0)
    assert (out(run, 3), attempt_of(run.committed(3))) == ("by 1", 1)
    assert Path(run.uncommitted(3, 0), "out").read_text() == "by 0"


def test_the_first_wins_with_nothing(run: RunDir) -> None:
    """A shard that has left no file has results too, of which there are none, and they hold."""
    results.prepare(run, 3, 0)
    assert results.commit(run, 3, 0)
    leave(run, 3, 1, "late")
    assert not results.commit(run, 3, 1)
    assert os.listdir(run.committed(3)) == [MARK]


def test_asked_twice(run: RunDir) -> None:
    """A file server that is asked again has done it already: that is the success it was."""
    leave(run, 3, 0, "a")
    assert results.commit(run, 3, 0)
    assert results.commit(run, 3, 0)
    assert out(run, 3) == "a"


def test_folders_are_small(run: RunDir) -> None:
    """Of 10,000 shards no folder has more than 1,000."""
    places = {os.path.dirname(run.committed(shard)) for shard in range(10_000)}
    assert len(places) == 20
    assert {os.path.dirname(place) for place in places} == {run.results}


@pytest.mark.parametrize("spoil", [os.rmdir, lambda path: os.chmod(path, 0o500)], ids=["gone", "read-only"])
def test_what_cannot_be_committed(run: RunDir, spoil: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raises what the system said."""
    assert callable(spoil)
    if os.geteuid() == 0 and spoil is not os.rmdir:
        monkeypatch.setattr(os, "rename", _refused)
    spoil(results.prepare(run, 3, 0))
    with pytest.raises(OSError, match=r"No such file|Permission denied"):
        results.commit(run, 3, 0)
    assert committed(run, [3]) == {}


def _refused(source: str, target: str) -> None:
    raise PermissionError(13, "Permission denied", source)


def test_a_place_that_is_taken(run: RunDir) -> None:
    """A folder that no attempt has left is not taken for the results of one."""
    os.makedirs(os.path.join(run.committed(3), "mine"))
    leave(run, 3, 0, "a")
    with pytest.raises(OSError, match="not empty"):
        results.commit(run, 3, 0)
    assert os.listdir(run.committed(3)) == ["mine"]
    os.rmdir(os.path.join(run.committed(3), "mine"))
    assert results.commit(run, 3, 0), "an empty one is no obstacle"
