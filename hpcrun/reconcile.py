"""reconciled: what came of each call of sbatch whose answer was not written down. Pure.

A submission writes who submits, then for each batch its intent before the call of sbatch and the job's id after it.
When it is killed, or Slurm gives no answer, the last intent is left without an outcome. Three witnesses tell it: the
claim of a job that has begun, the path of its script in Slurm's queue and accounting, and, for that there is none,
the end of whoever could still submit it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hpcrun.cluster import AccountingRow, QueueRow
from hpcrun.plan import Plan
from hpcrun.sender import Sender, from_facts
from hpcrun.sent import Sent, Submitted

NOBODY = "nobody"
"""What stands in the claim of a batch that no job may run any more, because its shards were given to another."""
ARRIVES = 5.0
"""Seconds for which slurmctld may still be busy with a submission whose sender is gone."""
AT_ONCE = 3.0
"""Seconds within which a slurmctld answers that is neither frozen nor swamped, so that what came before is done."""
ELSEWHERE = 300.0
"""Seconds without news after which a process on another machine, which cannot be seen, counts as gone."""

Key = tuple[int, int]
"""(batch, round)."""

_SCRIPT = re.compile(r"/([^/]+)/scripts/(\d+)(?:\.(\d+))?\.sh$")


@dataclasses.dataclass(frozen=True)
class Trail:
    """Who submitted what, by the submission's record."""

    by: Mapping[Key, Sender]
    """The sender of each intent, where it is known."""
    last: Sender | None
    """Who came last."""
    news: Mapping[Sender, float]
    """When each sender last wrote, in seconds since the epoch."""
    left: frozenset[Sender]
    """Those that have written that they submit nothing more."""

    def still(self, by: Sender | None, living: Mapping[Sender, bool | None], now: float) -> str:
        """Why `by` may still submit something, in words; empty where it is certain that it does not.

        `living` says who is seen; None is a process on another machine, which cannot be.
        """
        if by is None:
            return ""
        if living.get(by):
            return f"{by} is submitting it"
        if by not in self.left and living.get(by) is None and now - self.news[by] < ELSEWHERE:
            return f"{by} may still submit it; on that machine `hpcrun status` can tell"
        return ""


def trail(events: Iterable[Mapping[str, Any]]) -> Trail:
    """The trail in a submission's record."""
    by: dict[Key, Sender] = {}
    news: dict[Sender, float] = {}
    left: set[Sender] = set()
    now: Sender | None = None
    for event in events:
        if event["event"] == "sending":
            now = from_facts(event)
            left.discard(now)
        if now is None:
            continue
        news[now] = event.get("at", news.get(now, 0.0))
        if event["event"] == "intent":
            by[event["batch"], event.get("round", 0)] = now
        elif event["event"] == "left":
            left.add(now)
    return Trail(by, now, news, frozenset(left))


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What there is to find it out with."""

    claims: Mapping[Key, str]
    """The jobs that have claimed their batch."""
    living: Mapping[Sender, bool | None]
    """Whether a sender was there still, before the queue was asked; None where it cannot be seen from here."""
    rows: Sequence[QueueRow] | None
    """What the queue said; None where it was not asked, or gave no answer."""
    asked: float
    """When the queue was asked, in seconds since the epoch."""
    took: float = 0.0
    """How many seconds its answer took."""
    history: Sequence[AccountingRow] = ()
    """What accounting has of everything since the run began."""


class Listing:
    """The jobs of a run in what Slurm lists, told from all others by their scripts and by their comment.

    The run's id is in the path of a script, wherever a machine has mounted it. Some sites' own sbatch submits a copy
    from another place; then the comment is left.
    """

    def __init__(self, run_id: str, rows: Iterable[QueueRow], history: Iterable[AccountingRow] = ()) -> None:
        listed = {(row.job, row.script, row.comment) for row in rows} | {(row.job, row.script, "") for row in history}
        self._told_apart = {job for job, script, _ in listed if script}
        self._by_comment: set[str] = set()
        found: dict[Key, set[str]] = {}
        for job, script, comment in listed:
            match = _SCRIPT.search(script)
            if match and match[1] == run_id:
                found.setdefault((int(match[2]), int(match[3] or 0)), set()).add(job)
            elif f"hpcrun:{run_id}" in comment.split(" "):
                self._by_comment.add(job)
        self.by_script = {key: sorted(jobs, key=int) for key, jobs in found.items()}
        """The jobs of each script that has any, the first submitted first."""

    def of(self, key: Key, known: Iterable[str]) -> list[str]:
        """The jobs of one script; where there is none, those that only have the comment and are not `known`."""
        return self.by_script.get(key) or sorted(self._by_comment - set(known), key=int)

    def is_another(self, job: str, key: Key) -> bool:
        """Whether the job of this number is not that of the script: Slurm may give a number a second time."""
        ours = job in self._by_comment or job in self.by_script.get(key, ())
        return job in self._told_apart and not ours


def doubtful(plan: Plan, sent: Submitted) -> bool:
    """Whether there is a batch of which the submission's record does not tell what came of it."""
    reached = {one.batch for one in sent.sent}
    return bool(sent.unconfirmed) or any(batch.index not in reached for batch in plan.batches)


