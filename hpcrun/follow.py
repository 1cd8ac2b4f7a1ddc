"""Following a run: its statuses until it has ended, and what somebody who follows does for it on the way.

Nothing that a run promises needs a follower. One makes it faster: the two minutes for which Slurm holds back what it
has requeued are ended (`hpcrun.hasten`), what failed before it could leave a record is started again
(`hpcrun.revive`), and what waits leaves the queue as soon as nothing more of the run may start. Several may follow at
once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from hpcrun import events
from hpcrun.cluster import Cluster
from hpcrun.errors import ClusterUnavailable
from hpcrun.hasten import Hastening, Key, Waiting
from hpcrun.plan import Plan
from hpcrun.revive import Suspect, revived, suspects
from hpcrun.rundir import RunDir
from hpcrun.states import TERMINAL
from hpcrun.status import RunStatus, Said, Seen, address, by_shard, end_of, fold

_RECORDS_EVERY = 0.25
"""Seconds between two looks into the run folder, at least."""
_SHARE = 5
"""A look may take this part of the time, one in six: the folder of a run of 100,000 shards is slow to read."""
_QUEUE_FIRST, _QUEUE_LAST = 2.0, 30.0
"""Seconds between two full looks, which ask the cluster, at first and in the end."""
_ASK_EVERY = 0.15
"""Seconds between two questions about what is to be started again, at least."""
_BELIEVE_AFTER = 3.0
"""Seconds for which an end that nobody has recorded must be seen: on a network file system a record may come late."""
_FRESH = 1.0
"""Seconds for which an answer of the queue may be acted upon: nobody restarts a job faster than in two."""
_CANCEL_AFTER, _CANCEL_EVERY = 2.0, 10.0
"""Seconds that whoever stops a run has to end its jobs, and between two attempts to do so instead."""
_NEVER = float("inf")
_HELD = re.compile("launch.failed.requeued.held")
"""Slurm's reason for a job that it has put back and holds, as a launch of it was not confirmed."""
_NO_TROUBLE = re.compile("no longer pending|already finished|Invalid job id")
"""What Slurm says of jobs that have started or ended meanwhile."""


class Clock(Protocol):
    """What time it is; a test has its own."""

    def monotonic(self) -> float:
        """Seconds since some moment."""
        ...

    def time(self) -> float:
        """Seconds since the epoch."""
        ...

    def sleep(self, seconds: float) -> None:
        """Return after that many seconds."""
        ...


@dataclasses.dataclass(frozen=True)
class Sight:
    """How a follower sees its run: everything there is to know, or what is news by its records alone."""

    look: Callable[[float], Seen]
    """By an answer of the queue of at most that many seconds ago, where it does for what there is to be known."""
    glance: Callable[[Seen], Seen]


