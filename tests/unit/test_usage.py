"""What a run has used, and what Slurm charged."""

from __future__ import annotations

from typing import Any

import pytest
from unit.made import plan, settings

from hpcrun.cluster import Charge
from hpcrun.config import Machine
from hpcrun.status import Attempt
from hpcrun.usage import Charged, Part, Usage, fold


def attempt(number: int, started: float, ended: float | None = None, **fields: Any) -> Attempt:
    if ended is not None and "cause" not in fields:
        fields["won"] = True
    return Attempt(number, "n1", "7", started, ended, **fields)


def used(attempts: dict[int, list[Attempt]], running: set[int] = frozenset(), **fields: Any) -> Usage:  # type: ignore[assignment]
    return fold(plan(shards=4, **fields), attempts, running, 1100.0, None)


def test_wall_times_units() -> None:
    """compute-seconds = wall-clock seconds × shards × machine units."""
    found = used({shard: [attempt(0, 1000, 1010)] for shard in range(4)}, machine="large")
    assert found.parts == {"succeeded": Part(attempts=4, wall=40, compute=80, gpu=0)}
    assert found.total == found.parts["succeeded"]
    assert found.lost == Part()


@pytest.mark.parametrize(
    ("fields", "units", "gpus"),
    [
        ({}, 1, 0),
        ({"cpus": 3}, 3, 0),
        # Sylphx's tiers count as what Sylphx counts, although Slurm allots whole CPUs.
        ({"machine": "nano"}, 0.125, 0),
        ({"machine": "micro"}, 0.25, 0),
        ({"machine": "small"}, 0.5, 0),
        ({"machine": "standard"}, 1, 0),
        ({"machine": "xlarge"}, 4, 0),
        ({"machine": "mem-2xlarge"}, 4, 0),
        ({"machine": "nano", "cpus": 2}, 2, 0),
        # A site's own.
        ({"machine": "a100"}, 12.5, 1),
        ({"machine": "plain"}, 6, 0),
        # All processes of a shard, and its workers.
        ({"tasks": 4, "cpus": 2, "gpus": 1}, 8, 4),
        ({"worker": {"command": ["s"], "replicas": 3, "cpus": 2, "gpus": 1}, "machine": "nano"}, 6.125, 3),
    ],
)
def test_units(fields: dict[str, Any], units: float, gpus: int) -> None:
    """The units of a shard: CPUs, or what the settings say of its machine; workers and all tasks count."""
    machines = {**settings().machines, "a100": Machine(cpus=8, gpus=1, units=12.5), "plain": Machine(cpus=6)}
    made = plan(fields, shards=1, config=settings().model_copy(update={"machines": machines}))
    found = fold(made, {0: [attempt(0, 0, 10)]}, set(), 20.0, None)
    assert (found.units, found.gpus) == (units, gpus)
    assert found.total == Part(1, 10, 10 * units, 10 * gpus)


def test_attempts_that_failed_cost_too() -> None:
    """What was lost is told by its cause, beside what succeeded."""
    found = used(
        {
            0: [attempt(0, 1000, 1020, cause="failed"), attempt(1, 1030, 1070)],
            1: [
                attempt(0, 1000, 1005, cause="preempted"), attempt(1, 1010, 1020, cause="failed"),
                attempt(2, 1030, 1040),
            ],
        }
    )  # fmt: skip
    assert found.parts == {"succeeded": Part(2, 50, 50), "failed": Part(2, 30, 30), "preempted": Part(1, 5, 5)}
    assert found.lost == Part(3, 35, 35)
    assert found.total == Part(5, 85, 85)


def test_a_shard_of_a_gang_that_has_to_go_again() -> None:
    """Its program ended well, and its work counts for nothing."""
    found = used({0: [attempt(0, 1000, 1010, cause=None, won=False)]})
    assert found.lost == Part(1, 10, 10)


def test_what_runs_counts_until_now() -> None:
    """An attempt without an end of a shard that runs."""
    found = used({0: [attempt(0, 1000)], 1: [attempt(0, 1000, 1010)]}, {0})
    assert found.parts == {"succeeded": Part(1, 10, 10), "running": Part(1, 100, 100)}
    assert found.lost == Part()


def test_ends_that_nobody_saw() -> None:
    """An attempt that left no end took until the next one at most; without a next one nothing is counted, and told."""
    found = used({0: [attempt(0, 1000), attempt(1, 1050)], 1: [attempt(0, 1000)]}, {0})
    assert found.parts["lost"] == Part(2, 50, 50)
    assert found.parts["running"] == Part(1, 50, 50)
    assert found.endless == 1


def test_clocks_that_differ() -> None:
    """No attempt takes less than nothing."""
    assert used({0: [attempt(0, 1000, 990)]}).total == Part(1, 0, 0)


def test_charged() -> None:
    """Slurm's sums are of every start, components and requeued ones included."""
    charges = [
        Charge(10, {"cpu": 2, "billing": 3, "gres/gpu": 1, "node": 1}), Charge(5, {"cpu": 4, "billing": 4}),
        Charge(2, {"cpu": 1}),
    ]  # fmt: skip
    found = fold(plan(), {}, set(), 1.0, charges)
    assert found.charged == Charged(starts=3, wall=17, cpu=42, billing=50, gpu=10)
    assert fold(plan(), {}, set(), 1.0, []).charged == Charged(0, 0, 0, 0, 0)


def test_json() -> None:
    """All of it by name, in seconds."""
    found = fold(
        plan(shards=2, gpus=1), {0: [attempt(0, 0, 1.00049, cause="failed"), attempt(1, 2, 4)]}, set(), 9.0,
        [Charge(3, {"cpu": 1, "billing": 1})], ["a note"],
    )  # fmt: skip
    assert found.to_json() == {
        "run_id": "abc", "name": "train", "units": 1.0, "gpus": 1,
        "attempts": 2, "wall_seconds": 3.0, "compute_seconds": 3.0, "gpu_seconds": 3.0,
        "lost": {"attempts": 1, "wall_seconds": 1.0, "compute_seconds": 1.0, "gpu_seconds": 1.0},
        "outcomes": {
            "succeeded": {"attempts": 1, "wall_seconds": 2, "compute_seconds": 2.0, "gpu_seconds": 2},
            "failed": {"attempts": 1, "wall_seconds": 1.0, "compute_seconds": 1.0, "gpu_seconds": 1.0},
        },
        "attempts_without_end": 0,
        "slurm": {"starts": 1, "wall_seconds": 3, "cpu_seconds": 3, "billing_seconds": 3, "gpu_seconds": 0.0},
        "notes": ["a note"],
    }  # fmt: skip
