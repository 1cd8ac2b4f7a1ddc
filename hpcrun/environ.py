"""The environment of one process, in every dialect, so that programs written for other systems run unchanged.

Each dialect is a function from who the process is to variables; docs/environment.md is its reference.
"""

from __future__ import annotations

from hpcrun.jsonline import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hpcrun.allocation import Allocation
    from hpcrun.jsonline import Value

RESERVED_PREFIXES = ("HPCRUN_", "TYGER_", "SYLPHX_", "VELDA_", "SFLOW_", "SKYWARD_", "SLURM_")
RESERVED_NAMES = ("JOB_COMPLETION_INDEX", "COMPUTE_POOL")
"""Names that a spec's own ``env`` may not set: these are answers, not questions."""

KEPT = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TMPDIR", "TZ")
"""What a program sees of the submission's environment even where it asked for none of it (``--export=NONE``)."""


class Who:
    """Which process of a run this is: `shard` of `shards`; `sharded` is False for a run that has none."""

    __slots__ = ("attempt", "name", "results", "role", "run_dir", "run_id", "shard", "sharded", "shards")

    def __init__(
        self,
        *,
        run_id: str,
        run_dir: str,
        results: str,
        name: str,
        shard: int,
        shards: int,
        sharded: bool,
        attempt: int,
        role: str = "job",
    ) -> None:
        self.run_id, self.run_dir, self.results, self.name = run_id, run_dir, results, name
        self.shard, self.shards, self.sharded, self.attempt, self.role = shard, shards, sharded, attempt, role


def variables(who: Who, allocation: Allocation, *, workspace: str) -> dict[str, str]:
    """Every variable that tells a process who and where it is; `workspace` is the submission's working directory."""
    return {
        **_hpcrun(who),
        **_tyger(who, allocation),
        **_shards(who),
        **_sflow(who, allocation, workspace),
        **_skyward(who, allocation),
    }


def _hpcrun(who: Who) -> dict[str, str]:
    return {
        "HPCRUN_RUN_ID": who.run_id,
        "HPCRUN_RUN_NAME": who.name,
        "HPCRUN_RUN_DIR": who.run_dir,
        "HPCRUN_RESULTS_DIR": who.results,
        "HPCRUN_ROLE": who.role,
        "HPCRUN_SHARD_INDEX": str(who.shard),
        "HPCRUN_SHARD_COUNT": str(who.shards),
        "HPCRUN_REPLICA_INDEX": "0",
        "HPCRUN_REPLICA_COUNT": "1",
        "HPCRUN_ATTEMPT": str(who.attempt),
    }


def _tyger(who: Who, allocation: Allocation) -> dict[str, str]:
    # Tyger's docs, Distributed Runs: the job learns its workers' host names as a JSON array. Every component of a
    # hand-written heterogeneous job beyond the first counts as workers, one a node.
    workers = [node for nodes in allocation.components[1:] for node in nodes]
    found = {"TYGER_RUN_ID": who.run_id}
    return {**found, "TYGER_WORKER_NODES": dumps(workers)} if workers else found


def _shards(who: Who) -> dict[str, str]:
    # Sylphx and Kubernetes (Indexed Job) always set theirs; Velda leaves its own unset without -N.
    index, count = str(who.shard), str(who.shards)
    found = {"SYLPHX_SHARD_INDEX": index, "SYLPHX_SHARD_COUNT": count, "JOB_COMPLETION_INDEX": index}
    return {**found, "VELDA_SHARD_ID": index, "VELDA_TOTAL_SHARDS": count} if who.sharded else found


