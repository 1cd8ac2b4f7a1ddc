"""Ending the wait of requeued jobs: what Slurm holds back for two minutes may start as soon as that is safe. Pure.

A job that has been requeued waits until its old credential has expired (``cred_expire``, 120 s by default). Its owner
may end the wait, but not at once: credentials count whole seconds, and what starts again on its node in the second of
its requeue is killed for one that was revoked. And what is said while the job is still being taken off its node is
overwritten. So: not before two seconds after the job was first seen to wait, and only while that same wait goes on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping

from hpcrun.states import TERMINAL
from hpcrun.status import Said

SAFE = 2.0
"""Seconds from when a job was first seen to have left its node to its next start, at least."""
_MARGIN = 0.1
_GATHER = 0.6
"""Seconds that a job may be kept waiting for others, so that Slurm is told of all at once: its scheduler runs within a
second of being told, but not again for three (``batch_sched_delay``)."""
_FRESH = 0.3
"""Seconds for which the queue's word that a job waits may be acted upon."""
_FOR_ITS_TIME = "BeginTime"
"""Slurm's reason for a job that waits for nothing but its time."""
_FIRST, _SLOWEST = 0.15, 5.0
"""Seconds between two questions about a job that is not seen to wait yet, at first and in the end."""
_NEVER = float("inf")
_CHECK, _CHECK_SLOWEST = 3.0, 60.0
"""Seconds until it is looked whether a job has started after all, at first and in the end."""

Key = tuple[str, int]
"""A job or element as scontrol names it, and how many attempts it has had: each wait is one of its own."""


@dataclasses.dataclass(frozen=True)
class Waiting:
    """That a job is to be started again: one of its shards, and before when it is not to be (back-off)."""

    shard: int
    not_before: float


@dataclasses.dataclass
class _Wait:
    """One wait of one job. Times are those of a monotonic clock."""

    shard: int
    not_before: float
    ask_at: float
    pause: float = _FIRST
    since: float | None = None
    """When it was first seen to wait, off its node, for the time `begin`."""
    begin: str = ""
    heard: float = 0.0
    """When the queue last said so."""
    told: bool = False
    """Whether Slurm has been told to start it."""
    held: bool = False

    def due(self) -> float | None:
        """When Slurm may be told; None where nothing is to be said yet."""
        if self.since is None or self.told or self.held:
            return None
        return max(self.since + SAFE, self.not_before)


class Hastening:
    """The jobs of one run that wait for their next attempt, and when what is to be said and asked about them."""

    def __init__(self) -> None:
        self._waits: dict[Key, _Wait] = {}

    def watch(self, waiting: Mapping[Key, Waiting], now: float) -> None:
        """These wait now; all others do not any more."""
        self._waits = {
            key: self._waits.get(key) or _Wait(one.shard, one.not_before, ask_at=max(now, one.not_before - 2 * SAFE))
            for key, one in waiting.items()
        }

    def ask_at(self) -> float:
        """When the queue is to be asked next."""
        others = min((wait.ask_at for wait in self._waits.values() if wait.due() is None), default=_NEVER)
        return min(self._tell_at(), others)

    def _tell_at(self) -> float:
        """When Slurm is to be told something next; before that it is asked whether they still wait."""
        due = [at for wait in self._waits.values() if (at := wait.due()) is not None]
        first = min(due, default=_NEVER)
        return max((at for at in due if at <= first + _GATHER), default=_NEVER) + _MARGIN

    def jobs(self) -> list[str]:
        """All that wait."""
        return [job for job, _ in self._waits]

    def heard(self, queue: Mapping[int, Said], now: float) -> bool:
        """Take in what the queue said, by shard; whether one of the jobs has ended instead of starting again."""
        ended = False
        for wait in self._waits.values():
            said = queue.get(wait.shard)
            _hear(wait, said, now)
            ended = ended or (said is not None and said.state in TERMINAL)
        return ended

    def to_end(self, now: float) -> list[str]:
        """The jobs whose wait may be ended now, by what the queue has just said."""
        if now < self._tell_at():
            return []
        due = ((job, wait, wait.due()) for (job, _), wait in self._waits.items())
        return [job for job, wait, at in due if at is not None and at <= now <= wait.heard + _FRESH]

    def told(self, jobs: Collection[str], now: float) -> None:
        """Slurm has been told to start these."""
        for (job, _), wait in self._waits.items():
            if job in jobs:
                wait.told, wait.pause = True, max(_CHECK, wait.pause)
                wait.ask_at = now + wait.pause


def _hear(wait: _Wait, said: Said | None, now: float) -> None:
    if said is None or said.word != "PENDING":
        wait.since, wait.told, wait.held = None, False, False
        if now >= wait.ask_at:
            wait.ask_at, wait.pause = now + wait.pause, min(wait.pause * 1.5, _SLOWEST)
        return
    if wait.since is None or said.begin != wait.begin:
        wait.since, wait.begin = now, said.begin
        wait.told = wait.told and said.reason != _FOR_ITS_TIME
    wait.heard, wait.held = now, said.reason.startswith("JobHeld")
    if now >= wait.ask_at:
        if said.reason == _FOR_ITS_TIME:
            wait.told = False  # what was said came too early, or was lost
        wait.pause = min(max(wait.pause * 2, _CHECK), _CHECK_SLOWEST)
        wait.ask_at = now + wait.pause
