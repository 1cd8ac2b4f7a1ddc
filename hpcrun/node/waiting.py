"""The runs before this one, as seen on the node: whether they have ended as they were to, and, locally, the wait.

On Slurm a dependency on the finaliser of each of them does the waiting, and the finaliser stops this run where it must
not start. That is looked up here once more before anything runs, so that no promise rests on the finaliser: it may
have been cancelled, or may have been unable to end this run's jobs.
"""

from __future__ import annotations

import fcntl
import os

from hpcrun import events, upstream
from hpcrun.rundir import RunDir

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence
    from typing import NoReturn

    from hpcrun.plan import Plan, Upstream
else:
    import _signal as signal


def look_back(plan: Plan, run: RunDir) -> None:
    """Leave the word that nothing of `run` may start, where a run before it has not ended as it was to."""
    if os.path.exists(run.let_start) or os.path.exists(run.cancelled):
        return
    for one in plan.upstream:
        state = _state(one)
        if not upstream.met(one.kind, state):
            events.stop(run, upstream.hindered(state), upstream.refusal(one.kind, one.run_id, state))
            return
    events.mark(run.let_start)


def _state(one: Upstream) -> str:
    """How the run before has ended: as its finaliser says, or else as it looks now."""
    from hpcrun.errors import HpcrunError

    told = upstream.outcome(RunDir(one.path).outcome(one.round))
    if told:
        return told
    from hpcrun.run import Run

    try:
        return Run(one.path).status().state
    except HpcrunError:
        return "gone"


def await_end(plan: Plan, awaited: Sequence[int], shut: Sequence[int]) -> int | None:
    """Wait until the local supervisors of the runs before this one are gone; the signal that came instead, if one did.

    `awaited` are the signals to wait for, SIGCHLD among them; `shut` the descriptors that only this process may hold.
    """
    for one in plan.upstream:
        waits, ends = os.pipe()
        child = os.fork()
        if child == 0:
            for descriptor in (*shut, ends):
                os.close(descriptor)
            _wait_for(RunDir(one.path).local_lock, waits)
        os.close(waits)
        came = _end_of(child, awaited)
        os.close(ends)
        if came is not None:
            return came
    return None


def _wait_for(lock: str, waits: int) -> NoReturn:
    """Wait, in a process for this alone, until nobody holds `lock` or its parent is gone."""
    # A pipe that is closed sends SIGIO, which ends this process; nothing else ends a flock.
    try:
        signal.signal(signal.SIGIO, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGIO,))
        fcntl.fcntl(waits, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(waits, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
        try:
            os.read(waits, 1)  # its parent is gone already
        except BlockingIOError:
            fcntl.flock(os.open(lock, os.O_RDONLY | os.O_CLOEXEC), fcntl.LOCK_SH)
    finally:
        os._exit(0)  # without the lock's file, too: how that run has ended is looked up afterwards, if it can be


def _end_of(child: int, awaited: Sequence[int]) -> int | None:
    """Wait for the end of `child`, or end it for the sake of another signal, which is returned."""
    while True:
        came = int(signal.sigwaitinfo(awaited).si_signo)
        if came != signal.SIGCHLD:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return came
        if os.waitpid(child, os.WNOHANG)[0]:
            return None
