"""The environment of a program, in every dialect."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun import environ
from hpcrun.allocation import Allocation
from hpcrun.compile import MOST_WORKERS

HPCRUN = {
    "HPCRUN_RUN_ID": "abc", "HPCRUN_RUN_NAME": "train", "HPCRUN_RUN_DIR": "/r", "HPCRUN_RESULTS_DIR": "/r/results",
    "HPCRUN_ROLE": "job", "HPCRUN_SHARD_INDEX": "3", "HPCRUN_SHARD_COUNT": "8", "HPCRUN_REPLICA_INDEX": "0",
    "HPCRUN_REPLICA_COUNT": "1", "HPCRUN_ATTEMPT": "2",
}  # fmt: skip


def of(
    *,
    shard: int = 3,
    shards: int = 8,
    sharded: bool = True,
    components: tuple[tuple[str, ...], ...] = (("n1",),),
    workers: tuple[str, ...] = (),
) -> dict[str, str]:
    who = environ.Who(
        run_id="abc",
        run_dir="/r",
        results="/r/results",
        name="train",
        shard=shard,
        shards=shards,
        sharded=sharded,
        attempt=2,
    )
    where = Allocation(
        cluster="slurm", job="12", raw_job="15", task=shard, node="n1", components=components, workers=workers
    )  # fmt: skip
    return environ.variables(who, where, workspace="/work")


def test_every_dialect() -> None:
    """A shard of an array sees exactly these variables."""
    found = of()
    pool = json.loads(found.pop("COMPUTE_POOL"))
    assert found == {
        **HPCRUN,
        "TYGER_RUN_ID": "abc",
        "SYLPHX_SHARD_INDEX": "3", "SYLPHX_SHARD_COUNT": "8", "JOB_COMPLETION_INDEX": "3",
        "VELDA_SHARD_ID": "3", "VELDA_TOTAL_SHARDS": "8",
        "SFLOW_REPLICA_INDEX": "3", "SFLOW_WORKSPACE_DIR": "/work", "SFLOW_OUTPUT_DIR": "/r",
        "SFLOW_WORKFLOW_OUTPUT_DIR": "/r/results", "SFLOW_TASK_OUTPUT_DIR": "/r/results",
        "SFLOW_TASK_ASSIGNED_NODE_NAMES": "n1", "SFLOW_BACKEND_JOB_ID": "15", "SFLOW_BACKEND_NODELIST": "n1",
        "SFLOW_BACKEND_NUM_NODES": "1", "SFLOW_TASK_NODE_NAME": "n1", "SFLOW_TASK_NODE_INDEX": "0",
        "SFLOW_TASK_PROCESS_ID": "0", "SFLOW_TASK_LOCAL_PROCESS_ID": "0", "SFLOW_TASK_NUM_PROCESSES": "1",
        "SKYWARD_NODE": "n1", "SKYWARD_COMPUTE": "abc", "SKYWARD_RANK": "3", "SKYWARD_SLOTS": "1",
        "SKYWARD_NODE_ID": "3",
        "SKYWARD_NUM_NODES": "8", "SKYWARD_HOST": "n1", "SKYWARD_CLUSTER": "abc", "SKYWARD_WORKERS_PER_NODE": "1",
    }  # fmt: skip
    assert (pool["node"], pool["total_nodes"], pool["head_addr"], pool["job_id"]) == (3, 8, "", "abc")
    assert pool["peers"] == [{"node": 3, "private_ip": "n1", "public_ip": None}]


def test_without_shards() -> None:
    """Without -N a program sees index 0 of 1, and none of Velda's variables."""
    found = of(shard=0, shards=1, sharded=False)
    assert [name for name in found if name.startswith("VELDA_")] == []
    assert (found["SYLPHX_SHARD_INDEX"], found["SYLPHX_SHARD_COUNT"], found["JOB_COMPLETION_INDEX"]) == ("0", "1", "0")
    assert (found["SKYWARD_PEERS"], json.loads(found["COMPUTE_POOL"])["head_addr"]) == ("n1", "n1")


def test_one_shard_is_sharded() -> None:
    """-N 1 is a sharded run of one."""
    found = of(shard=0, shards=1)
    assert (found["VELDA_SHARD_ID"], found["VELDA_TOTAL_SHARDS"]) == ("0", "1")


def test_het_allocation() -> None:
    """The node of every task of every component but the first is a worker of Tyger's, in order, repeats kept."""
    found = of(components=(("n1",), ("w10", "w2")), workers=("w10", "w2", "w2"))
    assert json.loads(found["TYGER_WORKER_NODES"]) == ["w10", "w2", "w2"]


