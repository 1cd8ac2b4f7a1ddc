"""The examples, carried out on the cluster as their README says, give what it says."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from containers import User
from examples.checks import check_count, check_folds, check_service, check_sweep
from examples.test_examples import COUNT, COUNT_ALONE, SERVICE, SERVICE_ALONE, SERVICE_SHARDED, merged, results_of

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
Hpcrun = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def hpcrun(user: User) -> Hpcrun:
    """`hpcrun(*args, timeout=…)` on the login node, where the examples' paths hold."""
    for path in sorted(EXAMPLES.rglob("*")):
        if path.is_file() and path.suffix in (".py", ".yaml"):
            user.write(f"examples/{path.relative_to(EXAMPLES)}", path.read_text(encoding="utf-8"))
    return user.hpcrun


def test_eight_shards_count_what_one_process_counts(hpcrun: Hpcrun) -> None:
    """The merged totals of eight nodes' work are those of a single process, to the last name."""
    sharded = merged(hpcrun, "count", results_of(hpcrun, *COUNT))
    check_count(sharded, merged(hpcrun, "count", results_of(hpcrun, *COUNT_ALONE)))


def test_the_sweep_tries_every_combination_and_marks_the_front(hpcrun: Hpcrun) -> None:
    """The table has each combination once, sorted; a star means that nothing beats it in both ways."""
    check_sweep(merged(hpcrun, "sweep", results_of(hpcrun, "examples/sweep/sweep.yaml")))


def test_nine_folds_beat_the_baseline(hpcrun: Hpcrun) -> None:
    """Sylphx's spelling gives nine shards; each function is tested once, and each fold beats the majority."""
    check_folds(merged(hpcrun, "folds", results_of(hpcrun, "examples/folds/folds.yaml")))


def test_workers_restore_what_one_process_restores(hpcrun: Hpcrun) -> None:
    """Three workers, and two shards with three workers each, come to the totals of a process that has none."""
    single = merged(hpcrun, "service", results_of(hpcrun, *SERVICE_ALONE))
    check_service(merged(hpcrun, "service", results_of(hpcrun, *SERVICE)), single)
    check_service(merged(hpcrun, "service", results_of(hpcrun, *SERVICE_SHARDED)), single)
