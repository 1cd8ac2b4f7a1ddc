"""The environment of a program, in every dialect."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun import environ
from hpcrun.allocation import Allocation

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
