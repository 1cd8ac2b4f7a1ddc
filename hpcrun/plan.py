"""What will run, fully decided: the one value that crosses from the login node to the compute nodes.

A plan is written as ``plan.json`` for readers and goes, as the same JSON value, into the run's ``node.pyz`` for
the nodes. ``format`` is raised whenever a reader of the older form would misread the newer one.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Sequence
from typing import Any

from hpcrun import sweep
from hpcrun.errors import RunFolderError
from hpcrun.indexes import fold_indexes, parse_indexes

FORMAT = 5


@dataclasses.dataclass(frozen=True)
class Probe:
    """A check that passes once a process is ready, and how often it is made. Times are seconds."""

    kind: str
    """``tcp_port``, ``http_get``, ``http_post``, ``log_watch`` or ``exec``; fields of other kinds are empty."""
    port: str
    host: str
    url: str
    headers: dict[str, str]
    pattern: str
    """A regular expression."""
    match_count: int
    command: tuple[str, ...]
    delay: float
    interval: float | None
    """None is adaptive."""
    each_check_timeout: float
    timeout: float | None
    success_threshold: int
    """How many checks in a row must pass; of a probe for failure, how many must hit."""
    body: str = ""
    """What ``http_post`` sends."""
    watched: str = ""
    """The task of the workflow whose log is read, where it is not the probe's own."""
    each: bool = False
    """Whether the check is made on each node of its task, not only on the first."""


@dataclasses.dataclass(frozen=True)
class Role:
    """One kind of process of the run: what it executes and what each copy of it needs."""

    name: str
    """``job`` or ``worker``; the word that logs and messages use."""
    codespec: str
    """``NAME/versions/N`` of the registry, or empty."""
    command: tuple[str, ...]
    """Program and arguments."""
    env: dict[str, str]
    """Variables set on top of the inherited ones."""
    expand: bool
    """Whether ``$(VAR)`` in the command and in env values is expanded on the node. What was typed on a command
    line arrives as it was typed."""
    cwd: str
    cpus: int
    """CPUs of one process."""
    memory: int | None
    """MiB of one process; None leaves it to the cluster's default."""
    gpus: int
    """GPUs of one process."""
    gpu_type: str
    """Slurm's name for their kind; empty for any."""
    replicas: int
    """Copies for each shard."""
    nodes: int | None
    """Nodes of one copy; None leaves it to the cluster."""
    tasks: int
    """Processes of one copy; above 1 they are started together, by srun or mpirun."""
    mpi: str | None
    """What ``srun --mpi`` gets."""
    endpoints: dict[str, int]
    """Ports by name; 0 is a free one for each replica."""
    readiness: Probe | None
    restart: str
    """``never`` or ``always``."""
    units: float
    """Machine units of one process, which compute-seconds are counted in."""


@dataclasses.dataclass(frozen=True)
class Task:
    """A task of a workflow, or one replica of it: what it executes, where, after what, and when it is ready."""

    name: str
    """Its own: ``train_16`` is a replica of ``train``. Letters, digits, ``_``, ``-`` and ``.`` only."""
    of: str
    """The task as the spec calls it."""
    replica: int
    replicas: int
    variables: dict[str, str]
    """What this replica has of the variables that are swept over."""
    role: Role
    """What it executes, with all variables of the workflow in its env; `Role.tasks` is one process a node."""
    needs: tuple[str, ...]
    """The names of those that must have succeeded, or be ready, before this one starts."""
    nodes: tuple[int, ...]
    """Its nodes, as places in the allocation's list of them."""
    devices: tuple[int, ...]
    """Its GPUs on each of these nodes, as the planner counts them, from 0 on."""
    overlaps: bool
    """Whether it shares the CPUs of its nodes with everybody else there, because it asked for none."""
    readiness: tuple[Probe, ...]
    """All of them must pass; with none it is never ready, only at its end. One with probes is a service, which lives
    until the workflow ends."""
    failure: tuple[Probe, ...]
    """With the first that hits it has failed."""
    retries: int
    interval: float
    """Seconds between a failure and the next try."""
    backoff: float
    """What that is multiplied with after each further failure."""
    timeout: float | None
    """Seconds that one try may take."""
    fail_fast: bool
    """Whether its failure ends the rest of the workflow, and not only what needs it."""


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What tells the shards of an array apart that are the replicas of one task.

    Shard i is the i-th of the Cartesian product of the domains, the last variable fastest.
    """

    task: str
    variables: tuple[tuple[str, tuple[str, ...]], ...]
    """Each variable that is swept over, and its domain."""
    commands: tuple[tuple[str, ...], ...]
    """The command of each shard, where they differ; else empty, and the job's own holds for all."""

    def values(self, shard: int) -> dict[str, str]:
        """The value of each variable in a shard."""
        return sweep.values_at(self.variables, shard)

    def name(self, shard: int) -> str:
        """The name of a shard, as a task of a workflow has it: ``train_0_001_32``."""
        return sweep.replica_name(self.task, self.values(shard).values())


