"""Which shard has which test, and the file that says how long they take."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun.durations import keep, keep_part, read, split
from hpcrun.errors import UsageError

TESTS = st.lists(st.from_regex(r"[ab]\.py::t[0-9]{1,2}", fullmatch=True), unique=True, max_size=40)
SECONDS = st.floats(0, 100)


@given(TESTS, st.integers(1, 9))
def test_round_robin(tests: list[str], shards: int) -> None:
    """As a conftest.py with `index % total` has it."""
    assert split(tests, shards) == [at % shards for at in range(len(tests))]


@given(
    TESTS, st.integers(1, 9), st.dictionaries(st.from_regex(r"[ab]\.py::t[0-9]", fullmatch=True), SECONDS), st.randoms()
)
def test_by_durations(tests: list[str], shards: int, durations: dict[str, float], chance: random.Random) -> None:
    """The order of collection does not matter, and no shard has more to do than the fair share and one test."""
    found = dict(zip(tests, split(tests, shards, durations), strict=True))
    mixed = chance.sample(tests, len(tests))
    assert dict(zip(mixed, split(mixed, shards, durations), strict=True)) == found
    assert set(found.values()) <= set(range(shards))
    known = [durations[test] for test in tests if test in durations]
    average = sum(known) / len(known) if known else 1.0
    length = {test: max(durations.get(test, average), 0.001) for test in tests}
    loads = [sum(length[test] for test in tests if found[test] == shard) for shard in range(shards)]
    assert max(loads) <= sum(loads) / shards + max(length.values(), default=0) + 1e-6


def test_the_longest_is_alone() -> None:
    """What takes as long as all others together has a shard for itself; what is not known counts as the average."""
    assert split(["a", "b", "c", "d"], 2, {"a": 1, "b": 3.5, "c": 1}) == [1, 0, 1, 1]


@given(
    TESTS, st.integers(1, 9), st.none() | st.dictionaries(st.from_regex(r"[ab]\.py::t[0-9]", fullmatch=True), SECONDS)
)
def test_files_stay_whole(tests: list[str], shards: int, durations: dict[str, float] | None) -> None:
    """All tests of a file are in one shard."""
    found = split(tests, shards, durations, by_file=True)
    for name in ("a", "b"):
        assert len({shard for test, shard in zip(tests, found, strict=True) if test.startswith(name)}) <= 1


def test_the_file(tmp_path: Path) -> None:
    """What was there stays, what is new is added, whoever comes when; the format is pytest-split's."""
    path, folder = str(tmp_path / ".test_durations"), str(tmp_path / "folder")
    assert read(path) is None
    keep(path, {"a": 1.0, "b": 2.0})
    keep_part(path, folder, 1, {"b": 3.0})
    keep_part(path, folder, 0, {"c": 0.5})
    assert json.loads(Path(path).read_text()) == {"a": 1.0, "b": 3.0, "c": 0.5} == read(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": ', "cannot be read"),
        ("[1]", "found list"),
        ('{"a": "1"}', "found '1' for a"),
        ('{"a": NaN}', "found nan for a"),
        ('{"a": -1}', "found -1 for a"),
    ],
)
def test_no_such_file(tmp_path: Path, text: str, said: str) -> None:
    """What holds something else is refused by name, never half read."""
    path = tmp_path / "durations"
    path.write_text(text)
    with pytest.raises(UsageError, match=f"durations in {path}: {said}.*; wanted a JSON object of seconds by test"):
        read(str(path))
