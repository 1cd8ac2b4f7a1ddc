"""Who and where this process is: what hpcrun's variables say of it, as one value."""

from __future__ import annotations

import dataclasses
import functools
import os

from hpcrun.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

_ENDPOINT = ("TYGER_", "_WORKER_ENDPOINT_ADDRESSES")
_SHOWN = 80
"""Characters of a bad value that a message shows."""


@dataclasses.dataclass(frozen=True)
class Current:
    """One process of a run, as its environment tells it (docs/environment.md).

    Outside of a run it is index 0 of 1, on this machine, and what only a run has is None or empty.
    """

    index: int = 0
    """Which shard this is, from 0; of a worker, the shard that it serves. The same in every attempt."""
    count: int = 1
    """How many shards the run has."""
    attempt: int = 0
    """How often the shard has been started before."""
    role: str = "job"
    """``job`` or ``worker``; in a workflow the task, as the spec calls it."""
    replica: int = 0
    """Of a worker, which of its shard's it is, from 0, and of a task which of its replicas; of a job, 0."""
    replicas: int = 1
    """Of a worker, how many its shard has, and of a task how many replicas there are; of a job, 1."""
    node: str = ""
    """The node this process runs on, by the cluster's name for it."""
    nodes: tuple[str, ...] = ()
    """In a gang the node of every shard, in order: a node is there once for each of its shards. Elsewhere this node
    alone, for the shards of an array do not know each other."""
    workers: tuple[str, ...] = ()
    """In a job with workers, the host of each, in the order of replicas."""
    endpoints: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict, hash=False)
    """In a job with workers, the ``host:port`` of each worker, in that order, by the name of the endpoint."""
    run_id: str | None = None
    """The run's id; None outside of a run."""
    name: str | None = None
    """The run's name."""
    run_dir: str | None = None
    """The run's folder."""
    results_dir: str | None = None
    """Where the results of this attempt, or of all shards, belong."""
    task: str | None = None
    """In a workflow, what this task or this replica of it is called, such as ``train_16``; None elsewhere."""

    @property
    def inside(self) -> bool:
        """Whether this is a process of a run."""
        return self.run_id is not None

    @property
    def is_head(self) -> bool:
        """Whether this is the job of shard 0, as it also is outside of a run, or the first replica of a task.

        No worker is.
        """
        return self.index == 0 and (self.role == "job" if self.task is None else self.replica == 0)


def current() -> Current:
    """Who and where this process is, read from its environment at each call.

    Index and count may be set by hand, both of them, to try one part of a program outside of a run. Raises UsageError,
    with the name of the variable, where one of hpcrun's is not what hpcrun sets.
    """
    run_id = os.environ.get("HPCRUN_RUN_ID") or None
    index, count = _which("HPCRUN_SHARD_INDEX", "HPCRUN_SHARD_COUNT", wanted=run_id is not None)
    if run_id is None:
        node = os.uname().nodename
        return Current(index=index, count=count, node=node, nodes=(node,))
    role, task = os.environ.get("HPCRUN_ROLE", "job"), os.environ.get("HPCRUN_TASK_NAME")
    if task is None and role not in ("job", "worker"):
        _refuse("HPCRUN_ROLE", role, "job or worker")
    replica, replicas = _which("HPCRUN_REPLICA_INDEX", "HPCRUN_REPLICA_COUNT", wanted=False)
    node = _node()
    return Current(
        index=index, count=count, attempt=_number("HPCRUN_ATTEMPT", "0"), role=role, replica=replica, replicas=replicas,
        node=node, nodes=_nodes(count) or (node,), workers=_listed("TYGER_WORKER_NODES"), endpoints=_endpoints(),
        run_id=run_id, name=os.environ.get("HPCRUN_RUN_NAME"), run_dir=os.environ.get("HPCRUN_RUN_DIR"),
        results_dir=os.environ.get("HPCRUN_RESULTS_DIR"), task=task,
    )  # fmt: skip


def _which(index_name: str, count_name: str, *, wanted: bool) -> tuple[int, int]:
    """Index and count from their variables, 0 of 1 where neither is set and they are not `wanted`."""
    there = [name in os.environ for name in (index_name, count_name)]
    if not any(there) and not wanted:
        return 0, 1
    if not all(there):
        missing = count_name if there[0] else index_name
        raise UsageError(
            f"found no {missing} in the environment, wanted {index_name} and {count_name}, which every process of a "
            "run has; pass the variables HPCRUN_* on to this one"
        )
    index, count = _number(index_name), _number(count_name)
    if index >= count:
        _refuse(index_name, str(index), f"a number below {count_name}, which is {count}")
    return index, count


def _number(name: str, default: str | None = None) -> int:
    text = os.environ[name] if default is None else os.environ.get(name, default)
    if not text.isascii() or not text.isdecimal():
        _refuse(name, text, "a whole number")
    return int(text)


def _node() -> str:
    # Each rank of a parallel program has Slurm's own word; the others have the node of their shard's supervisor.
    for name in ("SLURMD_NODENAME", "SKYWARD_NODE", "SFLOW_TASK_NODE_NAME"):
        if os.environ.get(name):
            return os.environ[name]
    return os.uname().nodename


def _nodes(count: int) -> tuple[str, ...]:
    peers = os.environ.get("SKYWARD_PEERS", "")
    if count == 1 or not peers:
        return ()
    found = tuple(peers.split(","))
    if len(found) != count:
        _refuse("SKYWARD_PEERS", peers, f"{count} hosts, one for each shard")
    return found


def _listed(name: str) -> tuple[str, ...]:
    """The strings of the JSON array in a variable; none where it is not set."""
    text = os.environ.get(name)
    if text is None:
        return ()
    import json  # here and below: most programs have no workers

    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        _refuse(name, text, "a JSON array of strings")
    return tuple(found)


def _endpoints() -> dict[str, tuple[str, ...]]:
    path = os.environ.get("HPCRUN_WORKERS_FILE")
    if path:
        return dict(_of_file(path))
    # Without the file, as after `hpcrun env`, the name is known in upper case only.
    head, tail = _ENDPOINT
    names = [name for name in os.environ if name.startswith(head) and name.endswith(tail)]
    return {name[len(head) : -len(tail)].lower(): _listed(name) for name in names}


@functools.lru_cache(maxsize=1)
def _of_file(path: str) -> dict[str, tuple[str, ...]]:
    """The addresses in a workers file, by endpoint; it is written once, before its job starts."""
    import json

    try:
        with open(path, encoding="utf-8") as file:
            workers: list[dict[str, Any]] = json.load(file)
        names = workers[0]["endpoints"] if workers else ()
        return {name: tuple(f"{worker['node']}:{worker['endpoints'][name]}" for worker in workers) for name in names}
    except OSError as error:
        _refuse("HPCRUN_WORKERS_FILE", path, f"a file that can be read ({error.strerror})")
    except (ValueError, TypeError, KeyError, AttributeError):
        _refuse("HPCRUN_WORKERS_FILE", path, "a file with the node and the ports of each worker, in JSON")


def _refuse(name: str, found: str, wanted: str) -> NoReturn:
    shown = found if len(found) <= _SHOWN else found[:_SHOWN] + "…"
    raise UsageError(
        f"{name}: found {shown!r}, wanted {wanted}; hpcrun sets it for every process of a run, and whatever "
        "changed it since has to leave it alone"
    )
