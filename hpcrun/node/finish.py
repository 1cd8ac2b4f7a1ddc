"""The finaliser: the small job that tells how a run has ended to the runs that wait for it.

Slurm cannot tell them: with retries, or by hand, an array is more than once at its end, and its exit codes say nothing of
shards. So the finaliser waits, by a dependency, for every job of the run, looks at the run as `hpcrun status` does,
writes what it found, stops the runs that now must not start, and exits with the code of the outcome.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import time

from hpcrun import events, upstream
from hpcrun.allocation import from_slurm
from hpcrun.errors import ClusterUnavailable, RunFolderError
from hpcrun.jsonline import dumps
from hpcrun.node import requeue
from hpcrun.run import Run, connect
from hpcrun.states import TERMINAL, aggregate
from hpcrun.status import submitted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from hpcrun.allocation import Allocation
    from hpcrun.rundir import RunDir
    from hpcrun.status import RunStatus

_PATIENCE = 20.0
"""Seconds that accounting, which lags behind, has to explain how the last job ended."""
_LOOK_EVERY = 1.0
_TRIES = 30
"""Starts after which a run that nobody can explain is called failed."""


def carry_out(run: RunDir, in_round: int) -> NoReturn:
    """Tell how `run` has ended with this round, and exit as `hpcrun wait` would."""
    allocation = from_slurm(os.environ)
    if not _is_mine(run.finish_claim(in_round), allocation.job):
        print(f"hpcrun: another job tells how run {run.run_id} ends; {allocation.job} does nothing", file=sys.stderr)
        os._exit(0)
    watched = Run(run.path, connect("slurm"))
    status = _ended(watched)
    if not status.done and _started_too_early(status, allocation) and requeue.requeue(allocation):
        os._exit(0)
    status = _concluded(watched, status)
    facts = {
        "state": status.state, "exit_code": status.exit_code(), "counts": status.counts(),
        "failedIndexes": status.folded("failed", "timed_out", "cancelled"), "at": time.time(),
    }  # fmt: skip
    events.claim(run.outcome(in_round), dumps(facts) + "\n")
    told = upstream.outcome(run.outcome(in_round)) or status.state
    _tell(watched, in_round, told)
    os._exit(status.exit_code())


def _is_mine(claim: str, job: str) -> bool:
    """Whether `job` is the run's finaliser: whoever submitted it may have died before writing that down."""
    events.claim(claim, job)
    with open(claim, encoding="ascii") as file:
        return file.read() == job


def _ended(run: Run) -> RunStatus:
    """The status of `run` once it has ended, or after some patience."""
    end_by = time.monotonic() + _PATIENCE
    while True:
        status = run.status()
        if status.done or time.monotonic() > end_by:
            return status
        time.sleep(_LOOK_EVERY)


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


def _tell(run: Run, in_round: int, state: str) -> None:
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
    jobs = submitted(events.read(waiting.dir.submission)).jobs
    try:
        # The last first: ending one that another waits for would start the other.
        connect("slurm").cancel(waiting.dir, tuple(reversed(jobs)))
    except ClusterUnavailable as error:  # its shards will find the word when they start
        print(f"hpcrun: cannot take run {waiting.id} out of the queue: {error}", file=sys.stderr)
