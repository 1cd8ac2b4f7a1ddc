"""The local cluster's supervisor of one run: as many shards at once as the plan allows, until all have ended.

It is detached from whoever submitted the run. A lock that it holds says that it lives; one byte a shard, in the file
``local/states``, says what waits (w), also for other runs (d), runs (r) and has ended (e).
"""

from __future__ import annotations

import fcntl
import os
import sys
import time

from hpcrun import events, ledger, retry
from hpcrun.allocation import on_this_machine
from hpcrun.node import program
from hpcrun.node.shard import carried_through, leave

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence
    from typing import NoReturn

    from hpcrun.jsonline import Value
    from hpcrun.plan import Plan
    from hpcrun.rundir import RunDir
else:
    import _signal as signal  # without the enums that `signal` wraps it in: they cost a shard 4 ms of CPU

_BROKEN = 70
"""What a shard's supervisor exits with when it could not do its work (EX_SOFTWARE); a program may use it too."""
_AWAITED = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT)
_LOOKING = 1.0
"""Seconds for which somebody may look who holds the lock."""
_SET_CHILD_SUBREAPER = 36
"""Of prctl(2)."""


def carry_out(plan: Plan, run: RunDir, chosen: Sequence[int], in_round: int) -> NoReturn:
    """Run the `chosen` shards of `plan` on this machine and exit; says ``ready PID`` on standard output once in charge.

    In round 0 these are all shards, in later ones those that are tried again by hand.
    """
    program.watch()
    lock = os.open(run.local_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    _take(lock)
    if os.fork():
        os._exit(0)  # so that the submitter can wait for its child and keeps no zombie of it
    own = os.getpid()
    if not events.claim(run.claim(0, in_round), f"local-{own}"):
        os.write(2, b"hpcrun: this round of the run has had its supervisor\n")
        os._exit(_BROKEN)
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{own} {os.uname().nodename}\n".encode(), 0)
    supervisor = _Supervisor(plan, run, f"local-{own}", lock, chosen, in_round)
    os.write(1, b"ready %d\n" % own)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # who waits for the end of this stream need not wait for the run
    supervisor.loop()
    os._exit(0)


def _take(lock: int) -> None:
    """Take the run's lock; who only looks who has it, holds it for a moment. Raises BlockingIOError."""
    until = time.monotonic() + _LOOKING
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise
            signal.sigtimedwait((signal.SIGIO,), 0.01)


class _Supervisor:
    def __init__(self, plan: Plan, run: RunDir, job: str, lock: int, chosen: Sequence[int], in_round: int) -> None:
        self._plan, self._run, self._job, self._lock, self._round = plan, run, job, lock, in_round
        self._at_once = plan.batches[0].throttle or plan.shards
        # What is started together: all shards of a gang, else each by itself.
        self._units = [range(plan.shards)] if plan.gang else [range(i, i + 1) for i in chosen]
        self._running: dict[int, range] = {}
        self._devices = list(plan.devices)
        self._given: dict[range, list[str]] = {}
        self._next = 0
        self._told = False
        # What supervisors that were killed have left behind: while it lives, nothing else is started.
        self._left: set[int] = set()
        self._states = os.open(run.local_states, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        states = bytearray(b"e" * plan.shards)
        for unit in self._units:
            states[unit.start : unit.stop] = b"w" * len(unit)
        os.pwrite(self._states, states, 0)
        # Its other end is open in this process alone, so it closes with it.
        self._lifeline, self._alive = os.pipe()

    def loop(self) -> None:
        if self._plan.upstream and not self._round:  # who starts a run again by hand does not wait for others
            self._told = not self._let_start()
        while self._running or self._waiting():
            while self._waiting() and len(self._running) < self._at_once and not self._left:
                self._start(self._units[self._next])
                self._next += 1
            _adopt_orphans()
            if self._running or self._left:
                self._heed(int(signal.sigwaitinfo(_AWAITED).si_signo))

    def _let_start(self) -> bool:
        """Wait for the runs before this one; whether anything is to start then."""
        from hpcrun.node import waiting

        os.pwrite(self._states, b"d" * self._plan.shards, 0)
        if waiting.await_end(self._plan, _AWAITED, (self._alive, self._lock)) is not None:
            return False
        waiting.look_back(self._plan, self._run)
        os.pwrite(self._states, b"w" * self._plan.shards, 0)
        return not os.path.exists(self._run.cancelled)

    def _waiting(self) -> bool:
        return self._next < len(self._units) and not self._told

    def _heed(self, number: int) -> None:
        if number != signal.SIGCHLD and not self._told:
            self._told = True
            for process in self._running:
                os.kill(process, signal.SIGTERM)
        while self._running or self._left:
            process, status = os.waitpid(-1, os.WNOHANG)
            if not process:
                return
            self._left.discard(process)
            if process in self._running:  # else a child of what this process was before it executed Python
                self._ended(self._running.pop(process), status)

    def _start(self, unit: range) -> None:
        count = self._gpus() * len(unit)
        self._given[unit], self._devices = self._devices[:count], self._devices[count:]
        process = os.fork()
        if process == 0:
            os.close(self._alive)
            os.close(self._lock)  # or the run would seem to be supervised for as long as this copy lives
            if count:
                os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(self._given[unit])
            self._carry_out(unit)
        self._running[process] = unit
        os.pwrite(self._states, b"r" * len(unit), unit.start)

    def _gpus(self) -> int:
        """How many GPUs one shard has, with its workers."""
        job, worker = self._plan.job, self._plan.worker
        return job.gpus * job.tasks + (worker.gpus * worker.replicas if worker else 0)

    def _carry_out(self, unit: range) -> NoReturn:
        try:
            allocation = on_this_machine(os.uname().nodename, self._job, unit.start)
            allocation.round = self._round
            plan, run = self._plan, self._run
            if plan.worker is None and not plan.gang:
                leave(carried_through(plan, run, allocation, unit.start, self._lifeline, in_place=True)[0])
            from hpcrun.node import together

            leave(together.carried_through(plan, run, allocation, unit, self._lifeline, in_place=True)[0])
        except BaseException:
            # This is a copy of the supervisor: it must not run on as a second one.
            sys.excepthook(*sys.exc_info())
        os._exit(_BROKEN)

    def _ended(self, unit: range, status: int) -> None:
        again = [self._record_loss(shard, status) for shard in unit]
        self._devices = sorted(self._devices + self._given.pop(unit), key=self._plan.devices.index)
        if any(again):
            self._units.append(unit)
            self._left |= set(_orphans(self._run.start)) - self._running.keys()
        os.pwrite(self._states, (b"w" if any(again) else b"e") * len(unit), unit.start)

    def _record_loss(self, shard: int, status: int) -> bool:
        """Record the end of a shard whose own supervisor could not; whether it is tried again."""
        if not os.WIFSIGNALED(status) and os.WEXITSTATUS(status) != _BROKEN:
            return False
        entries = ledger.read(self._run, shard)
        # The shard's own supervisor was killed, or could not write; its guard has ended the program.
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        stopped = self._told or os.path.exists(self._run.cancelled) or not number
        if not entries:
            return False
        if entries[-1].end is not None:  # it was killed between two attempts
            return bool(entries[-1].end.get("again")) and not stopped
        again = not stopped and retry.again(self._plan.budgets, ledger.history(entries, self._round))
        facts: dict[str, Value] = {
            "at": time.time(),
            "exit_code": -1,
            "signal": number,
            "cause": "lost",
            "again": again,
        }
        try:
            events.add(self._run.record(shard, entries[-1].number), "end", facts)
        except OSError as error:  # the others are to go on
            os.write(2, f"hpcrun: cannot record the end of shard {shard}: {error.strerror}\n".encode())
            return False
        return again


_adopts = False


def _adopt_orphans() -> None:
    """Let what a killed supervisor leaves behind become children of this process, so that it sees their end."""
    global _adopts
    if _adopts:
        return
    _adopts = True
    try:
        import ctypes  # when the first shards have been started: nobody is to wait for it

        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    except (ImportError, OSError, AttributeError):  # then the next attempt may begin while the last one still ends
        pass


def _orphans(start: str) -> list[int]:
    """The guards and agents among this process's children: copies of the runtime, which is the file `start`."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
            return [int(process) for process in file.read().split() if _runs(int(process), start)]
    except OSError:
        return []


def _runs(process: int, start: str) -> bool:
    try:
        with open(f"/proc/{process}/cmdline", "rb") as file:
            return os.fsencode(start) in file.read().split(b"\0")
    except OSError:
        return False
