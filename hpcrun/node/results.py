"""What an attempt leaves, where each has a folder of its own: it becomes the shard's results when the program succeeds.

That takes one rename, and the first attempt to do it wins: a node that comes back from the dead changes nothing. What
attempts leave that have failed, or have come too late, stays where it is, to be looked at.
"""

from __future__ import annotations

import os

from hpcrun.node import program
from hpcrun.node.shard import open_log
from hpcrun.results import MARK, attempt_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hpcrun.plan import Plan
    from hpcrun.rundir import RunDir

_UNWRITTEN = 74
"""What a program ends with that has succeeded in vain (EX_IOERR of sysexits.h)."""


def prepare(run: RunDir, shard: int, attempt: int) -> str:
    """The folder for what `attempt` of `shard` leaves, made where it is not there. Raises OSError."""
    path = run.uncommitted(shard, attempt)
    os.makedirs(path, 0o700, exist_ok=True)
    return path


def commit(run: RunDir, shard: int, attempt: int) -> bool:
    """Make the folder of `attempt` the results of `shard`; False where those of another attempt are there already.

    Raises OSError where it cannot be done.
    """
    source, target = run.uncommitted(shard, attempt), run.committed(shard)
    try:
        with open(os.path.join(source, MARK), "w", encoding="ascii") as file:
            file.write(f"{attempt}\n")
        os.makedirs(os.path.dirname(target), 0o700, exist_ok=True)
        os.rename(source, target)
    except OSError:
        first = attempt_of(target)
        if first is None:
            raise
        return first == attempt  # a file server may do it, and then answer a repeated call that there is nothing to do
    return True


def kept(plan: Plan, run: RunDir, shard: int, attempt: int, ended: program.Ended) -> program.Ended:
    """How `attempt` has ended, once the results of a program that has succeeded are committed."""
    if ended.why is not None or ended.code or ended.signal:
        return ended
    try:
        if not commit(run, shard, attempt):
            ended.detail = f"its results came after those of attempt {attempt_of(run.committed(shard))}, which hold"
    except OSError as error:
        return lost(plan, run, shard, attempt, error)
    return ended


def lost(plan: Plan, run: RunDir, shard: int, attempt: int, error: OSError) -> program.Ended:
    """The end of an attempt whose results have no place, which its log says too, where it can."""
    text = f"its results cannot be kept: {error.strerror} ({error.filename or run.uncommitted(shard, attempt)})"
    try:
        log = open_log(run.log(shard, attempt, "err" if plan.separate_stderr else "log"))
        os.write(log, f"hpcrun: {text}\n".encode("utf-8", "surrogateescape"))
        os.close(log)
    except OSError:  # the same disk
        pass
    ended = program.Ended(_UNWRITTEN << 8)
    ended.detail = text
    return ended
