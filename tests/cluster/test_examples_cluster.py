"""The examples, carried out on the cluster as their README says, give what it says."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from containers import User
from examples.checks import check_count, check_folds, check_queue, check_service, check_sweep
from examples.test_examples import (
    COUNT,
    COUNT_ALONE,
    JOBS,
    SERVICE,
    SERVICE_ALONE,
    SERVICE_SHARDED,
    all_processed,
    merged,
    queue_of,
    results_of,
)

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


@pytest.fixture
def redis(user: User) -> Iterator[str]:
    """The URL of a Redis server on the login node, which every node reaches."""
    free = "import socket; s = socket.socket(); s.bind(('', 0)); print(s.getsockname()[1])"
    port = user.ok("python3", "-c", free).strip()
    options = ["--bind", "0.0.0.0", "--protected-mode", "no", "--save", "", "--dir", user.folder, "--daemonize", "yes"]
    user.ok("redis-server", "--port", port, *options)
    yield f"redis://login:{port}/0"
    user.ok("redis-cli", "-p", port, "shutdown", "nosave")


def test_workers_empty_a_queue(hpcrun: Hpcrun, user: User, redis: str) -> None:
    """Velda's eight workers, as they are: all jobs are processed, each once, until the run is cancelled."""

    def with_queue(*words: str) -> subprocess.CompletedProcess[str]:
        return user.sh('export REDIS_URL="$1"; shift; exec "$@"', redis, *words)

    run_id = queue_of(lambda *words: with_queue("hpcrun", *words), 8)
    pushed = with_queue("python3", "examples/queue/push.py", str(JOBS))
    assert pushed.stdout == f"{JOBS} jobs put into the queue\nthe queue is empty\n", pushed.stderr
    check_queue(all_processed(hpcrun, run_id), JOBS)