def test_all_are_reserved() -> None:
    """Every variable that hpcrun sets is one that a spec cannot set."""
    for name in of(components=(("n1",), ("w",)), workers=("w",)):
        assert name.startswith(environ.RESERVED_PREFIXES) or name in environ.RESERVED_NAMES


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("$(A)", "1"), ("x$(A)y$(B)z", "x1y2z"), ("$(A)$(A)", "11"), ("$$(A)", "$(A)"), ("$$$(A)", "$$(A)"),
        ("$(NONE)", "$(NONE)"), ("$$(NONE)", "$(NONE)"), ("$A ${A} $", "$A ${A} $"), ("$(A", "$(A"), ("$()", "$()"),
        ("$(EMPTY)", ""), ("$(LOOP)", "$(LOOP)"), ("$(touch x) $(A)", "$(touch x) 1"), ("", ""), (")$(A)", ")1"),
    ],
)  # fmt: skip
def test_expanded(text: str, becomes: str) -> None:
    """Kubernetes' rule: known references are replaced, once; $$( is literal; all else stays."""
    assert environ.expanded(text, {"A": "1", "B": "2", "EMPTY": "", "LOOP": "$(LOOP)"}) == becomes


@given(st.text("$()AB "))
def test_expansion_of_nothing(text: str) -> None:
    """Where nothing is known, only the marks of literals go."""
    assert environ.expanded(text, {}).replace("$", "") == text.replace("$", "")


def test_a_programs_environment() -> None:
    """A spec's variables win over inherited ones, may refer to who the program is and to those before them."""
    given = {"A": "$(HPCRUN_SHARD_INDEX)", "B": "$(A)!", "C": "$(D)", "D": "x", "PATH": "/mine:$(PATH)"}
    found = environ.for_program(
        {"PATH": "/bin", "HPCRUN_SHARD_INDEX": "9"}, {"HPCRUN_SHARD_INDEX": "3"}, given, expand=True
    )
    assert found == {"PATH": "/mine:/bin", "HPCRUN_SHARD_INDEX": "3", "A": "3", "B": "3!", "C": "$(D)", "D": "x"}
    assert environ.for_program({}, {}, {"A": "$(B)"}, expand=False) == {"A": "$(B)"}


def test_passed_on() -> None:
    """--export=ALL passes all on; NONE and names leave what a program cannot do without, and the cluster's own."""
    here = {"PATH": "/bin", "SECRET": "s", "WANTED": "w", "SLURM_JOB_ID": "1", "CUDA_VISIBLE_DEVICES": "0"}
    assert environ.passed_on(here, None) == here
    assert environ.passed_on(here, ("WANTED", "ABSENT")) == {k: v for k, v in here.items() if k != "SECRET"}
    assert set(environ.passed_on(here, ())) == set(here) - {"SECRET", "WANTED"}


WORKER = environ.Who(
    run_id="abc", run_dir="/r", results="/r/results", name="train", shard=3, shards=8, sharded=True, attempt=2,
    role="worker", replica=1, replicas=4,
)  # fmt: skip
HERE = Allocation(cluster="slurm", job="12", raw_job="15", task=3, node="n1", components=(("n1",),), workers=("w1",))


def test_worker() -> None:
    """A worker sees exactly which one it is and whom it serves, and nothing of the job's shards in other dialects."""
    assert environ.variables(WORKER, HERE, workspace="/work") == {
        **HPCRUN, "HPCRUN_ROLE": "worker", "HPCRUN_REPLICA_INDEX": "1", "HPCRUN_REPLICA_COUNT": "4",
        "TYGER_RUN_ID": "abc",
    }  # fmt: skip
    assert environ.variables(WORKER, HERE, workspace="/work", peers=environ.Peers(["n1"], 7)).keys() == {
        *HPCRUN, "TYGER_RUN_ID"
    }  # fmt: skip


def test_interchangeable_shards() -> None:
    """A shard that takes its work from a queue finds no index in any dialect but hpcrun's own, in a gang neither."""
    who = environ.Who(
        run_id="abc", run_dir="/r", results="/r/results", name="train", shard=3, shards=8, sharded=True, attempt=2,
        indexed=False,
    )  # fmt: skip
    for peers in (None, environ.Peers(["n1"] * 8, 7)):
        found = environ.variables(who, HERE, workspace="/work", peers=peers)
        assert {name: found[name] for name in HPCRUN} == HPCRUN
        others = {name for name in found if not name.startswith("HPCRUN_")}
        assert {name for name in others if not name.startswith("SFLOW_")} == {"TYGER_RUN_ID", "TYGER_WORKER_NODES"}
        assert "SFLOW_REPLICA_INDEX" not in others


def test_own_ports() -> None:
    """A worker reads the ports it is to listen on from variables that a shell can hold."""
    assert environ.own_ports({"http": 8080, "my-ep": 3, "a_B9": 1}) == {
        "HPCRUN_PORT_HTTP": "8080", "HPCRUN_PORT_MY_EP": "3", "HPCRUN_PORT_A_B9": "1"
    }  # fmt: skip
    assert environ.own_ports({}) == {}


