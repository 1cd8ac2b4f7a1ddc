"""What a run has used: compute-seconds by its own records, and what Slurm charged for it. Pure.

compute-seconds = wall-clock seconds × machine units, summed over every attempt of every shard (Sylphx's rule, for which
retries are compute like any other). A unit is one CPU, or what the settings say of a machine; docs/usage.md has it all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from hpcrun.cluster import Charge
from hpcrun.plan import Plan
from hpcrun.status import Attempt


@dataclasses.dataclass(frozen=True)
class Part:
    """What some of the attempts took."""

    attempts: int = 0
    wall: float = 0.0
    """Seconds from start to end, of each attempt by itself."""
    compute: float = 0.0
    gpu: float = 0.0
    """GPU-seconds."""

    def plus(self, other: Part) -> Part:
        """Both together."""
        return Part(
            *(mine + its for mine, its in zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True))
        )

    def to_json(self) -> dict[str, Any]:
        """As a JSON value, in seconds."""
        return {
            "attempts": self.attempts,
            "wall_seconds": round(self.wall, 3),
            "compute_seconds": round(self.compute, 3),
            "gpu_seconds": round(self.gpu, 3),
        }


@dataclasses.dataclass(frozen=True)
class Charged:
    """What Slurm's accounting has of all jobs of the run, requeued ones once for each start."""

    starts: int
    wall: float
    cpu: float
    billing: float
    gpu: float

    def to_json(self) -> dict[str, Any]:
        """As a JSON value, in seconds, and seconds times CPUs, billing and GPUs."""
        return {
            "starts": self.starts,
            "wall_seconds": self.wall,
            "cpu_seconds": self.cpu,
            "billing_seconds": self.billing,
            "gpu_seconds": self.gpu,
        }


@dataclasses.dataclass(frozen=True)
class Usage:
    """What a run has used so far."""

    run_id: str
    name: str
    units: float
    """Machine units of a shard with its workers."""
    gpus: int
    """GPUs of a shard with its workers."""
    parts: dict[str, Part]
    """By how the attempts ended: ``succeeded``, ``running``, else the cause. Those but the first two are lost."""
    endless: int
    """Attempts that no longer run and whose end nobody has seen; nothing is counted for them."""
    charged: Charged | None
    """None where there is no accounting, or it could not be asked."""
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> Part:
        """All attempts."""
        return _sum(self.parts.values())

    @property
    def lost(self) -> Part:
        """Attempts that have ended otherwise than well."""
        return _sum(part for outcome, part in self.parts.items() if outcome not in ("succeeded", "running"))

    def to_json(self) -> dict[str, Any]:
        """The usage as a JSON value."""
        return {
            "run_id": self.run_id,
            "name": self.name,
            "units": self.units,
            "gpus": self.gpus,
            **self.total.to_json(),
            "lost": self.lost.to_json(),
            "outcomes": {outcome: part.to_json() for outcome, part in self.parts.items()},
            "attempts_without_end": self.endless,
            "slurm": self.charged.to_json() if self.charged else None,
            "notes": list(self.notes),
        }


def _sum(parts: Iterable[Part]) -> Part:
    found = Part()
    for part in parts:
        found = found.plus(part)
    return found


def fold(
    plan: Plan,
    attempts: Mapping[int, Sequence[Attempt]],
    running: Set[int],
    now: float,
    charges: Sequence[Charge] | None,
    notes: Sequence[str] = (),
) -> Usage:
    """What the `attempts` of each shard have used until `now`; the last ones of the shards `running` run still."""
    units, gpus = _a_shard(plan)
    parts: dict[str, Part] = {"succeeded": Part()}
    endless = 0
    for shard, own in attempts.items():
        for index, attempt in enumerate(own):
            following = own[index + 1].started if index + 1 < len(own) else None
            outcome, end = _ended(attempt, following, now if shard in running else None)
            endless += end is None
            wall = max(0.0, (end or attempt.started) - attempt.started)
            part = Part(1, wall, wall * units, wall * gpus)
            parts[outcome] = parts.get(outcome, Part()).plus(part)
    return Usage(plan.run_id, plan.name, units, gpus, parts, endless, _charged(charges), tuple(notes))


def _ended(attempt: Attempt, following: float | None, now: float | None) -> tuple[str, float | None]:
    """How an attempt ended, and when: where it left no end, when the next one started at the latest."""
    if attempt.ended is not None:
        return ("succeeded" if attempt.won else attempt.cause or "failed"), attempt.ended
    if following is not None:
        return "lost", following
    return ("running", now) if now is not None else ("lost", None)


def _a_shard(plan: Plan) -> tuple[float, int]:
    """Machine units and GPUs of a shard with its workers."""
    roles = [(plan.job, plan.job.tasks), *([(plan.worker, plan.worker.replicas)] if plan.worker else [])]
    return sum(role.units * copies for role, copies in roles), sum(role.gpus * copies for role, copies in roles)


def _charged(charges: Sequence[Charge] | None) -> Charged | None:
    if charges is None:
        return None
    cpu, billing, gpu = (
        sum(charge.seconds * charge.amounts.get(what, 0.0) for charge in charges)
        for what in ("cpu", "billing", "gres/gpu")
    )
    return Charged(len(charges), sum(charge.seconds for charge in charges), cpu, billing, gpu)
