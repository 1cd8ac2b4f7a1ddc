"""The finaliser: the small job that tells how a run has ended to the runs that wait for it.

Slurm cannot tell them: with retries an array is more than once at its end, and its exit code says nothing of shards. So
the finaliser waits, by a dependency, for every job of the run, looks at the run as `hpcrun status` does, writes what it
found, stops the runs that now must not start, and exits with the code of the outcome.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import time

from hpcrun import events, upstream
from hpcrun.allocation import from_slurm
from hpcrun.errors import HpcrunError, RunFolderError
from hpcrun.jsonline import dumps
from hpcrun.node import requeue
from hpcrun.run import Run
from hpcrun.states import TERMINAL, aggregate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from hpcrun.allocation import Allocation
    from hpcrun.jsonline import Value
    from hpcrun.rundir import RunDir
    from hpcrun.status import RunStatus

_PATIENCE = 20.0
"""Seconds that accounting has, which lags behind, to explain how the last job ended."""
_LAST_PATIENCE = 480.0
"""Seconds to go on waiting where this job cannot be started again; its time limit is ten minutes."""
_TRIES = 30
"""Starts after which a run that nobody can explain is called failed."""


def tell(run: RunDir, in_round: int) -> NoReturn:
    """Tell how `run` has ended with this round, and exit as `hpcrun wait` would."""
    allocation = from_slurm(os.environ)
    watched = Run(run.path)
    status = _ended(watched, _PATIENCE)
    if not status.done and _started_too_early(status, allocation):
        if requeue.requeue(allocation):
            os._exit(0)
        status = _ended(watched, _LAST_PATIENCE)
    status = _concluded(watched, status)
    counts: dict[str, Value] = {state: count for state, count in status.counts().items()}  # noqa: C416
    facts: dict[str, Value] = {
        "state": status.state, "exit_code": status.exit_code(), "counts": counts,
        "failedIndexes": status.folded("failed", "timed_out", "cancelled"), "at": time.time(),
    }  # fmt: skip
    events.claim(run.outcome(in_round), dumps(facts) + "\n")
    told = upstream.outcome(run.outcome(in_round)) or status.state
    _stop_dependants(watched, in_round, told)
    _drop_empty_output()
    os._exit(status.exit_code())


def _ended(run: Run, patience: float) -> RunStatus:
    """The status of `run` once it has ended, or after that many seconds.

    Who follows starts again what was lost without a word, too, so that nobody else needs to.
    """
    end_by = time.monotonic() + patience
    for status in run.follow():
        if status.done or time.monotonic() > end_by:
            break
    return status


def _started_too_early(status: RunStatus, allocation: Allocation) -> bool:
    """Whether the run goes on: some of it is tried again by hand, say. Not where it is only unknown, for ever."""
    goes_on = any(shard.state in ("pending", "starting", "running") for shard in status.shards)
    return goes_on or allocation.restarts < _TRIES


def _concluded(run: Run, status: RunStatus) -> RunStatus:
    """`status` with everything that nobody can explain counted as failed."""
    if status.done:
        return status
    shards = tuple(
        shard if shard.state in TERMINAL else dataclasses.replace(shard, state="failed", cause="lost")
        for shard in status.shards
    )
    by, _ = events.stopped(run.dir) or ("", "")
    return dataclasses.replace(
        status, shards=shards, state=aggregate((shard.state for shard in shards), cancelled=by == "user")
    )


def _drop_empty_output() -> None:
    if os.path.islink("/proc/self/fd/1") and os.fstat(1).st_size == 0:
        path = os.readlink("/proc/self/fd/1")
        if os.path.basename(path).startswith("finish-"):
            os.unlink(path)


def _stop_dependants(run: Run, in_round: int, state: str) -> None:
    """Stop every run that waits for `run` and, now that this has ended in `state`, must not start."""
    try:
        names = sorted(os.listdir(run.dir.dependants))
    except FileNotFoundError:
        return
    for name in names:
        try:
            with open(os.path.join(run.dir.dependants, name), encoding="utf-8", errors="surrogateescape") as file:
                waiting = Run(file.read())
        except (OSError, RunFolderError):  # its submission was refused, or it has been removed since
            continue
        for one in waiting.plan.upstream:
            if one.run_id == run.id and one.round == in_round and not upstream.met(one.kind, state):
                _stop(waiting, state, upstream.refusal(one.kind, run.id, state))


def _stop(waiting: Run, state: str, text: str) -> None:
    events.stop(waiting.dir, upstream.hindered(state), text)
    try:
        # The last first: ending one that another waits for would start the other.
        waiting.cluster.cancel(waiting.dir, tuple(reversed(waiting.status().jobs)))
    except HpcrunError as error:  # its shards will find the word when they start
        print(f"hpcrun: cannot take run {waiting.id} out of the queue: {error}", file=sys.stderr)
