"""Shared: the last answer to a question, for everybody on this machine who asks the same one at about the same time.

Within a process it is kept in memory. Between the processes of one machine it lies in a file, which appears whole and
is read by its owner alone; a lock beside it sees to it that of several who want an answer now one asks and the others
wait for what they are told. The lock is the kernel's: whoever is killed with it leaves nothing behind. Where the file
or the lock cannot be had (a full disk, a network file system without locks) everybody asks for themselves.

How old an answer may be is up to who wants it. Its age is counted from when it was asked, by a clock that all processes
of a machine have in common and nobody can set; the file of another boot counts for nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator

from hpcrun.whole import write_whole

_FORMAT = 1
_PATIENCE = 20.0
"""Seconds to wait for what somebody else is being told. slurmctld itself is given up after about ten."""
_PAUSE = 0.02
"""Seconds between two looks whether it is there."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What was said, when that was asked, and how long it took. Times are seconds by `now`."""

    text: str
    asked: float
    took: float
    error: str = ""
    """Why there was no answer; then `text` is empty."""
    aside: float = 0.0
    """Until when who was asked instead of somebody else is to be asked again, where the other one had failed."""


def now() -> float:
    """Seconds since this machine was started, whatever its clock is set to; the same for all its processes."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Shared:
    """The last answer to one question; safe to use from several threads."""

    def __init__(self, path: str | None) -> None:
        """`path` is the file that other processes share; None keeps the answer in this one's memory alone."""
        self._path = path
        self._last: Answer | None = None
        self._asking = threading.Lock()

    def answer(self, since: float, ask: Callable[[Answer | None], Answer]) -> Answer:
        """An answer that was asked at `since` (by `now`) or later: the last one, or else what `ask` returns.

        `ask` gets the last answer there is, however old. What it raises is raised.
        """
        with self._asking:
            found = self._known(since)
            if found is not None:
                return found
            with self._alone(since) as told:
                if told is not None:
                    return told
                self._last = ask(self._last)
                self._write(self._last)
                return self._last

    def _known(self, since: float) -> Answer | None:
        if self._last is None or self._last.asked < since:
            read = self._read()
            if read is not None and (self._last is None or read.asked > self._last.asked):
                self._last = read
        return self._last if self._last is not None and self._last.asked >= since else None

    @contextlib.contextmanager
    def _alone(self, since: float) -> Iterator[Answer | None]:
        """Be the only one on this machine who asks, or get what somebody else was told meanwhile."""
        descriptor = self._opened()
        try:
            yield None if descriptor is None else self._locked(descriptor, since)
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _locked(self, descriptor: int, since: float) -> Answer | None:
        end_by = now() + _PATIENCE
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return self._known(since)
            except BlockingIOError:
                found = self._known(since)
                if found is not None or now() > end_by:
                    return found
            except OSError:  # there are no locks here
                return None
            time.sleep(_PAUSE)

    def _opened(self) -> int | None:
        if self._path is None:
            return None
        try:
            return os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError:
            return None

    def _read(self) -> Answer | None:
        """What lies in the file; None where there is nothing, nothing of this boot, or nothing of this user's."""
        if self._path is None:
            return None
        try:
            with open(self._path, "rb", opener=_not_followed) as file:
                about = os.fstat(file.fileno())
                if not stat.S_ISREG(about.st_mode) or about.st_uid != os.getuid():
                    return None
                head, text = file.readline(), file.read()
            said = json.loads(head)
            if (said["format"], said["boot"], said["bytes"]) != (_FORMAT, _boot(), len(text)) or said["asked"] > now():
                return None
            times = float(said["asked"]), float(said["took"])
            return Answer(text.decode(), *times, str(said["error"]), float(said["aside"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _write(self, answer: Answer) -> None:
        if self._path is None:
            return
        text = answer.text.encode()
        facts = {**dataclasses.asdict(answer), "format": _FORMAT, "boot": _boot(), "bytes": len(text)}
        del facts["text"]
        try:
            write_whole(self._path, json.dumps(facts).encode() + b"\n" + text, private=True)
        except OSError:  # whoever comes next asks again
            pass


def _not_followed(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW)


def _boot() -> str:
    """The name of this start of the machine."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