class Follower:
    """One who follows the run of `plan`; `statuses` does it."""

    def __init__(self, plan: Plan, run: RunDir, cluster: Cluster, sight: Sight) -> None:
        self._plan, self._run, self._cluster, self._sight = plan, run, cluster, sight
        clock: Clock = time
        self._clock = clock
        now = clock.monotonic()
        self._next_look = self._turn = now
        self._pause = _QUEUE_FIRST
        self._deadline = _NEVER if plan.deadline is None else now + plan.deadline - clock.time()
        self._hastening = Hastening()
        self._ask_from = now
        self._first_seen: dict[Suspect, float] = {}
        self._judged: set[Suspect] = set()
        self._instead: dict[int, Said] = {}
        """What is known better than by the queue's last answer."""
        self._stopped_since, self._cancel_from, self._release_from = _NEVER, now, now
        self._notes: dict[str, str] = {}

    def statuses(self) -> Iterator[RunStatus]:
        """Statuses until the run has ended. The run folder is read often, the cluster asked rarely."""
        seen, now = None, self._clock.monotonic
        while True:
            began = now()
            full = seen is None or began >= self._next_look
            seen = self._sight.glance(seen) if seen is not None and not full else self._look(began)
            self._watch(seen)
            status = fold(self._plan, self._as_told(seen))
            if status.done and (not full or seen.queue_age):  # only a look of now can tell: Slurm may bring it back
                self._look_soon(0.0)
                continue
            yield status
            if status.done:
                return
            self._pass_time(seen, now() + max(_RECORDS_EVERY, _SHARE * (now() - began)))

    def _look(self, began: float) -> Seen:
        """Everything there is to know, with what follows from it done.

        When it is nobody's turn but time's, what others were told will do, and the next turn is counted from then: so
        all who follow runs of one user come to ask together, which is once.
        """
        seen = self._sight.look(self._pause / 2 if began >= self._turn else 0.0)
        if began >= self._turn:
            self._turn = began + self._pause - min(seen.queue_age, self._pause / 2)
            self._pause = min(_QUEUE_LAST, self._pause * 1.5)
        self._next_look = min(self._turn, self._deadline) if self._deadline > began else self._turn
        if self._plan.cluster == "slurm" and seen.queue is not None:
            if self._to_stop(seen):
                self._end_jobs(seen, seen.queue)
            else:
                self._release(seen, seen.queue)
                self._revive(seen)
        return seen

    def _look_soon(self, seconds: float) -> None:
        self._next_look = min(self._next_look, self._clock.monotonic() + seconds)

    def _pass_time(self, seen: Seen, until: float) -> None:
        """Wait for the next look or glance, and do meanwhile what falls due."""
        while True:
            self._hasten(seen)
            now, until = self._clock.monotonic(), min(until, self._next_look)
            if now >= until:
                return
            ask_at = max(self._hastening.ask_at(), self._ask_from)
            self._clock.sleep(max(min(until, ask_at) - now, 0.01))

    def _as_told(self, seen: Seen) -> Seen:
        """`seen` with what this follower knows better, and with what it could not do."""
        queue = {**seen.queue, **self._instead} if seen.queue is not None and self._instead else seen.queue
        return dataclasses.replace(seen, queue=queue, notes=(*seen.notes, *self._notes.values()))

    @contextlib.contextmanager
    def _noting(self, what: str) -> Iterator[None]:
        """Let a cluster that cannot be asked, or a folder that cannot be written, be a note in the statuses."""
        try:
            yield
            self._notes.pop(what, None)
        except (ClusterUnavailable, OSError) as error:
            self._notes[what] = f"{what}: {error}"

    # Jobs that wait for their next attempt.

    def _watch(self, seen: Seen) -> None:
        now, epoch = self._clock.monotonic(), self._clock.time()
        stopped = seen.stopped or events.stopped(self._run)
        if stopped is not None and seen.stopped is None:
            self._look_soon(0.0)
        waiting = {} if stopped is not None else dict(_waiting(self._plan, seen))
        later = {key: Waiting(shard, now + max(0.0, due - epoch)) for key, (shard, due) in waiting.items()}
        self._hastening.watch(later, now)

    def _hasten(self, seen: Seen) -> None:
        """Ask about jobs that are to be started again, where that is due, and have those started that may be."""
        now = self._clock.monotonic()
        if now >= max(self._hastening.ask_at(), self._ask_from):
            queue = self._look_at(seen, self._hastening.jobs())
            after = self._clock.monotonic()
            self._ask_from = after + max(_ASK_EVERY, _SHARE * (after - now))
            if queue is None:
                self._ask_from = after + _QUEUE_FIRST
            elif self._hastening.heard(queue, after):
                self._look_soon(_ASK_EVERY)
        jobs = self._hastening.to_end(self._clock.monotonic())
        if jobs:
            self._hastening.told(set(jobs), self._clock.monotonic())
            with self._noting("requeued shards could not be started at once"):
                refused = self._cluster.start_now(jobs)
                trouble = next((f"{job}: {why}" for job, why in refused.items() if not _NO_TROUBLE.search(why)), "")
                if trouble:
                    raise ClusterUnavailable(trouble)

    def _look_at(self, seen: Seen, jobs: Sequence[str]) -> Mapping[int, Said] | None:
        """What the queue says of these jobs, by shard; None where it does not answer."""
        try:
            return by_shard(self._plan, seen.submitted, self._cluster.look_at(jobs))
        except ClusterUnavailable:
            return None

    def _release(self, seen: Seen, queue: Mapping[int, Said]) -> None:
        """Let go of what Slurm has held because a launch was not confirmed: it would wait for ever.

        So it is after a crash of slurmctld, and where a node stood still: what was started may have been started, and
        the runtime finds out. What people hold stays held.
        """
        held = {shard for shard, said in queue.items() if _HELD.search(said.reason) and said.state not in TERMINAL}
        now = self._clock.monotonic()
        if not held or now < self._release_from:
            return
        jobs = {
            address(self._plan, batch, shard, sent): None
            for batch in self._plan.batches
            for shard in sorted(held.intersection(range(batch.first, batch.first + batch.count)))
            if (sent := seen.submitted.of_shards(batch)(shard)) is not None and sent.job
        }
        self._release_from = now + _CANCEL_EVERY
        with self._noting("what Slurm holds after a failed launch could not be released"):
            self._cluster.release(tuple(jobs))
        self._look_soon(_QUEUE_FIRST)

    # Jobs that ended without a word.

    def _revive(self, seen: Seen) -> None:
        """Start again what has ended by Slurm's word and left no end, once that is sure."""
        now = self._clock.monotonic()
        found = [one for one in suspects(self._plan, seen) if one not in self._judged]
        self._first_seen = {one: self._first_seen.get(one, now) for one in found}
        sure = [one for one in found if now >= self._first_seen[one] + _BELIEVE_AFTER]
        self._instead = {shard: _in_doubt(one) for one in found for shard in one.shards}
        queue, asked = None, -_NEVER
        for one in sure:
            if self._clock.monotonic() > asked + _FRESH:
                queue = self._look_at(seen, [each.job for each in sure])
                asked = self._clock.monotonic()
            said = (queue or {}).get(one.shard)
            if said is None or said.state not in TERMINAL:
                continue
            with self._noting("shards that were lost could not be started again"):
                self._judged.add(one)
                try:
                    revived(self._plan, self._run, self._cluster, one)
                except ClusterUnavailable:
                    self._judged.discard(one)
                    raise
        if sure:
            self._look_soon(_ASK_EVERY)
        elif found:
            self._look_soon(_BELIEVE_AFTER - (now - min(self._first_seen.values())))

    # A run that is stopped.

    def _to_stop(self, seen: Seen) -> bool:
        """Whether nothing more of the run may start: somebody has said so, or its time is up, which is said here."""
        now = self._clock.monotonic()
        if seen.stopped is None and now >= self._deadline and _living(seen.queue or {}):
            seconds = (self._plan.deadline or 0.0) - self._plan.created
            with self._noting("the run could not be stopped for good"):
                events.stop(self._run, "run_timeout", f"its time is up: run_timeout is {seconds:g} s")
            self._stopped_since = now - _CANCEL_AFTER
            return True
        self._stopped_since = min(self._stopped_since, now) if seen.stopped is not None else _NEVER
        return seen.stopped is not None

    def _end_jobs(self, seen: Seen, queue: Mapping[int, Said]) -> None:
        """End what still waits or runs, where whoever has stopped the run has not done so."""
        self._instead = {}
        now = self._clock.monotonic()
        if not _living(queue):
            return
        if now >= max(self._stopped_since + _CANCEL_AFTER, self._cancel_from):
            self._cancel_from = now + _CANCEL_EVERY
            with self._noting("what is left of the run could not be ended"):
                self._cluster.cancel(self._run, tuple(reversed((*seen.submitted.jobs, *seen.submitted.doubles))))
        self._look_soon(_CANCEL_AFTER)


