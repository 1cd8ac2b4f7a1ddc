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

OWN_NODE = "$(SFLOW_TASK_NODE_NAME)"
"""A reference to the node of a task's process: the host of a probe whose author has named none."""

KEPT = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TMPDIR", "TZ")
"""What a program sees of the submission's environment even where it asked for none of it (``--export=NONE``)."""


def shell_safe(name: str) -> str:
    """`name` in upper case, as a shell can hold it: ``my-ep`` is ``MY_EP``."""
    return "".join(char if char.isascii() and char.isalnum() else "_" for char in name).upper()


class Who:
    """Which process of a run this is: `replica` of `replicas` of a `role` of `shard` of `shards`.

    `sharded` is False for a run that has no shards, `indexed` where its shards are interchangeable.
    """

    __slots__ = (
        "attempt", "indexed", "name", "replica", "replicas", "results", "role", "run_dir", "run_id", "shard", "sharded",
        "shards",
    )  # fmt: skip

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
        replica: int = 0,
        replicas: int = 1,
        indexed: bool = True,
    ) -> None:
        self.run_id, self.run_dir, self.results, self.name = run_id, run_dir, results, name
        self.shard, self.shards, self.sharded, self.attempt, self.role = shard, shards, sharded, attempt, role
        self.replica, self.replicas, self.indexed = replica, replicas, indexed


class Peers:
    """The shards of a gang: the node of each, in order, and a port on the first one's for them to meet at."""

    __slots__ = ("nodes", "port")

    def __init__(self, nodes: Sequence[str], port: int) -> None:
        self.nodes, self.port = nodes, port


def variables(who: Who, allocation: Allocation, *, workspace: str, peers: Peers | None = None) -> dict[str, str]:
    """Every variable that tells a process who and where it is; `workspace` is the submission's working directory.

    A worker learns which it is and whom it serves, in hpcrun's own variables; those of the job's shards in other
    dialects are not its own. Neither are they where shards are interchangeable: a program that finds no index there
    cannot take a part of the work for all of its own. `peers` is given to the shards of a gang.
    """
    if who.role == "worker":
        return {**_hpcrun(who), "TYGER_RUN_ID": who.run_id}
    if not who.indexed:
        return {**_hpcrun(who), **_tyger(who, allocation), **_sflow(who, allocation, workspace)}
    return {
        **_hpcrun(who),
        **_tyger(who, allocation),
        **_shards(who),
        **_sflow(who, allocation, workspace),
        **_skyward(who, allocation, peers),
        **(_torch(who, peers) if peers is not None else {}),
    }


def task(
    who: Who,
    allocation: Allocation,
    *,
    workspace: str,
    name: str,
    nodes: Sequence[str],
    rank: int,
    addresses: Sequence[str] = (),
) -> dict[str, str]:
    """Every variable that tells a process of a workflow's task who and where it is.

    `who` has the task as the spec calls it for its role, and which replica of it this is; `name` is the replica's own.
    The task runs on `nodes`, one process on each, and this is number `rank`; `addresses` are those of the nodes, where
    they are known. Shards are a matter of the whole run, so other dialects' variables of them are not a task's.
    """
    return {
        **_hpcrun(who),
        "HPCRUN_TASK_NAME": name,
        "TYGER_RUN_ID": who.run_id,
        **_sflow(who, allocation, workspace),
        "SFLOW_REPLICA_INDEX": str(who.replica),
        **_sflow_folders(who, name),
        "SFLOW_TASK_ASSIGNED_NODE_NAMES": ",".join(nodes),
        **({"SFLOW_TASK_ASSIGNED_NODE_IPS": ",".join(addresses)} if addresses else {}),
        "SFLOW_TASK_NODE_NAME": nodes[rank],
        "SFLOW_TASK_NODE_INDEX": str(rank),
        "SFLOW_TASK_PROCESS_ID": str(rank),
        "SFLOW_TASK_NUM_PROCESSES": str(len(nodes)),
    }


def swept(who: Who, *, task: str, name: str) -> dict[str, str]:
    """What a shard is told besides where it is the replica `name` of `task`, as if it were one in a workflow."""
    return {
        "HPCRUN_ROLE": task,
        "HPCRUN_REPLICA_INDEX": str(who.shard),
        "HPCRUN_REPLICA_COUNT": str(who.shards),
        "HPCRUN_TASK_NAME": name,
        **_sflow_folders(who, name),
    }


def _sflow_folders(who: Who, name: str) -> dict[str, str]:
    # As they lie to each other in nv-sflow, in a folder of their own: tasks' names are not to be taken for results.
    whole = f"{who.results}/tasks"
    own = f"{whole}/{name}"
    return {
        "SFLOW_WORKFLOW_OUTPUT_DIR": whole,
        "SFLOW_WORKFLOW_RESULT_FILE": f"{whole}/results.json",
        "SFLOW_TASK_OUTPUT_DIR": own,
        "SFLOW_TASK_RESULT_FILE": f"{own}/result.json",
    }


def workers(nodes: Sequence[str], ports: Mapping[str, Sequence[int]]) -> dict[str, str]:
    """Tyger's variables for a job: the host of each worker, and ``host:port`` of each of their endpoints, in order.

    A name that a shell cannot read (Tyger replaces nothing in it) is there in a safe spelling too.
    """
    found = {"TYGER_WORKER_NODES": dumps(list(nodes))}
    for name, numbers in ports.items():
        addresses = dumps([f"{node}:{port}" for node, port in zip(nodes, numbers)])
        for spelling in (name.upper(), shell_safe(name)):
            found[f"TYGER_{spelling}_WORKER_ENDPOINT_ADDRESSES"] = addresses
    return found


