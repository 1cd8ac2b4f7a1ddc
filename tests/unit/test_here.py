"""What `current` makes of the environment of a process."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest

from hpcrun import environ
from hpcrun.allocation import Allocation
from hpcrun.errors import UsageError
from hpcrun.here import Current, current

NAME = "SLURMD_NODENAME"


@pytest.fixture(autouse=True)
def no_other_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests may themselves be run inside a run, of this system or another."""
    for name in list(os.environ):
        if environ._is_answer(name):
            monkeypatch.delenv(name)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a shard of an array is told."""
    tell(monkeypatch, environ.variables(who(), where(), workspace="/work"))


def who(role: str = "job", *, indexed: bool = True, **replica: int) -> environ.Who:
    return environ.Who(
        run_id="abc", run_dir="/r", results="/r/results", name="a name", shard=3, shards=4, sharded=True, attempt=2,
        role=role, indexed=indexed, **replica,
    )  # fmt: skip


def where(node: str = "n2") -> Allocation:
    return Allocation(cluster="slurm", job="12", raw_job="15", task=3, node=node, components=((node,),))


def tell(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_outside() -> None:
    """Outside of a run a program is shard 0 of 1 on its own machine."""
    node = os.uname().nodename
    here = current()
    assert here == Current(index=0, count=1, node=node, nodes=(node,))
    assert here.is_head
    assert not here.inside
    assert (here.run_id, here.name, here.run_dir, here.results_dir) == (None, None, None, None)


def test_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Index and count alone are enough to try one part of a program."""
    tell(monkeypatch, {"HPCRUN_SHARD_INDEX": "1", "HPCRUN_SHARD_COUNT": "4"})
    assert (current().index, current().count, current().inside, current().is_head) == (1, 4, False, False)


@pytest.mark.usefixtures("told")
def test_a_shard() -> None:
    """A shard of an array knows itself, and of the other shards only how many they are."""
    here = current()
    assert here == Current(
        index=3, count=4, attempt=2, node="n2", nodes=("n2",), run_id="abc", name="a name", run_dir="/r",
        results_dir="/r/results",
    )  # fmt: skip
    assert here.inside
    assert not here.is_head
    assert pickle.loads(pickle.dumps(here)) == here
    assert hash(here) == hash(current())
    with pytest.raises(AttributeError):
        here.index = 0  # type: ignore[misc]


def test_a_gang(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard of a gang knows the node of each."""
    peers = environ.Peers(["n1", "n1", "n2", "n2"], 4000)
    tell(monkeypatch, environ.variables(who(), where(), workspace="/work", peers=peers))
    assert (current().node, current().nodes) == ("n2", ("n1", "n1", "n2", "n2"))


def test_shards_of_a_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where shards are interchangeable, hpcrun's own index is still there."""
    tell(monkeypatch, environ.variables(who(indexed=False), where(), workspace="/work"))
    assert (current().index, current().count, current().node) == (3, 4, "n2")


def test_a_rank(monkeypatch: pytest.MonkeyPatch, told: None) -> None:
    """A rank of a parallel program is on the node that Slurm says, which need not be that of its shard's supervisor."""
    monkeypatch.setenv(NAME, "n7")
    assert current().node == "n7"


def test_a_job_with_workers(monkeypatch: pytest.MonkeyPatch, told: None, tmp_path: Path) -> None:
    """A job finds its workers in order, and their endpoints by the names that the spec gives them."""
    path = tmp_path / "workers"
    ports = {"rpc": [4001, 4002], "my-web": [80, 81]}
    workers = [{"node": f"n{at}", "endpoints": {name: ports[name][at] for name in ports}} for at in (0, 1)]
    path.write_text(json.dumps(workers))
    tell(monkeypatch, {**environ.workers(["n0", "n1"], ports), "HPCRUN_WORKERS_FILE": str(path)})
    assert current().workers == ("n0", "n1")
    assert current().endpoints == {"rpc": ("n0:4001", "n1:4002"), "my-web": ("n0:80", "n1:81")}
    current().endpoints.clear()
    assert len(current().endpoints) == 2, "what a caller does to one answer does not change the next"


def test_endpoints_without_the_file(monkeypatch: pytest.MonkeyPatch, told: None) -> None:
    """After `hpcrun env` there are variables alone."""
    tell(monkeypatch, environ.workers(["n0", "n1"], {"rpc": [4000, 4000]}))
    assert current().endpoints == {"rpc": ("n0:4000", "n1:4000")}


def test_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker knows which it is and whom it serves, and is the head of nothing."""
    variables = environ.variables(who("worker", replica=1, replicas=2), where(), workspace="/work")
    tell(monkeypatch, {**variables, "HPCRUN_SHARD_INDEX": "0", NAME: "n5"})
    here = current()
    assert (here.role, here.index, here.replica, here.replicas, here.node) == ("worker", 0, 1, 2, "n5")
    assert not here.is_head


@pytest.mark.parametrize(("role", "replica", "is_head"), [("train", 0, True), ("worker", 0, True), ("job", 1, False)])
def test_a_task(monkeypatch: pytest.MonkeyPatch, role: str, replica: int, is_head: bool) -> None:
    """A task of a workflow has its own name besides, whatever it is called; its first replica is a head."""
    asked = who(role, replica=replica, replicas=2)
    told = environ.task(asked, where(), workspace="/work", name=f"{role}_{replica}", nodes=["n3"], rank=0)
    tell(monkeypatch, {**told, "HPCRUN_SHARD_INDEX": "0"})
    here = current()
    assert (here.role, here.task, here.replica, here.replicas) == (role, f"{role}_{replica}", replica, 2)
    assert here.is_head is is_head


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HPCRUN_SHARD_INDEX", "x"), ("HPCRUN_SHARD_INDEX", "4"), ("HPCRUN_SHARD_INDEX", "-1"),
        ("HPCRUN_SHARD_COUNT", ""), ("HPCRUN_REPLICA_INDEX", "1"), ("HPCRUN_ATTEMPT", "1.0"), ("HPCRUN_ROLE", "boss"),
        ("TYGER_WORKER_NODES", "n1,n2"), ("TYGER_WORKER_NODES", "[1]"), ("SKYWARD_PEERS", "n1,n2"),
        ("TYGER_RPC_WORKER_ENDPOINT_ADDRESSES", "{}"), ("HPCRUN_WORKERS_FILE", "/is/not/there"),
        ("HPCRUN_WORKERS_FILE", os.devnull),
    ],
)  # fmt: skip
def test_garbled(monkeypatch: pytest.MonkeyPatch, told: None, name: str, value: str) -> None:
    """What hpcrun would not set is refused by the variable's name, with the value."""
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError) as caught:
        current()
    assert str(caught.value).startswith(f"{name}: found {value!r}, wanted ")


@pytest.mark.parametrize("name", ["HPCRUN_SHARD_INDEX", "HPCRUN_SHARD_COUNT"])
def test_half_of_it(monkeypatch: pytest.MonkeyPatch, told: None, name: str) -> None:
    """A process that lost a part of its run's variables, as in a container, is not taken for shard 0 of 1."""
    monkeypatch.delenv(name)
    with pytest.raises(UsageError, match=f"found no {name} in the environment"):
        current()
