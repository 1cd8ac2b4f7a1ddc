"""One file made of the parts that several processes leave, without a lock and on network file systems too.

Each process moves its part into one folder, merges what is there, and moves the outcome over the file, in one step. A
slow one may thus put an older outcome over a newer one; so each looks again after that, and merges again where the
folder has changed. Whoever moves last has seen every part: had one come after the look, its writer would move later.
"""

from __future__ import annotations

import os

from hpcrun.whole import write_whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def merge(folder: str, out: str, combined: Callable[[dict[int, str]], bytes]) -> None:
    """Make the file `out` of the parts in `folder`, which are called ``INDEX.SUFFIX``.

    `combined` is given the path of each part by its index, in order, and called again for as long as parts come; one
    of them may be gone when it is read.
    """
    before: object = None
    while (there := _parts(folder)) != before:
        write_whole(out, combined({index: there[index][0] for index in sorted(there)}))
        before = there


def _parts(folder: str) -> dict[int, tuple[str, int, int, int]]:
    # A change of our own makes a network file system look at the folder again.
    look = os.path.join(folder, f".look.{os.uname().nodename}.{os.getpid()}")
    with open(look, "wb"):
        pass
    os.unlink(look)
    found = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            index, _, suffix = entry.name.partition(".")
            if index.isascii() and index.isdecimal() and "." not in suffix:
                try:
                    is_now = os.stat(entry.path)
                except FileNotFoundError:
                    continue
                found[int(index)] = (entry.path, is_now.st_ino, is_now.st_mtime_ns, is_now.st_size)
    return found
