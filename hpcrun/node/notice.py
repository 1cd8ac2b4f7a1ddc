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
_LOOK_AGAIN = 0.02


class Notice:
    """The warning of one program: a signal, and how many seconds before its end, which is at the time `end_by`.

    `at` is when this process's own clock has it due, None where it has not. `leader` is the program's process; 0 where
    there is none here. What comes from both clocks, of one end, is one warning.
    """

    __slots__ = ("_ahead", "_given", "_heard", "_leader", "at", "number")

    def __init__(self, asked: tuple[int, float], end_by: float | None, leader: int) -> None:
        self.number, self._ahead = asked
        self._leader = leader
        self.at = None if end_by is None else end_by - self._ahead
        self._given = False
        self._heard: float | None = None

    def is_due(self) -> bool:
        """Whether the warning is to be given, its time `at` having come: Slurm may have been faster."""
        self.at, self._given = None, True
        return self._heard is None or time.monotonic() - self._heard > self._ahead + _EARLY

    def is_new(self) -> bool:
        """Whether a signal from outside is a warning, or the one of the same end that has been given already."""
        self._heard = time.monotonic()
        return not self._given

    def give(self, crew: Crew | None) -> None:
        """Warn the program, and whoever it works with."""
        if self._leader:
            warn(self._leader, self.number)
        if crew is not None:
            crew.passed_on(self.number)


def warn(leader: int, number: int) -> None:
    """Send a signal to those processes of the session of `leader` that want it, and to nobody whom it would end.

    A process that has one above it that wants it gets none: srun, mpirun and careful shells hand it on themselves.
    """
    family = {process: parent for process in session_of(leader) if (parent := _parent(process))}
    heads = [process for process, parent in family.items() if parent not in family]
    while heads:
        process = heads.pop()
        if not _wants(process, number):
            heads += [child for child, parent in family.items() if parent == process]
            continue
        try:
            os.kill(process, number)
        except (ProcessLookupError, PermissionError):
            pass


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
