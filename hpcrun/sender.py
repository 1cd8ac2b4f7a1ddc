"""Who submits a run: one process of one machine, to be told from any other later, and whether it still does.

A process that was killed may leave the sbatch that it has started; both must be gone before it is certain that
nothing more comes of them.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from hpcrun import events
from hpcrun.errors import UsageError
from hpcrun.jsonline import dumps
from hpcrun.rundir import RunDir

if TYPE_CHECKING:
    from hpcrun.jsonline import Value


@dataclasses.dataclass(frozen=True)
class Sender:
    """A process that submits, or has submitted, as the submission's record has it."""

    host: str
    pid: int
    began: int
    """When it started, in clock ticks since its machine did: another process of the same number began later."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def this_process() -> Sender:
    """Who is submitting here."""
    return Sender(os.uname().nodename, os.getpid(), _began(os.getpid()) or 0)


def facts(sender: Sender) -> dict[str, Value]:
    """`sender` as it stands in a record; `from_facts` makes the same of it."""
    return {"host": sender.host, "pid": sender.pid, "began": sender.began}


def from_facts(event: Mapping[str, Any]) -> Sender:
    """The sender of a record's event."""
    return Sender(event["host"], event["pid"], event["began"])


def lives(sender: Sender, run: RunDir, *, left: bool) -> bool | None:
    """Whether `sender`, or a call of it that submits `run`, is still there; None where it was on another machine.

    With `left` it may live on, but has submitted everything that it will.
    """
    if sender.host != os.uname().nodename:
        return None
    return (not left and bool(sender.began) and _began(sender.pid) == sender.began) or calls(run)


def claim(run: RunDir, path: str) -> bool:
    """Create the file `path` in this process's name; False where one was there that died before.

    Raises UsageError where another process that has it is still there.
    """
    if events.claim(path, dumps(facts(this_process()))):
        return True
    with open(path, encoding="ascii") as file:
        other = from_facts(json.loads(file.read()))
    if other != this_process() and lives(other, run, left=False) is not False:
        raise UsageError(
            f"found {other} submitting run {run.run_id}; wanted nobody else to, so wait until it is through"
        )
    return False


def calls(run: RunDir) -> bool:
    """Whether a process on this machine is just about to submit `run`: an sbatch, or the local supervisor's start."""
    script, start = os.fsencode(f"/{run.run_id}/scripts/"), os.fsencode(f"/{run.run_id}/start.py\0local")
    in_charge = _supervisor(run)
    return any(
        (b"sbatch" in command and script in command) or (start in command and process != in_charge)
        for process, command in _commands()
    )


def _supervisor(run: RunDir) -> str:
    """The process id of the local supervisor that carries `run` out, or did: it has been started long since."""
    try:
        with open(run.local_lock, encoding="ascii", errors="replace") as file:
            return file.read().partition(" ")[0]
    except OSError:
        return ""


def _commands() -> Iterator[tuple[str, bytes]]:
    """All processes that this one may look at, and their command lines, each argument ended by a null byte."""
    for number in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{number}/cmdline", "rb") as file:
                yield number, file.read()
        except OSError:  # it has just ended
            continue


def _began(pid: int) -> int | None:
    """When process `pid` began, in clock ticks since its machine did; None where it is not, or is dead already."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state, *rest = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if state in (b"Z", b"X") else int(rest[18])
