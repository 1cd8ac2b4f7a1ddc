"""What the cluster gave this process, read from its environment.

The rules for Slurm are those of its sbatch manual, OUTPUT ENVIRONMENT VARIABLES, and of its page on heterogeneous
jobs: the names without a suffix describe component 0, ``…_HET_GROUP_n`` the others.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Allocation:
    """Where a process is.

    `job` is the id by which one addresses it (of the array or of the het job's leader), `task` the array index or
    None, `raw_job` the plain number of this element, `node` this node, `nodes` the nodes of component 0 in Slurm's
    order, `components` the nodes of every component (one where the job is not heterogeneous), `tasks` how many tasks
    the first component has on each of its nodes, `workers` the node of every task of the further components.
    """

    __slots__ = (
        "cluster", "components", "job", "node", "nodes", "raw_job", "restarts", "round", "said", "task", "tasks",
        "workers",
    )  # fmt: skip

    def __init__(
        self,
        *,
        cluster: str,
        job: str,
        raw_job: str,
        task: int | None,
        node: str,
        components: tuple[tuple[str, ...], ...],
        restarts: int = 0,
        tasks: tuple[int, ...] = (),
        workers: tuple[str, ...] = (),
    ) -> None:
        self.cluster, self.job, self.raw_job, self.task, self.node = cluster, job, raw_job, task, node
        self.components, self.nodes, self.restarts = components, components[0], restarts
        self.tasks, self.workers = tasks, workers
        self.round = 0
        """The round of the run's retries by hand that the job was submitted for."""
        self.said = 0
        """Bytes of Slurm's own output that earlier starts of the job have left."""


def from_slurm(environ: Mapping[str, str]) -> Allocation:
    """The allocation of a process inside a Slurm job.

    Raises KeyError where the process is in none (no ``SLURM_JOB_ID``).
    """
    raw = environ["SLURM_JOB_ID"]
    task = environ.get("SLURM_ARRAY_TASK_ID")
    size = int(environ.get("SLURM_HET_SIZE", "1"))
    lists = [environ.get(f"SLURM_JOB_NODELIST_HET_GROUP_{group}", "") for group in range(size)]
    if not lists[0]:
        lists[0] = environ.get("SLURM_JOB_NODELIST", "")
    components = tuple(_hosts(text) for text in lists)
    counts = [environ.get(f"SLURM_TASKS_PER_NODE_HET_GROUP_{group}", "") for group in range(size)]
    return Allocation(
        cluster="slurm",
        job=environ.get("SLURM_ARRAY_JOB_ID") or environ.get("SLURM_JOB_ID_HET_GROUP_0") or raw,
        raw_job=raw,
        task=int(task) if task is not None else None,
        node=environ.get("SLURMD_NODENAME") or (components[0][0] if components[0] else ""),
        components=components,
        restarts=int(environ.get("SLURM_RESTART_COUNT", "0")),
        tasks=tasks_per_node(counts[0] or environ.get("SLURM_TASKS_PER_NODE", "")),
        workers=tuple(
            node
            for nodes, text in zip(components[1:], counts[1:])
            for node, count in zip(nodes, tasks_per_node(text) or (1,) * len(nodes))
            for _ in range(count)
        ),
    )


def tasks_per_node(text: str) -> tuple[int, ...]:
    """How many tasks each node has, from Slurm's ``2(x3),1``."""
    found: list[int] = []
    for part in text.split(","):
        count, _, times = part.rstrip(")").partition("(x")
        if count:
            found += [int(count)] * int(times or 1)
    return tuple(found)


def _hosts(text: str) -> tuple[str, ...]:
    if "[" not in text and "," not in text:  # one host, as nearly always: nothing to parse, nothing to import
        return (text,) if text else ()
    from hpcrun.hostlist import expand

    return tuple(expand(text))


def on_this_machine(node: str, job: str, shard: int) -> Allocation:
    """The allocation of a shard that the local cluster runs on the machine `node`."""
    return Allocation(cluster="local", job=job, raw_job=job, task=shard, node=node, components=((node,),))