def _sflow(who: Who, allocation: Allocation, workspace: str) -> dict[str, str]:
    nodes = ",".join(allocation.nodes)
    return {
        "SFLOW_REPLICA_INDEX": str(who.shard),
        "SFLOW_WORKSPACE_DIR": workspace,
        "SFLOW_OUTPUT_DIR": who.run_dir,
        "SFLOW_WORKFLOW_OUTPUT_DIR": who.results,
        "SFLOW_TASK_OUTPUT_DIR": who.results,
        "SFLOW_TASK_ASSIGNED_NODE_NAMES": nodes,
        "SFLOW_BACKEND_JOB_ID": allocation.raw_job,
        "SFLOW_BACKEND_NODELIST": nodes,
        "SFLOW_BACKEND_NUM_NODES": str(len(allocation.nodes)),
        "SFLOW_TASK_NODE_NAME": allocation.node,
        "SFLOW_TASK_NODE_INDEX": "0",
        "SFLOW_TASK_PROCESS_ID": "0",
        "SFLOW_TASK_LOCAL_PROCESS_ID": "0",
        "SFLOW_TASK_NUM_PROCESSES": "1",
    }


def _skyward(who: Who, allocation: Allocation) -> dict[str, str]:
    # Skyward counts nodes where hpcrun counts shards. The shards of an array do not meet, so a shard knows no peer
    # but itself, and no head but when it is the head.
    here: dict[str, Value] = {"node": who.shard, "private_ip": allocation.node, "public_ip": None}
    pool: dict[str, Value] = {
        "node": who.shard, "worker": 0, "total_nodes": who.shards, "workers_per_node": 1,
        "accelerators": 0, "total_accelerators": 0,
        "head_addr": allocation.node if who.shard == 0 else "", "head_port": 29500,
        "job_id": who.run_id, "peers": [here], "accelerator": None,
        "network": {"interface": "", "bandwidth_gbps": None},
    }  # fmt: skip
    found = {
        "COMPUTE_POOL": dumps(pool),
        "SKYWARD_NODE": allocation.node,
        "SKYWARD_COMPUTE": who.run_id,
        "SKYWARD_RANK": str(who.shard),
        "SKYWARD_SLOTS": "1",
        "SKYWARD_NODE_ID": str(who.shard),
        "SKYWARD_NUM_NODES": str(who.shards),
        "SKYWARD_HOST": allocation.node,
        "SKYWARD_CLUSTER": who.run_id,
        "SKYWARD_WORKERS_PER_NODE": "1",
    }
    return {**found, "SKYWARD_PEERS": allocation.node} if who.shards == 1 else found


def passed_on(environ: Mapping[str, str], export: Sequence[str] | None) -> dict[str, str]:
    """What a program sees of the environment it was submitted from.

    `export` is None for all of it, else the names wanted besides `KEPT` and what the cluster itself set.
    """
    if export is None:
        return dict(environ)
    wanted = {*KEPT, *export}
    return {
        name: value
        for name, value in environ.items()
        if name in wanted or name.startswith(("SLURM", "CUDA_", "ROCR_", "GPU_DEVICE_", "ZE_"))
    }


def expanded(text: str, environ: Mapping[str, str]) -> str:
    """`text` with ``$(VAR)`` replaced from `environ`.

    Kubernetes' rule for command, args and env (which Tyger follows): ``$$(VAR)`` stands for a literal ``$(VAR)``,
    and a reference to a variable that is not there stays as it is. Any other ``$`` is left alone.
    """
    out: list[str] = []
    at = 0
    while True:
        start = text.find("$(", at)
        close = text.find(")", start)
        if start < 0 or close < 0:
            return "".join([*out, text[at:]])
        whole = text[start : close + 1]
        if start > at and text[start - 1] == "$":
            out.append(text[at : start - 1] + whole)
        else:
            out.append(text[at:start] + environ.get(whole[2:-1], whole))
        at = close + 1


def for_program(
    inherited: Mapping[str, str], own: Mapping[str, str], given: Mapping[str, str], *, expand: bool
) -> dict[str, str]:
    """The whole environment of a program: what it inherited, who it is (`own`), and what its spec gives it.

    With `expand`, a given value may refer to all of these and to the given ones before it.
    """
    found = {**inherited, **own}
    for name, value in given.items():
        found[name] = expanded(value, found) if expand else value
    return found