@dataclasses.dataclass(frozen=True)
class Batch:
    """One call of sbatch: the shards ``first … first + count - 1``.

    All of them in one job where the run is a gang, else one element for `pack` of them.
    """

    index: int
    first: int
    count: int
    array: bool
    """False for a single batch job without ``--array``."""
    throttle: int | None
    """How many of its shards may run at once (``%`` of ``--array``)."""
    pack: int
    """How many shards each element of its array runs, one after the other."""
    after: int | None
    """The batch that must have ended before this one starts; keeps ``max_parallel`` over the whole run."""
    ids: str = ""
    """The array indices of its elements, one shard each, as a script of sbatch's names them (``1-99:2``); empty for
    0 and up."""
    options: tuple[str, ...] = ()
    """Words for sbatch's command line, which rank over what stands in the script."""

    def words(self, tasks: Sequence[int] | None = None) -> list[str]:
        """The options of sbatch's command line, for all of its elements or for `tasks`."""
        if not self.ids:
            return list(self.options)
        throttle = f"%{self.throttle}" if self.throttle else ""
        return [f"--array={self.ids if tasks is None else fold_indexes(tasks)}{throttle}", *self.options]

    @property
    def elements(self) -> int:
        """How many elements its array has."""
        return -(-self.count // self.pack)

    @functools.cached_property
    def tasks(self) -> Sequence[int]:
        """The array indices of its elements."""
        return parse_indexes(self.ids) if self.ids else range(self.elements)

    @functools.cached_property
    def _places(self) -> dict[int, int]:
        return {task: place for place, task in enumerate(self.tasks)}

    def shards_of(self, task: int) -> range:
        """The shards that the element `task` runs; none where there is no such element."""
        place = self._places.get(task, self.count) if self.ids else task
        first = self.first + place * self.pack
        return range(first, min(first + self.pack, self.first + self.count))

    def task_of(self, shard: int) -> int:
        """The element that runs `shard`."""
        return self.tasks[(shard - self.first) // self.pack]


@dataclasses.dataclass(frozen=True)
class BatchScript:
    """A script of sbatch's own kind that the run is made of, instead of a command."""

    name: str
    """Its path as it was given, ``wrap``, or ``sbatch`` for one from standard input; what a resubmission names."""
    args: tuple[str, ...]
    components: tuple[str, ...]
    """What of it sbatch reads, as it stands there: for each component of the job its lines."""
    output: str
    """Where Slurm writes its output: sbatch's pattern."""
    error: str
    """Where it writes standard error, if that is kept apart; else empty."""
    supervised: bool
    """Whether the runtime carries it out. Else Slurm alone does, and there is what Slurm tells."""


@dataclasses.dataclass(frozen=True)
class Upstream:
    """A run that this one starts after: which, where its folder is, and what of it is waited for."""

    run_id: str
    path: str
    kind: str
    """One of `upstream.KINDS`."""
    round: int
    """The round of its retries by hand whose end counts."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """A run as it will be carried out."""

    run_id: str
    name: str
    created: float
    """Seconds since the epoch."""
    cluster: str
    """``slurm`` or ``local``."""
    shape: str
    """``job`` (one batch job), ``array``, ``gang`` (all shards in one allocation), ``het`` (a heterogeneous job with
    the job as component 0 and the workers as component 1, one for each batch), ``flat`` (job and workers packed into
    one allocation, or into each array element), or ``workflow`` (the tasks of a graph, as steps of one allocation)."""
    reason: str
    """Why this shape, for ``hpcrun compile``."""
    shards: int
    sharded: bool
    """False where the user asked for no shards at all: then the shard variables of Velda's dialect are unset."""
    indexed: bool
    """False where shards take their work from a queue: then they learn of no index but in hpcrun's own variables."""
    max_parallel: int | None
    gang: bool
    """Whether all shards start together or none does."""
    fail_fast: bool
    """Whether the first shard of a gang that fails ends the others."""
    job: Role
    worker: Role | None
    start_timeout: float
    """Seconds until workers, and all shards of a gang, must be up."""
    lost_after: float
    """Seconds of silence after which a node of a gang counts as dead."""
    timeout: float | None
    """Seconds that one attempt of a shard may take."""
    warning: tuple[int, int] | None
    """The signal that warns a program, and how many seconds before its end."""
    budgets: dict[str, int]
    """How often a shard may be tried again, by cause (`retry.BUDGETS` has the names)."""
    backoff: float
    """Seconds between a failure and the next attempt; more after each further one."""
    retry: str
    """``requeue`` (Slurm starts the next attempt, perhaps on another node) or ``in_place``."""
    max_failed: int | None
    """How many shards may fail for good before the rest is stopped; None for all."""
    deadline: float | None
    """When the whole run is stopped, in seconds since the epoch."""
    grace: float
    """Seconds between SIGTERM and SIGKILL where the runtime itself ends a program."""
    export: tuple[str, ...] | None
    """Names of the submission's variables that a program sees, besides the cluster's own; None for all."""
    separate_stderr: bool
    committed: bool
    """Whether each attempt has a folder of its own for results, which becomes the shard's when it succeeds."""
    accounting: bool
    """Whether the cluster keeps accounting, so that sacct can be asked."""
    prologue: str
    node_python: str
    devices: tuple[str, ...]
    """The GPUs that the local cluster hands out, by the names CUDA_VISIBLE_DEVICES takes; Slurm does that itself."""
    components: tuple[tuple[tuple[str, str | None], ...], ...]
    """For each component of the job (one, where it is not heterogeneous) its options of sbatch in order, without their
    dashes; None for those that take no value."""
    dependency: str | None
    """The user's own ``--dependency``, which every batch gets."""
    upstream: tuple[Upstream, ...]
    """The runs whose ends this one waits for; those that had ended as wanted when it was submitted are left out."""
    batches: tuple[Batch, ...]
    tasks: tuple[Task, ...] = ()
    """The tasks of a workflow, each after all that it needs; then `job` stands for the whole and starts nothing."""
    sweep: Sweep | None = None
    """What the shards are, where they are the replicas of a single task."""
    backoff_factor: float = 2.0
    """What `backoff` is multiplied with after each further failure."""
    batch_script: BatchScript | None = None
    """The script of sbatch's kind that it carries out; then `job.command` names a copy of it, or nothing."""
    format: int = FORMAT

    @property
    def supervised(self) -> bool:
        """Whether the runtime carries it out, and keeps records; else there is only what Slurm tells."""
        return self.batch_script is None or self.batch_script.supervised

    def to_json(self) -> dict[str, Any]:
        """The plan as a JSON value; `from_json` makes the same plan of it."""
        return dataclasses.asdict(self)


def from_json(value: dict[str, Any]) -> Plan:
    """The plan that `Plan.to_json` wrote.

    Raises ValueError for another format, by its number.
    """
    if value.get("format") != FORMAT:
        raise ValueError(
            f"found plan format {value.get('format')!r}, wanted {FORMAT}; ask with the hpcrun that submitted the run"
        )
    export, warning = value["export"], value["warning"]
    return Plan(
        **{
            **value,
            "job": _role(value["job"]),
            "worker": _role(value["worker"]) if value["worker"] else None,
            "upstream": tuple(Upstream(**one) for one in value["upstream"]),
            "batches": tuple(Batch(**{**batch, "options": tuple(batch["options"])}) for batch in value["batches"]),
            "components": tuple(tuple((name, setting) for name, setting in options) for options in value["components"]),
            "devices": tuple(value["devices"]),
            "export": None if export is None else tuple(export),
            "warning": None if warning is None else tuple(warning),
            "tasks": tuple(_task(task) for task in value["tasks"]),
            "sweep": _sweep(value["sweep"]) if value["sweep"] else None,
            "batch_script": _batch_script(value["batch_script"]) if value["batch_script"] else None,
        }
    )


def _batch_script(value: dict[str, Any]) -> BatchScript:
    return BatchScript(**{**value, **{name: tuple(value[name]) for name in ("args", "components")}})


def _task(value: dict[str, Any]) -> Task:
    listed = {name: tuple(value[name]) for name in ("needs", "nodes", "devices")}
    probes = {name: tuple(map(_probe, value[name])) for name in ("readiness", "failure")}
    return Task(**{**value, **listed, **probes, "role": _role(value["role"])})


def _sweep(value: dict[str, Any]) -> Sweep:
    variables = tuple((name, tuple(domain)) for name, domain in value["variables"])
    return Sweep(value["task"], variables, tuple(map(tuple, value["commands"])))


def _probe(value: dict[str, Any]) -> Probe:
    return Probe(**{**value, "command": tuple(value["command"])})


def _role(value: dict[str, Any]) -> Role:
    readiness = _probe(value["readiness"]) if value["readiness"] else None
    return Role(**{**value, "command": tuple(value["command"]), "readiness": readiness})


def read(path: str) -> Plan:
    """The plan in the file `path`.

    Raises RunFolderError, with the reason, when it cannot be read or is not a plan of this format.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return from_json(json.load(file))
    except OSError as error:
        raise RunFolderError(path, f"cannot read the plan: {error.strerror}") from error
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise RunFolderError(
            path, f"found no plan ({error}), wanted it as its submission wrote it: bring it back from a copy, or ask "
            "Slurm about the jobs of the run"
        ) from error  # fmt: skip
    except ValueError as error:
        raise RunFolderError(path, str(error)) from error