def _living(queue: Mapping[int, Said]) -> bool:
    """Whether anything waits or runs that nobody has ended yet."""
    return any(said.state not in TERMINAL and said.word != "COMPLETING" for said in queue.values())


def _in_doubt(one: Suspect) -> Said:
    return Said("unknown", None, f"Slurm says {one.word}, and no record says more yet")


def _waiting(plan: Plan, seen: Seen) -> Iterator[tuple[Key, tuple[int, float]]]:
    """The jobs that Slurm is to start again: one of the shards of each, and when at the earliest (since the epoch)."""
    for batch in plan.batches if plan.cluster == "slurm" else ():
        of = seen.submitted.of_shards(batch)
        for shard in range(batch.first, batch.first + batch.count):
            attempts = seen.records.get(shard, ())
            if not attempts or (attempts[-1].ended is not None and not attempts[-1].again):
                continue
            sent, last = of(shard), attempts[-1]
            if sent is None or not sent.job or last.round < sent.round or end_of(attempts, sent) is not None:
                continue
            queued = (seen.queue or {}).get(shard)
            in_place = plan.retry == "in_place" or (batch.array and batch.pack > 1)
            if (last.ended is not None and not in_place) or (queued is not None and queued.state == "pending"):
                yield (address(plan, batch, shard, sent), len(attempts)), (shard, last.due or 0.0)
