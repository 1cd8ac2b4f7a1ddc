"""What came of the calls of sbatch that a submission's record leaves open: the witnesses, asked in the right order.

Whether somebody still submits has to be known before the queue is asked: else a job could come between the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from hpcrun import events
from hpcrun.reconcile import Evidence, Key, Listing, doubtful, reconciled, trail
from hpcrun.sender import lives
from hpcrun.sent import Submitted, submitted

if TYPE_CHECKING:
    from hpcrun.cluster import AccountingRow, QueueRow
    from hpcrun.plan import Plan
    from hpcrun.rundir import RunDir


class Inquiry:
    """One look at how the submission of a run stands; made before the queue is asked."""

    def __init__(self, run: RunDir, plan: Plan) -> None:
        self._run, self._plan = run, plan
        record = events.read(run.submission)
        self._sent, self._who = submitted(record), trail(record)
        self.is_in_doubt = doubtful(plan, self._sent)
        """Whether there is a batch of which the record does not tell what came of it."""
        senders = self._who.news if self.is_in_doubt else ()
        self._living = {by: lives(by, run, left=by in self._who.left) for by in senders}
        self._claims = self._claimed((one.batch, one.round) for one in self._sent.unconfirmed)
        self._evidence = Evidence(self._claims, self._living, None, 0.0)

    def written(self) -> Submitted:
        """What the run folder alone tells: a batch whose answer was lost is the job's that has claimed it."""
        return reconciled(self._plan, self._sent, self._who, self._evidence)

    def answered(self, rows: Sequence[QueueRow] | None, asked: float, took: float) -> Submitted:
        """What the queue tells besides: its answer, when it was asked, and how many seconds that took."""
        listing = Listing(self._run.run_id, rows or ())
        several = (key for key, jobs in listing.by_script.items() if len(jobs) > 1)
        claims = {**self._claims, **self._claimed(several)}
        self._evidence = Evidence(claims, self._living, rows, asked, took)
        return self.written()

    def needs_history(self, sent: Submitted) -> bool:
        """Whether accounting may know a job of which the queue knows nothing any more."""
        last = {one.batch: one for one in sent.sent}
        return any(one.never and (one.batch, one.round) in self._who.by for one in last.values())

    def remembered(self, history: Sequence[AccountingRow]) -> Submitted:
        """What accounting tells besides."""
        one = self._evidence
        claims = {**one.claims, **self._claimed(Listing(self._run.run_id, (), history).by_script)}
        self._evidence = Evidence(claims, one.living, one.rows, one.asked, one.took, history)
        return self.written()

    def _claimed(self, keys: Iterable[Key]) -> dict[Key, str]:
        found: dict[Key, str] = {}
        for key in keys:
            try:
                with open(self._run.claim(*key), encoding="ascii") as file:
                    found[key] = file.read()
            except FileNotFoundError:
                continue
        return found
