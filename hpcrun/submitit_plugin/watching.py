"""Runs that somebody has jobs of: their statuses, asked for rarely and for all jobs at once."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from hpcrun.cluster import Cluster
from hpcrun.run import Run
from hpcrun.states import TERMINAL
from hpcrun.status import RunStatus

_SOON, _LATE = 2.0, 30.0
"""Seconds between two statuses of a run on Slurm, at first and in the end."""
_HERE = 0.5
"""The same where a status is a look into a folder."""
_SHARE = 5
"""A status may take this part of the time, one in six."""
_NFS = 15
"""Seconds until what was written on a node is seen everywhere: submitit's own figure."""


_CHANGED = -1.0
"""When a status is due because what was known is known to be wrong."""

_slurm: Cluster | None = None
"""One for all runs: what it is told of one is told of all."""


class Watched:
    """A run with its last status; safe to use from several threads."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._lock = threading.RLock()
        self._status: RunStatus | None = None
        self._next = 0.0
        self._pause = _HERE if self._is_here else _SOON
        self._following: Iterator[RunStatus] | None = None
        self._cancelled: set[int] = set()
        self._round = 0

    @classmethod
    def found(cls, link: Path, run_id: str) -> Watched:
        """The run whose folder `link` leads to, or else the one that hpcrun's settings lead to.

        Raises RunNotFound, RunFolderError.
        """
        global _slurm
        run = Run(str(link.resolve())) if link.exists() else Run.open(run_id)
        if run.plan.cluster == "slurm":
            _slurm = _slurm or run.cluster
            run = Run(run.dir.path, _slurm)
        return cls(run)

    @property
    def _is_here(self) -> bool:
        return self._run.plan.cluster == "local"

    @property
    def patience(self) -> int:
        """Seconds for which a result that is not there may still come."""
        return 0 if self._is_here else _NFS

    @property
    def tries_failures_again(self) -> bool:
        """Whether a function that has failed may be, or is, tried again, so that its failure is not its end."""
        return bool(self._run.plan.budgets.get("failed")) or self._is_retried()

    def _is_retried(self) -> bool:
        """Whether shards have been tried again by hand; what was known before that does not count any more."""
        begun = self._round + 1
        if os.path.exists(self._run.dir.round_claim(begun)):
            with self._lock:
                self._round = begun
                self._status, self._following, self._next = None, None, 0.0
        return bool(self._round)

    def status(self, mode: str) -> RunStatus | None:
        """The status: a new one (``force``), one that is not old (``standard``), or what is there (``cache``)."""
        with self._lock:
            self._is_retried()
            over = self._status is not None and self._status.done
            if mode != "cache" and not over and (mode == "force" or time.monotonic() >= self._next):
                began = time.monotonic()
                status = self._run.status(0.0 if mode == "force" or self._next == _CHANGED else self._pause / 2)
                self._known(status, time.monotonic() - began)
            return self._status

    def _known(self, status: RunStatus, cost: float) -> None:
        self._status = status
        self._next = time.monotonic() + max(self._pause, _SHARE * cost)
        if not self._is_here:
            self._pause = min(_LATE, self._pause * 1.5)

    def step(self) -> bool:
        """Follow the run for a moment; whether there was one to wait in, and nobody else follows in this process."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            if self._following is None:
                self._following = self._run.follow()
            self._status = next(self._following)
            self._next = time.monotonic() + self._pause
        except StopIteration:  # it has ended
            self._following = None
            return False
        finally:
            self._lock.release()
        return True

    def cancel(self, index: int) -> None:
        """End one shard. Raises ClusterUnavailable."""
        status, plan = self.status("force"), self._run.plan
        if status is None or status.shards[index].state in TERMINAL:
            return
        batch = next(batch for batch in plan.batches if batch.first <= index < batch.first + batch.count)
        job = status.shards[index].job
        if plan.cluster == "slurm" and batch.array and batch.pack == 1 and job:
            self._run.cluster.cancel(self._run.dir, (job,))
            self._next = _CHANGED
            return
        self._cancelled.add(index)
        if all(shard.state in TERMINAL or shard.index in self._cancelled for shard in status.shards):
            self._run.cancel()

    def logs(self, index: int, name: str) -> str | None:
        """What a shard has written to ``stdout`` or ``stderr`` in all attempts; None where there is no file yet."""
        found, number = [], 0
        both = not self._run.plan.separate_stderr
        kind = "log" if both else {"stdout": "out", "stderr": "err"}[name]
        while (not both or name == "stdout") and os.path.exists(self._run.dir.log(index, number, kind)):
            with open(self._run.dir.log(index, number, kind), encoding="utf-8", errors="replace") as file:
                found.append(file.read())
            number += 1
        return "".join(found) if found else None
