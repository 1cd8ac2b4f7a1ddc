"""The ledger of a shard: its attempts, and why each of them ended, from their records.

Two may say how an attempt ended: its supervisor, in its record, and, where that could not, the first who saw it. What
the first who saw it said is what others have acted upon, so it holds against a supervisor that comes back from the
dead; but a success that was recorded is one, whoever believed what meanwhile.
"""

from __future__ import annotations

from hpcrun import events

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from hpcrun.rundir import RunDir
    from hpcrun.states import Cause

    Event = Mapping[str, Any]


class Entry:
    """One attempt: its number, its `start` and its `end` as events, each None where there is none."""

    __slots__ = ("end", "number", "own", "start")

    def __init__(self, number: int, own: Sequence[Event], other: Sequence[Event]) -> None:
        self.number, self.own = number, own
        self.start = own[0] if own and own[0]["event"] == "start" else None
        self.end = _end(own, other)

    @property
    def succeeded(self) -> bool:
        """Whether this attempt is the shard's success: that of a gang is one where all of it is."""
        return self.end is not None and self.cause is None and not self.end.get("again")

    @property
    def round(self) -> int:
        """The round of the run's retries by hand that it belongs to."""
        said = self.start or self.end
        return int(said.get("round", 0)) if said is not None else 0

    @property
    def cause(self) -> Cause | None:
        """Why it ended, for budgets: that of the whole gang, where it was part of one."""
        if self.end is None:
            return "lost"
        found: Cause | None = self.end.get("gang", self.end["cause"])
        return found


def _end(own: Sequence[Event], other: Sequence[Event]) -> Event | None:
    ends = [event for event in own if event["event"] == "end"]
    seen = [event for event in other if event["event"] == "end"] if other else ()
    if seen and not (ends and ends[-1]["cause"] is None):
        ends = seen[:1]
    if not ends:
        return None
    for event in own:
        if event["event"] == "given_up":
            return {**ends[-1], "again": False, "detail": event["text"]}
    return ends[-1]


def read(run: RunDir, shard: int) -> list[Entry]:
    """Every attempt of `shard` so far, in order; of those of its gang that it never came to there are empty ones."""
    found: list[Entry] = []
    begun = 0
    while True:
        record, other = run.record(shard, len(found)), run.silence(shard, len(found))
        entry = Entry(len(found), events.read(record), events.read(other))
        there = entry.start is not None or entry.end is not None or events.exists(record)
        if not there and not events.exists(run.records(len(found) + 1)):
            return found[:begun]
        found.append(entry)
        begun = len(found) if there else begun


def history(entries: Sequence[Entry], in_round: int) -> list[Cause | None]:
    """Why each attempt of this round ended; what the rounds before it used up of the budgets is forgotten."""
    return [entry.cause for entry in entries if entry.round == in_round]
