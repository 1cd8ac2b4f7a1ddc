"""What has gone wrong with single shards since somebody last looked, one line each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hpcrun import ledger, retry
from hpcrun.run import Run
from hpcrun.states import TERMINAL
from hpcrun.status import RunStatus, ShardStatus

_AT_A_TIME = 8
"""Shards that are told of one by one in each look."""
_ALTOGETHER = 200
"""Lines after which the counts must do."""

_HOW = {
    "out_of_memory": "ran out of memory",
    "timed_out": "ran into its time limit",
    "preempted": "was preempted",
    "node_failed": "was lost with its node",
    "launch_failed": "ended before its program started",
    "lost": "was lost without a word",
    "cancelled": "was cancelled",
}


class Mishaps:
    """Tells of each bad end of an attempt once, those that are final first."""

    def __init__(self, run: Run, first: RunStatus | None = None) -> None:
        """Of the ends that `first` knows of nothing is said."""
        self._run = run
        self._known: dict[int, tuple[object, ...]] = {}
        self._told: dict[int, int] = {}
        self._lines = 0
        if first is not None:
            self._known = {shard.index: _facts(shard) for shard in _troubled(first)}
            for shard in first.shards:
                # One that is tried again by hand may be starting, with no attempt of its new round begun.
                goes_on = shard.state in ("starting", "running") and shard.started is not None
                self._told[shard.index] = shard.attempts - goes_on

    def news(self, status: RunStatus) -> list[str]:
        """The lines to print now."""
        changed = [shard for shard in _troubled(status) if self._known.get(shard.index) != _facts(shard)]
        self._known.update((shard.index, _facts(shard)) for shard in changed)
        if not changed or self._lines >= _ALTOGETHER:
            return []
        changed.sort(key=lambda shard: (shard.state not in TERMINAL, shard.index))
        lines = [line for shard in changed[:_AT_A_TIME] for line in self._of(shard)]
        self._lines += len(lines)
        if self._lines >= _ALTOGETHER:
            lines.append(f"… further ones are only counted; hpcrun status {status.run_id} --all shows them")
        elif len(changed) > _AT_A_TIME:
            lines.append(f"… and {len(changed) - _AT_A_TIME} more shards")
        return lines

    def _of(self, shard: ShardStatus) -> list[str]:
        """One line for each attempt of a shard that has ended badly and has not been told of."""
        entries = ledger.read(self._run.dir, shard.index)
        since = self._told.get(shard.index, 0)
        self._told[shard.index] = sum(entry.end is not None for entry in entries)
        lines = [
            line
            for number in range(since, len(entries))
            if (line := _line(shard, entries[: number + 1], self._budgets))
        ]
        if not entries and shard.state in TERMINAL:
            lines = [f"shard {shard.index}: {shard.state}{f', {shard.detail}' if shard.detail else ''}"]
        return lines

    @property
    def _budgets(self) -> Mapping[str, int]:
        return self._run.plan.budgets


def _troubled(status: RunStatus) -> list[ShardStatus]:
    """The shards that have not simply waited, run and succeeded."""
    return [
        shard
        for shard in status.shards
        if shard.attempts > 1 or (shard.cause is not None and shard.cause != "cancelled")
    ]


def _facts(shard: ShardStatus) -> tuple[object, ...]:
    return shard.attempts, shard.cause, shard.state in TERMINAL


def _line(shard: ShardStatus, entries: Sequence[ledger.Entry], budgets: Mapping[str, int]) -> str:
    """What to say of the last of these attempts; nothing where it goes on or was a success."""
    entry = entries[-1]
    if entry.end is None or entry.end["cause"] is None:
        return ""
    node = entry.start["node"] if entry.start is not None else ""
    said = f"shard {shard.index}: attempt {entry.number} {how(entry.end)}{f' on {node}' if node else ''}"
    causes = ledger.history(entries, entry.round)
    name = retry.budget(entry.cause)
    used, budget = [retry.budget(cause) for cause in causes].count(name), budgets.get(name, 0)
    kind = _KIND.get(name, "retries")
    again = entry.end.get("again")
    if again or (again is None and retry.again(budgets, causes)):
        return f"{said}; tried again ({used} of {budget} {kind} used)"
    detail = entry.end.get("detail", "")
    if used > budget > 0:
        return f"{said}; none of {budget} {kind} left"
    return f"{said} ({detail})" if detail else said


_KIND = {
    "preempted": "retries after preemption",
    "node_failed": "retries after the loss of a node",
    "launch_failed": "further launches",
    "timed_out": "retries after the time limit",
}


def how(end: Mapping[str, object]) -> str:
    """How an attempt ended, from its end: ``failed with exit code 3``."""
    if end["cause"] != "failed":
        return _HOW.get(str(end["cause"]), str(end["cause"]))
    code = end.get("exit_code")
    if end.get("signal"):
        return f"was killed by signal {end['signal']}"
    return f"failed with exit code {code}" if code != -1 else "failed"
