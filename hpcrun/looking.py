"""look: everything there is to know of some runs now, for at most two questions to the cluster, however many they are.

The folders are read first, then the queue is asked for all of them, then accounting. What somebody else was told by the
queue a while ago is as good for what it shows: that was so. What it does not show, or shows to have ended without a
record, means something only where the queue was asked after everything else that is known of the run. It was, where
nothing of that has been news to this handle since; else it is asked afresh.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hpcrun import events
from hpcrun.errors import AccountingDisabled, ClusterUnavailable, RunFolderError
from hpcrun.inquiry import Inquiry
from hpcrun.sent import Submitted
from hpcrun.sharing import now
from hpcrun.states import TERMINAL
from hpcrun.status import Attempt, Said, Seen, address, by_shard, end_of, settled, unexplained

if TYPE_CHECKING:
    from hpcrun.cluster import AccountingRow, Asked, Cluster
    from hpcrun.plan import Plan
    from hpcrun.rundir import RunDir

_AGAIN_FIRST, _AGAIN_LAST = 2.0, 300.0
"""Seconds until accounting is asked again about what it could not explain, at first and in the end."""
_NEVER = float("inf")
_BY_THEMSELVES = 100
"""How many elements of a job accounting is asked about one by one, rather than about all that the job has."""

Records = Mapping[int, Sequence[Attempt]]
"""The attempts of each shard that has any, in order."""


@dataclasses.dataclass(frozen=True)
class Folder:
    """What a handle on a run finds in its folder, each time anew."""

    dir: RunDir
    plan: Plan
    records: Callable[[], Records]
    tasks: Callable[[Records], Sequence[Mapping[str, Any]]]
    never_launched: Callable[[Submitted], frozenset[int]]


@dataclasses.dataclass(frozen=True)
class _Explained:
    """What accounting has said of the shards that the queue does not account for."""

    of: tuple[tuple[int, str, int], ...]
    """Each of them with its job or element and how many attempts it had had: another one may end otherwise."""
    rows: Sequence[AccountingRow]
    pause: float
    again: float
    """When it is to be asked again."""


class Watch:
    """A run as one handle on it sees it: what it has known, and since when."""

    def __init__(self, folder: Folder, cluster: Cluster) -> None:
        self.folder, self.cluster = folder, cluster
        self.same_since = 0.0
        """Since when the folder has told nothing new, by `now`."""
        self.explained: _Explained | None = None
        self._sent: Submitted | None = None
        self._records: Records = {}

    def found(self, sent: Submitted, records: Records) -> None:
        """This was found in the folder just now."""
        if self._sent != sent or self._records != records:
            self._sent, self._records, self.same_since = sent, records, now()


def look(watches: Sequence[Watch], max_age: float = 0.0) -> list[Seen]:
    """Everything there is to know of each run now, by answers of the queue of at most `max_age` seconds ago.

    Raises RunFolderError where the folder of one is gone.
    """
    looks = [_Look(one) for one in watches]
    since = now() - max_age
    asking = [one for one in looks if not one.is_settled]
    for one in asking:
        one.ask(since)
    _explain([one for one in asking if one.is_to_be_explained()])
    return [one.seen() for one in looks]


def _explain(looks: Sequence[_Look]) -> None:
    """Ask accounting once about all jobs that the queue has forgotten."""
    owners: dict[int, list[_Look]] = {}
    for one in looks:
        owners.setdefault(os.stat(one.folder.dir.path).st_uid, []).append(one)
    for some in owners.values():
        cluster, since = some[0].watch.cluster, min(one.folder.plan.created for one in some)
        try:
            if any(one.needs_history for one in some):
                rows = cluster.history(some[0].folder.dir, since)
            else:
                rows = cluster.accounting(_named(missing for one in some for missing in one.missing))
        except AccountingDisabled:
            continue
        except ClusterUnavailable as error:
            for one in some:
                one.unexplained_for(error)
        else:
            for one in some:
                one.explain(rows)


def _named(missing: Iterable[tuple[int, str, int]]) -> list[str]:
    """What accounting is to be asked about: elements where they are few and have all begun, else their jobs."""
    jobs: dict[str, dict[str, bool]] = {}
    for _, where, attempts in missing:
        begun = jobs.setdefault(where.partition("_")[0], {})
        begun[where] = begun.get(where, False) or attempts > 0
    found: list[str] = []
    jobs.pop("", None)  # nothing was submitted of that
    for job, begun in jobs.items():
        found += begun if len(begun) <= _BY_THEMSELVES and all(begun.values()) else [job]
    return found


class _Look:
    """One look at one run, in its steps."""

    def __init__(self, watch: Watch) -> None:
        self.watch, self.folder = watch, watch.folder
        if not os.path.exists(self.folder.dir.plan):
            path = self.folder.dir.path
            raise RunFolderError(path, "the run folder is gone, and with it all that is known of the run")
        self._inquiry = Inquiry(self.folder.dir, self.folder.plan)
        self._sent = self._written = self._inquiry.written()
        self._records = self.folder.records()
        self.is_settled = settled(self.folder.plan, self._records, self._sent)
        watch.found(self._written, self._records)
        self._read = now()
        self._believed_from = self._read if self._inquiry.is_in_doubt else watch.same_since
        self._queue: Mapping[int, Said] | None = None
        self._accounting: Mapping[int, Said] | None = None
        self._never_launched: frozenset[int] = frozenset()
        self._age = 0.0
        self._notes: tuple[str, ...] = ()
        self.missing: tuple[tuple[int, str, int], ...] = ()
        """The shards that neither records nor the queue account for: their job or element, and number of attempts."""
        self.needs_history = False
        """Whether accounting has to be asked for jobs whose numbers nobody knows."""

    # The queue.

    def ask(self, since: float) -> None:
        """Take in what the queue says, or has said at `since` or later. The records that count are never older."""
        try:
            answer = self._take(since)
            if answer.asked < self._believed_from and self._hinges_on_it():
                answer = self._take(self._believed_from)
            answered = answer.asked + answer.took
        except ClusterUnavailable as error:
            answered = now()
            self._queue, self._notes = None, (f"the queue could not be asked: {error}",)
            self._sent = self._inquiry.answered(None, time.time(), 0.0)
        if answered >= self._read:  # it may show an end whose record was not there yet
            self._records = self.folder.records()
            self.watch.found(self._written, self._records)

    def _take(self, since: float) -> Asked:
        answer = self.watch.cluster.lately(self.folder.dir, since)
        age = max(0.0, now() - answer.asked)
        self._age = 0.0 if answer.asked >= self._read else age
        self._sent = self._inquiry.answered(answer.rows, time.time() - age, answer.took)
        self._queue = by_shard(self.folder.plan, self._sent, answer.rows)
        return answer

    def _hinges_on_it(self) -> bool:
        """Whether anything follows from what this answer does not show, or from an end of which there is no record."""
        queue = self._queue or {}
        for batch in self.folder.plan.batches if not self._inquiry.is_in_doubt else ():
            of = self._sent.of_shards(batch)
            for shard in range(batch.first, batch.first + batch.count):
                said = queue.get(shard)
                goes_on = said is not None and said.state not in TERMINAL
                if not goes_on and end_of(self._records.get(shard, ()), of(shard)) is None:
                    return True
        return self._inquiry.is_in_doubt

    # Accounting.

    def is_to_be_explained(self) -> bool:
        """Whether accounting has to be asked; what it has said before, or cannot say at all, is taken in here."""
        if self._queue is None:
            return False
        shards = unexplained(self.folder.plan, self.seen())
        self.needs_history = self._inquiry.needs_history(self._sent)
        if not shards and not self.needs_history:
            return False
        if not self.folder.plan.accounting:
            self._never_launched = self.folder.never_launched(self._sent)
            return False
        self.missing = tuple(self._with_addresses(shards))
        before = self.watch.explained
        if before is None or before.of != self.missing or now() >= before.again:
            return True
        self._hear(before.rows)
        return False

    def _with_addresses(self, shards: Iterable[int]) -> Iterable[tuple[int, str, int]]:
        wanted = set(shards)
        for batch in self.folder.plan.batches:
            of = self._sent.of_shards(batch)
            for shard in sorted(wanted.intersection(range(batch.first, batch.first + batch.count))):
                yield shard, address(self.folder.plan, batch, shard, of(shard)), len(self._records.get(shard, ()))

    def explain(self, rows: Sequence[AccountingRow]) -> None:
        """Take in what accounting says, and when it is to be asked again: not at all once all of it has ended."""
        said = self._hear(rows)
        before = self.watch.explained
        pause = min(2 * before.pause, _AGAIN_LAST) if before and before.of == self.missing else _AGAIN_FIRST
        ended = all(shard in said and said[shard].state in TERMINAL for shard, _, _ in self.missing)
        again = _NEVER if ended and not self.needs_history else now() + pause
        self.watch.explained = _Explained(self.missing, rows, pause, again)

    def _hear(self, rows: Sequence[AccountingRow]) -> Mapping[int, Said]:
        if self.needs_history:
            self._sent = self._inquiry.remembered(rows)
        self._accounting = by_shard(self.folder.plan, self._sent, rows)
        return self._accounting

    def unexplained_for(self, error: ClusterUnavailable) -> None:
        """Take in that accounting cannot be asked: what is missing from the queue is not lost for that, but unknown."""
        self._notes = (*self._notes, f"accounting could not be asked: {error}")
        unknown = Said("unknown", None, "accounting could not be asked")
        missing = dict.fromkeys(unexplained(self.folder.plan, self.seen()), unknown)
        self._queue = {**missing, **(self._queue or {})}  # of a job that is Slurm's alone the queue knows the end, too

    def seen(self) -> Seen:
        """What has come of it so far."""
        return Seen(
            records=self._records,
            submitted=self._sent,
            queue=self._queue,
            accounting=self._accounting,
            stopped=events.stopped(self.folder.dir),
            stopped_before=events.stopped_before(self.folder.dir),
            asked=time.time(),
            notes=self._notes,
            never_launched=self._never_launched,
            tasks=self.folder.tasks(self._records),
            queue_age=self._age,
        )
