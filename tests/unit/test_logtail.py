"""The end of a log, of any size."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun.logtail import last_lines, start_of_last


@given(st.lists(st.sampled_from(["", "a", "bc", "ä" * 5])), st.booleans(), st.integers(1, 5))
def test_the_last_lines(tmp_path_factory: pytest.TempPathFactory, lines: list[str], ended: bool, count: int) -> None:
    """As many as are asked for, also where the last has no end yet."""
    path = tmp_path_factory.mktemp("log") / "log"
    text = "\n".join(lines) + ("\n" if ended and lines else "")
    path.write_text(text, encoding="utf-8")
    assert last_lines(str(path), count) == text.splitlines()[-count:]


def test_blocks(tmp_path: Path) -> None:
    """A log is searched from its end in blocks; a line may be longer than one of them."""
    path = tmp_path / "log"
    path.write_text("first\n" + "x" * 200_000 + "\nlast\n")
    with path.open("rb") as file:
        assert start_of_last(file.fileno(), 1) == path.stat().st_size - 5
        assert start_of_last(file.fileno(), 2) == 6
        assert start_of_last(file.fileno(), 3) == 0
        assert start_of_last(file.fileno(), 9) == 0
        assert start_of_last(file.fileno(), 0) == path.stat().st_size
        assert start_of_last(file.fileno(), 2, 100) == path.stat().st_size - 100
    assert last_lines(str(path), 1) == ["last"]


def test_a_line_without_end(tmp_path: Path) -> None:
    """Of more than is read the end is shown, and that it is one; no character is cut in two."""
    path = tmp_path / "log"
    path.write_text("ä" * 100 + "\nlast", encoding="utf-8")
    assert last_lines(str(path), 2, 10) == ["…ää", "last"]
    assert last_lines(str(path), 2, 5) == ["…", "last"]
    assert last_lines(str(path), 1, 5) == ["last"]


def test_a_progress_bar(tmp_path: Path) -> None:
    """What was written over is one line, of which there is the end."""
    path = tmp_path / "log"
    path.write_bytes(b"begin\r\n" + b"".join(b"\r%d%%" % percent for percent in range(101)) + b"\nkilled\n")
    assert last_lines(str(path), 3) == ["begin", "100%", "killed"]


def test_no_log(tmp_path: Path) -> None:
    """Nothing, as of an empty one."""
    assert last_lines(str(tmp_path / "none"), 3) == []
    assert last_lines(str(tmp_path), 3) == []
