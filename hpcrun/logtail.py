"""The end of a log, of which a message shows some lines and `hpcrun logs` where to begin. Logs may be of any size."""

from __future__ import annotations

import os

_BLOCK = 1 << 16
_CONTINUED = bytes(range(0x80, 0xC0))
"""The bytes of UTF-8 that are no character's first."""


def last_lines(path: str, count: int, most: int = _BLOCK) -> list[str]:
    """The last `count` lines (one or more) of the file `path`, of its last `most` bytes; none where it cannot be read.

    A line that is not whole begins with ``…``. Of one that was written over, as progress bars do it, there is what a
    terminal would show in the end. Bytes that are no UTF-8 are replaced.
    """
    try:
        with open(path, "rb") as file:
            start = start_of_last(file.fileno(), count, most)
            is_cut = start > 0 and os.pread(file.fileno(), 1, start - 1) != b"\n"
            file.seek(start)
            data = file.read(most)
    except OSError:
        return []
    lines = data.lstrip(_CONTINUED).split(b"\n") if is_cut else data.split(b"\n")
    if not lines[-1]:
        del lines[-1]
    found = [line.rstrip(b"\r").rpartition(b"\r")[2].decode("utf-8", "replace") for line in lines]
    if is_cut and found:
        found[0] = f"…{found[0]}"
    return found


def start_of_last(descriptor: int, count: int, most: int | None = None) -> int:
    """Where the last `count` lines of an open file begin; at most `most` bytes before its end, where that is given.

    What is behind the last newline is a line too.
    """
    end = os.fstat(descriptor).st_size
    least = 0 if most is None else max(end - most, 0)
    if count < 1:
        return end
    at = max(end - 1, least)  # a newline at the very end ends the last line
    while at > least:
        size = min(_BLOCK, at - least)
        at -= size
        block = os.pread(descriptor, size, at)
        newline = len(block)
        while (newline := block.rfind(b"\n", 0, newline)) >= 0:
            count -= 1
            if not count:
                return at + newline + 1
    return least