def own_ports(ports: Mapping[str, int]) -> dict[str, str]:
    """What a worker is told of the ports it is to listen on."""
    return {f"HPCRUN_PORT_{shell_safe(name)}": str(port) for name, port in ports.items()}


def not_slurms(given: Mapping[str, str], inherited: Mapping[str, str]) -> dict[str, str]:
    """`given` without what Slurm itself has set: nv-sflow's files have variables such as SLURM_PARTITION."""
    return {name: value for name, value in given.items() if not (name.startswith("SLURM_") and name in inherited)}


def _hpcrun(who: Who) -> dict[str, str]:
    return {
        "HPCRUN_RUN_ID": who.run_id,
        "HPCRUN_RUN_NAME": who.name,
        "HPCRUN_RUN_DIR": who.run_dir,
        "HPCRUN_RESULTS_DIR": who.results,
        "HPCRUN_ROLE": who.role,
        "HPCRUN_SHARD_INDEX": str(who.shard),
        "HPCRUN_SHARD_COUNT": str(who.shards),
        "HPCRUN_REPLICA_INDEX": str(who.replica),
        "HPCRUN_REPLICA_COUNT": str(who.replicas),
        "HPCRUN_ATTEMPT": str(who.attempt),
    }


def _tyger(who: Who, allocation: Allocation) -> dict[str, str]:
    # Tyger's docs, Distributed Runs: the job learns its workers' host names as a JSON array. In a hand-written
    # heterogeneous job every task of the components beyond the first counts as a worker.
    found = {"TYGER_RUN_ID": who.run_id}
    return {**found, **workers(allocation.workers, {})} if allocation.workers else found


def _shards(who: Who) -> dict[str, str]:
    # Sylphx and Kubernetes (Indexed Job) always set theirs; Velda leaves its own unset without -N.
    index, count = str(who.shard), str(who.shards)
    found = {"SYLPHX_SHARD_INDEX": index, "SYLPHX_SHARD_COUNT": count, "JOB_COMPLETION_INDEX": index}
    return {**found, "VELDA_SHARD_ID": index, "VELDA_TOTAL_SHARDS": count} if who.sharded else found


def _sflow(who: Who, allocation: Allocation, workspace: str) -> dict[str, str]:
    nodes = ",".join(allocation.nodes)
    return {
        **({"SFLOW_REPLICA_INDEX": str(who.shard)} if who.indexed else {}),
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


def _skyward(who: Who, allocation: Allocation, peers: Peers | None) -> dict[str, str]:
    # Skyward counts nodes where hpcrun counts shards. The shards of an array do not meet, so a shard knows no peer
    # but itself, and no head but when it is the head; those of a gang know each other.
    known = {who.shard: allocation.node} if peers is None else dict(enumerate(peers.nodes))
    listed: list[Value] = [{"node": shard, "private_ip": node, "public_ip": None} for shard, node in known.items()]
    pool: dict[str, Value] = {
        "node": who.shard, "worker": 0, "total_nodes": who.shards, "workers_per_node": 1,
        "accelerators": 0, "total_accelerators": 0,
        "head_addr": known.get(0, ""), "head_port": 29500 if peers is None else peers.port,
        "job_id": who.run_id, "peers": listed, "accelerator": None,
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
    return {**found, "SKYWARD_PEERS": ",".join(known.values())} if len(known) == who.shards else found


def _torch(who: Who, peers: Peers) -> dict[str, str]:
    # torch.distributed's env:// rendezvous (its docs, Initialization), one process a shard.
    nodes = list(dict.fromkeys(peers.nodes))
    here = peers.nodes[who.shard]
    return {
        "RANK": str(who.shard),
        "WORLD_SIZE": str(len(peers.nodes)),
        "LOCAL_RANK": str(peers.nodes[: who.shard].count(here)),
        "LOCAL_WORLD_SIZE": str(peers.nodes.count(here)),
        "NODE_RANK": str(nodes.index(here)),
        "MASTER_ADDR": peers.nodes[0],
        "MASTER_PORT": str(peers.port),
    }


_ANSWERS = (
    "HPCRUN_RUN_", "HPCRUN_SHARD_", "HPCRUN_REPLICA_", "HPCRUN_TASK_", "HPCRUN_PORT_", "HPCRUN_ROLE", "HPCRUN_ATTEMPT",
    "HPCRUN_RESULTS_DIR", "HPCRUN_WORKERS_FILE", "TYGER_", "SYLPHX_", "VELDA_", "SFLOW_", "SKYWARD_",
)  # fmt: skip
_TORCH = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")


def _is_answer(name: str) -> bool:
    return name.startswith(_ANSWERS) or name in RESERVED_NAMES or name in _TORCH


def passed_on(environ: Mapping[str, str], export: Sequence[str] | None) -> dict[str, str]:
    """What a program sees of the environment it was submitted from.

    `export` is None for all of it, else the names wanted besides `KEPT` and what the cluster itself set. What a program
    of another run, from inside of which this one was submitted, was told about that one is left out.
    """
    if "HPCRUN_RUN_ID" in environ:
        environ = {name: value for name, value in environ.items() if not _is_answer(name)}
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
