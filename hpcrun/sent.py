"""Sent: what was given to the cluster for a run, call of sbatch by call, as the record of its submission has it."""

from __future__ import annotations

import dataclasses
import functools

from hpcrun.errors import IndexSetError
from hpcrun.indexes import parse_indexes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from hpcrun.plan import Batch


@dataclasses.dataclass(frozen=True)
class Sent:
    """One call of sbatch, intended, and what came of it."""

    batch: int
    round: int = 0
    """0 for the run's own submission, then one more for each retry by hand."""
    tasks: tuple[int, ...] | None = None
    """The elements of the batch's array that it has; None for all."""
    job: str = ""
    """The job's id; empty where it is not known that there is one."""
    refused: str = ""
    """Slurm's reason, where it said no."""
    never: bool = False
    """Whether it is found out that it has no job and will have none."""
    under_way: bool = False
    """Whether somebody is seen who still submits it."""
    found: str = ""
    """What was found out of it, in words, where its job's id was not written down."""
    shards: frozenset[int] | None = None
    """The shards that it has, where those are not all of its elements'."""

    @property
    def unconfirmed(self) -> bool:
        """Whether nobody knows what came of it."""
        return not self.job and not self.refused and not self.never


@dataclasses.dataclass(frozen=True)
class Submitted:
    """Everything that was given to the cluster for a run, in order."""

    sent: tuple[Sent, ...] = ()
    doubles: tuple[str, ...] = ()
    """The ids of jobs that were made of a script which has another one already; they stand back by themselves."""

    @property
    def jobs(self) -> tuple[str, ...]:
        """The ids of all jobs, in the order of their submission."""
        return tuple(one.job for one in self.sent if one.job)

    @property
    def unconfirmed(self) -> tuple[Sent, ...]:
        """What was intended and has no outcome."""
        return tuple(one for one in self.sent if one.unconfirmed)

    @functools.cached_property
    def _by_batch(self) -> dict[int, list[Sent]]:
        """What was sent of each batch, the last first."""
        found: dict[int, list[Sent]] = {}
        for one in reversed(self.sent):
            found.setdefault(one.batch, []).append(one)
        return found

    def _counting(self, batch: Batch) -> list[Sent]:
        """What was sent of `batch`, the last first, without what changes nothing about what was submitted."""
        mine = self._by_batch.get(batch.index, [])
        submitted = any(one.job for one in mine)
        return [one for one in mine if not one.refused and not one.never] if submitted else mine

    def of_shards(self, batch: Batch) -> Callable[[int], Sent | None]:
        """From a shard of `batch` to the last that has it; None where the batch was never reached."""
        mine, of = self._counting(batch), self.of(batch)
        if all(one.shards is None for one in mine):
            return lambda shard: of(batch.task_of(shard))
        latest: dict[int, Sent] = {}
        for one in mine:
            tasks = batch.tasks if one.tasks is None else one.tasks
            for shard in one.shards or (shard for task in tasks for shard in batch.shards_of(task)):
                latest.setdefault(shard, one)
        return latest.get

    def of(self, batch: Batch) -> Callable[[int], Sent | None]:
        """From an element of `batch` to the last that has it; None where the batch was never reached."""
        mine = self._counting(batch)
        if len(mine) < 2:
            only = mine[0] if mine else None
            return lambda _: only
        latest: dict[int, Sent] = {}
        for one in mine:
            for task in batch.tasks if one.tasks is None else one.tasks:
                latest.setdefault(task, one)
        return latest.get


def submitted(events: Iterable[Mapping[str, Any]]) -> Submitted:
    """The state of a submission from its record."""
    found: dict[tuple[int, int], Sent] = {}
    for event in events:
        key = event.get("batch", -1), event.get("round", 0)
        if event["event"] == "intent":
            tasks, shards = event.get("tasks"), event.get("shards")
            try:
                found[key] = Sent(
                    *key,
                    tasks=None if tasks is None else tuple(parse_indexes(str(tasks))),
                    shards=None if shards is None else frozenset(parse_indexes(str(shards))),
                )
            except IndexSetError:  # garbled, and nothing without it
                continue
        elif event["event"] == "submitted" and key in found:
            found[key] = dataclasses.replace(found[key], job=event["job"])
        elif event["event"] == "refused" and key in found:
            found[key] = dataclasses.replace(found[key], refused=event["reason"])
    return Submitted(tuple(found.values()))