def reconciled(plan: Plan, sent: Submitted, who: Trail, evidence: Evidence) -> Submitted:
    """`sent` with everything that `evidence` tells of what it leaves open.

    Batches that the submission never came to are added, as never submitted or as still to come.
    """
    listing = Listing(plan.run_id, evidence.rows or (), evidence.history)
    alone = len(sent.unconfirmed) == 1
    told = [_told(one, _candidates(one, listing, sent.jobs if alone else None), who, evidence) for one in sent.sent]
    if plan.supervised:  # a script that Slurm alone carries out stands anywhere
        told = [_lost(one) if one.job and listing.is_another(one.job, (one.batch, one.round)) else one for one in told]
    reached = {one.batch for one in sent.sent}
    told += [_unreached(batch.index, who, evidence) for batch in plan.batches if batch.index not in reached]
    listed = {job for jobs in listing.by_script.values() for job in jobs}
    doubles = sorted(listed - {one.job for one in told}, key=int)
    return Submitted(tuple(sorted(told, key=lambda one: one.round)), tuple(doubles))


def _candidates(one: Sent, listing: Listing, known: Sequence[str] | None) -> list[str]:
    """The jobs that may be those of an intent; with the ids of all others `known`, also one without its path."""
    key = one.batch, one.round
    return listing.by_script.get(key, []) if known is None or not one.unconfirmed else listing.of(key, known)


def _lost(one: Sent) -> Sent:
    """A job whose number is another's by now: a slurmctld that crashes forgets its last seconds."""
    return dataclasses.replace(one, job="", never=True, found=f"Slurm has lost job {one.job} and given its number away")


def _told(one: Sent, jobs: Sequence[str], who: Trail, evidence: Evidence) -> Sent:
    claim = evidence.claims.get((one.batch, one.round), "")
    if claim == NOBODY:
        return dataclasses.replace(one, job="", never=True, found="never submitted, and then tried again by hand")
    if claim:
        return dataclasses.replace(one, job=claim)
    if not one.unconfirmed:
        return one
    if jobs:
        return dataclasses.replace(one, job=jobs[0])
    by = who.by.get((one.batch, one.round))
    still = who.still(by, evidence.living, evidence.asked)
    if still:
        return dataclasses.replace(one, found=still, under_way=by is not None and bool(evidence.living.get(by)))
    since = evidence.asked - (who.news[by] if by is not None else 0.0)
    if evidence.rows is None:
        return dataclasses.replace(one, found="its submission ended before an answer came, and Slurm cannot be asked")
    if since < ARRIVES or evidence.took > AT_ONCE:
        return dataclasses.replace(one, found="its submission may just be arriving; ask again in a few seconds")
    return dataclasses.replace(one, never=True, found="never submitted: the submission ended before Slurm had it")


def _unreached(batch: int, who: Trail, evidence: Evidence) -> Sent:
    """A batch that has no intent: nobody has called sbatch for it, so Slurm need not be asked."""
    still = who.still(who.last, evidence.living, evidence.asked)
    if not still:
        return Sent(batch, never=True, found="never submitted: the submission ended before its turn")
    return Sent(batch, found=still, under_way=who.last is not None and bool(evidence.living.get(who.last)))
