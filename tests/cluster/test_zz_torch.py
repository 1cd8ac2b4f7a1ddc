"""Gangs of shards train with torch.distributed, on nodes that have Debian's torch.

Late, for it makes the cluster anew and back; torch goes into an image of its own, which nobody else has to carry.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from containers import Login, User, up
from examples.checks import check_train
from gangs import gone
from waiting import until

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "train"
NODES = ["c1", "c2", "c3", "c4"]
TRAIN = "examples/train/train.yaml"
TRAIN_ALONE = ("--", "python3", "examples/train/train.py")


@pytest.fixture(scope="module", autouse=True)
def torch_everywhere(login: Login) -> Iterator[None]:
    """Nodes with torch while this module's tests run; libz3-4, of which torch needs what the image leaves out."""
    up("--with", "python3-torch,libz3-4")
    yield
    up()


@pytest.fixture(scope="module")
def trainer(torch_everywhere: None, login: Login) -> User:
    """The user, in a folder where the example's paths hold."""
    user = User(login, f"/shared/tests/{uuid.uuid4().hex[:12]}")
    for path in EXAMPLE.glob("*.*"):
        user.write(f"examples/train/{path.name}", path.read_text(encoding="utf-8"))
    return user


@pytest.fixture(scope="module")
def alone(trainer: User) -> str:
    """The run in which a single process has trained."""
    return trainer.submit(*TRAIN_ALONE)


def trained(user: User, run_id: str) -> dict[str, Any]:
    """What a run of the example has left, once it has succeeded."""
    waited = user.hpcrun("wait", run_id)
    assert waited.returncode == 0, waited.stdout + waited.stderr
    found: dict[str, Any] = user.results(run_id, "train.json")["train.json"]
    return found


def test_four_nodes_train_what_one_process_trains(trainer: User, alone: str) -> None:
    """Two gangs at once, each with a process on each of four nodes, come to the losses and weights of one process."""
    gangs = [trainer.submit(TRAIN), trainer.submit(TRAIN)]
    single = trained(trainer, alone)
    for run_id in gangs:
        check_train(trained(trainer, run_id), single, 4)
        said = trainer.hpcrun("logs", run_id).stdout
        assert all(f"[{rank}] rank {rank} of 4 on {node}\n" in said for rank, node in enumerate(NODES)), said
        folders = [trainer.hpcrun("results", each).stdout.strip() for each in (run_id, alone)]
        compared = trainer.ok("python3", f"{trainer.folder}/examples/train/compare.py", *folders)
        assert compared.splitlines()[-1] == "the same within 1e-09"
    shards = [shard for run_id in gangs for shard in trainer.status(run_id)["shards"]]
    assert max(shard["started"] for shard in shards) < min(shard["ended"] for shard in shards), "both at the same time"


def test_a_gang_without_slurm_trains_the_same(trainer: User, alone: str) -> None:
    """The same spec on one machine: its processes find each other there, too."""
    check_train(
        trained(trainer, trainer.submit("--cluster", "local", "-N", "2", TRAIN)), trained(trainer, alone), processes=2
    )


def test_one_of_the_processes_is_killed(trainer: User) -> None:
    """The run fails at once and says who it was, though the others would wait or complain; there is no result."""
    run_id = trainer.submit(TRAIN)
    until(lambda: "epoch 0: " in trainer.hpcrun("logs", run_id, "--shard", "0").stdout, 120, "an epoch")
    found = 'grep -lzxs "HPCRUN_RUN_ID=$1" $(grep -lzxs "RANK=2" /proc/[0-9]*/environ) | cut -d / -f 3'
    (process,) = trainer.ok("bash", "-c", found, "bash", run_id, node="c3").split()
    trainer.ok("kill", "-KILL", process, node="c3")
    assert trainer.hpcrun("wait", "-q", run_id).returncode == 1
    shards = trainer.status(run_id)["shards"]
    assert [shard["state"] for shard in shards] == ["cancelled", "cancelled", "failed", "cancelled"]
    assert shards[2]["signal"] == 9
    assert "hpcrun: shard 2 on c3 was killed by signal 9" in trainer.hpcrun("logs", run_id, "--shard", "2").stdout
    assert trainer.results(run_id, "train.json") == {}
    gone(trainer, run_id)
