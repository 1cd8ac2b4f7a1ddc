"""Files that appear whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpcrun.whole import write_whole


@pytest.mark.parametrize("content", [b"\xff\n", "ü\udcff\n", ""])
@pytest.mark.parametrize("durable", [False, True])
def test_content(tmp_path: Path, content: bytes | str, durable: bool) -> None:
    """Bytes as they are, text as the file system has it; nothing else is left beside the file."""
    path = tmp_path / "file"
    path.write_text("before")
    write_whole(str(path), content, durable=durable)
    assert path.read_bytes() == (content if isinstance(content, bytes) else os.fsencode(content))
    assert sorted(os.listdir(tmp_path)) == ["file", "home"]


def test_what_cannot_be_written(tmp_path: Path) -> None:
    """The file is what it was, and nothing is left beside it."""
    path = tmp_path / "file"
    (path / "folder").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        write_whole(str(path), "text")
    assert sorted(os.listdir(tmp_path)) == ["file", "home"]
    with pytest.raises(FileNotFoundError):
        write_whole(str(tmp_path / "none" / "file"), "text")