def test_workers() -> None:
    """The addresses of a job's workers are compact JSON, in the order of their replicas, one variable an endpoint."""
    found = environ.workers(["n2", "n10", "n2"], {"http": [80, 80, 81], "grpc": [9, 8, 7]})
    assert found == {
        "TYGER_WORKER_NODES": '["n2","n10","n2"]',
        "TYGER_HTTP_WORKER_ENDPOINT_ADDRESSES": '["n2:80","n10:80","n2:81"]',
        "TYGER_GRPC_WORKER_ENDPOINT_ADDRESSES": '["n2:9","n10:8","n2:7"]',
    }


def test_workers_without_endpoints() -> None:
    """Workers without endpoints have nodes alone."""
    assert environ.workers(["a"], {}) == {"TYGER_WORKER_NODES": '["a"]'}


def test_hyphenated_endpoint() -> None:
    """An endpoint's hyphen stays, as Tyger keeps it, and is an underscore in a name that a shell can read."""
    found = environ.workers(["a"], {"my-ep": [80]})
    assert found == {
        "TYGER_WORKER_NODES": '["a"]',
        "TYGER_MY-EP_WORKER_ENDPOINT_ADDRESSES": '["a:80"]',
        "TYGER_MY_EP_WORKER_ENDPOINT_ADDRESSES": '["a:80"]',
    }


@given(st.lists(st.text("abc.-1", min_size=1), min_size=1), st.data())
def test_workers_come_back(nodes: list[str], data: st.DataObject) -> None:
    """Whatever the nodes are called, any JSON parser finds them and their ports, each with its own."""
    ports = data.draw(st.lists(st.integers(1, 65535), min_size=len(nodes), max_size=len(nodes)))
    found = environ.workers(nodes, {"a": ports})
    assert json.loads(found["TYGER_WORKER_NODES"]) == nodes
    pairs = [tuple(address.rsplit(":", 1)) for address in json.loads(found["TYGER_A_WORKER_ENDPOINT_ADDRESSES"])]
    assert pairs == [(node, str(port)) for node, port in zip(nodes, ports, strict=True)]


def of_gang(shard: int, nodes: tuple[str, ...]) -> dict[str, str]:
    """The variables of one shard of a gang, which has a node for each of its shards."""
    who = environ.Who(
        run_id="abc", run_dir="/r", results="/r/results", name="train", shard=shard, shards=len(nodes), sharded=True,
        attempt=0,
    )  # fmt: skip
    where = Allocation(cluster="slurm", job="12", raw_job="12", task=None, node=nodes[shard], components=(("x",),))
    return environ.variables(who, where, workspace="/work", peers=environ.Peers(nodes, 4711))


TORCH = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        (("a", "b"), [("0", "2", "0", "1", "0"), ("1", "2", "0", "1", "1")]),
        (("a", "a", "b", "b"), [("0", "4", "0", "2", "0"), ("1", "4", "1", "2", "0"), ("2", "4", "0", "2", "1"),
                                ("3", "4", "1", "2", "1")]),
        (("b", "a", "a"), [("0", "3", "0", "1", "0"), ("1", "3", "0", "2", "1"), ("2", "3", "1", "2", "1")]),
        (("a", "b", "a"), [("0", "3", "0", "2", "0"), ("1", "3", "0", "1", "1"), ("2", "3", "1", "2", "0")]),
        (("a",), [("0", "1", "0", "1", "0")]),
    ],
)  # fmt: skip
def test_torch(nodes: tuple[str, ...], expected: list[tuple[str, ...]]) -> None:
    """Shards that start together find each other as torch's env:// rendezvous has it, one process a shard."""
    for shard, values in enumerate(expected):
        found = of_gang(shard, nodes)
        assert tuple(found[name] for name in TORCH) == (*values, nodes[0], "4711")


def test_torch_for_gangs_only() -> None:
    """The shards of an array, which do not meet, are not told of a rendezvous."""
    assert not set(TORCH) & of().keys()


def test_peers() -> None:
    """Shards of a gang know the nodes of all of them, in Skyward's words."""
    found = of_gang(1, ("a", "b", "a"))
    pool = json.loads(found["COMPUTE_POOL"])
    assert found["SKYWARD_PEERS"] == "a,b,a"
    assert (pool["head_addr"], pool["head_port"], pool["node"], pool["total_nodes"]) == ("a", 4711, 1, 3)
    assert [(peer["node"], peer["private_ip"]) for peer in pool["peers"]] == [(0, "a"), (1, "b"), (2, "a")]


def test_no_spec_sets_them() -> None:
    """What workers and their jobs are told of each other is not for specs to set."""
    for name in (*environ.own_ports({"a-b": 1}), *environ.workers(["a"], {"a-b": [1]}), "HPCRUN_WORKERS_FILE"):
        assert name.startswith(environ.RESERVED_PREFIXES)


def test_largest_number_of_workers() -> None:
    """The addresses of as many workers as a spec may ask for go into one variable of Linux's, whatever their names."""
    found = environ.workers(["h" * 64] * MOST_WORKERS, {"http": [65535] * MOST_WORKERS})
    assert max(len(f"{name}={value}\0") for name, value in found.items()) <= 128 * 1024
