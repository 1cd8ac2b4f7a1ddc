"""The warning before the end, for programs that ask for one (``signal``, as sbatch's ``--signal``).

The runtime's own clock gives it before the program's ``timeout``; Slurm sends the same signal to the batch process
before the limit of the job and, where the site has it so, at a preemption.
"""

from __future__ import annotations

import os
import time

from hpcrun.node.program import session_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hpcrun.node.program import Crew

_EARLY = 60.0
"""Seconds by which Slurm's own warning may come before its time (sbatch's manual, --signal)."""
_TRY_AGAIN = 0.5
"""Seconds until a warning that nobody wanted is given again: a program may be about to ask for it."""
_LOOK_AGAIN = 0.02


class Notice:
    """The warning of one program: a signal, and how many seconds before its end, which is at the time `end_by`.

    `leader` is the program's process; 0 where there is none here. This process's own clock gives it, and Slurm may send
    it as well: what comes from both of one end is one warning.
    """

    __slots__ = ("_ahead", "_given", "_heard", "_leader", "_own", "_retry", "number")

    def __init__(self, asked: tuple[int, float], end_by: float | None, leader: int) -> None:
        self.number, self._ahead = asked
        self._leader = leader
        self._own = None if end_by is None else end_by - self._ahead
        self._given = False
        self._heard: float | None = None
        self._retry: float | None = None

    @property
    def at(self) -> float | None:
        """When something is due, by time.monotonic(); None where nothing is."""
        times = [due for due in (self._own, self._retry) if due is not None]
        return min(times) if times else None

    def is_due(self) -> bool:
        """Whether the warning is to be given, the time `at` having come: Slurm may have been faster."""
        now = time.monotonic()
        if self._retry is not None and now >= self._retry:
            return True
        self._own, self._given = None, True
        if self._heard is not None and now - self._heard < self._ahead + _EARLY:
            return False
        self._heard = now
        return True

    def is_new(self) -> bool:
        """Whether a signal from outside is a warning, or the one of the same end that has been given already."""
        if self._given:
            return False
        self._heard = time.monotonic()
        return True

    def give(self, crew: Crew | None) -> None:
        """Warn the program, and whoever it works with."""
        if crew is not None and self._retry is None:
            crew.passed_on(self.number)
        wanted = not self._leader or warn(self._leader, self.number)
        now = time.monotonic()
        late = self._heard is not None and now - self._heard > self._ahead + _EARLY
        self._retry = None if wanted or late else now + _TRY_AGAIN


def warn(leader: int, number: int) -> bool:
    """Send a signal to those processes of the session of `leader` that want it; whether there was one.

    Nobody gets it whom it would end. Nor does a process that has one above it that wants it: srun, mpirun and careful
    shells hand it on themselves.
    """
    family = {process: parent for process in session_of(leader) if (parent := _parent(process))}
    heads = [process for process, parent in family.items() if parent not in family]
    wanted = False
    while heads:
        process = heads.pop()
        if not _wants(process, number):
            heads += [child for child, parent in family.items() if parent == process]
            continue
        try:
            os.kill(process, number)
            wanted = True
        except (ProcessLookupError, PermissionError):
            pass
    return wanted


def _parent(process: int) -> int:
    return int(_facts(process).get(b"PPid", b"0"))


def _wants(process: int, number: int) -> bool:
    """Whether a process catches a signal, or holds it back to fetch it; to hold back all for a moment is neither."""
    bit = 1 << (number - 1)
    for pause in (_LOOK_AGAIN, 0.0):
        facts = _facts(process)
        if int(facts.get(b"SigCgt", b"0"), 16) & bit:
            return True
        if not int(facts.get(b"SigBlk", b"0"), 16) & bit:
            return False
        time.sleep(pause)
    return True


def _facts(process: int) -> dict[bytes, bytes]:
    """What the kernel tells of a process, by name; nothing where it is gone."""
    try:
        with open(f"/proc/{process}/status", "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(b":") for line in lines)}
