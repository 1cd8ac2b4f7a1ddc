"""What will run, fully decided: the one value that crosses from the login node to the compute nodes.

A plan is written as ``plan.json`` for readers and goes, as the same JSON value, into the run's ``node.pyz`` for
the nodes. ``format`` is raised whenever a reader of the older form would misread the newer one.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from hpcrun.errors import RunFolderError

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Role:
    """One kind of process of the run: what it executes and what each copy of it needs."""

    name: str
    """``job``; the word that logs and messages use."""
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


@dataclasses.dataclass(frozen=True)
class Batch:
    """One call of sbatch: the shards ``first … first + count - 1``."""

    index: int
    first: int
    count: int
    array: bool
    """False for a single batch job without ``--array``."""
    throttle: int | None
    """How many of its shards may run at once (``%`` of ``--array``)."""
    after: int | None
    """The batch that must have ended before this one starts; keeps ``max_parallel`` over the whole run."""


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
    """``job`` (one batch job) or ``array``."""
    reason: str
    """Why this shape, for ``hpcrun compile``."""
    shards: int
    sharded: bool
    """False where the user asked for no shards at all: then the shard variables of Velda's dialect are unset."""
    max_parallel: int | None
    role: Role
    timeout: float | None
    """Seconds that one attempt of a shard may take."""
    grace: float
    """Seconds between SIGTERM and SIGKILL where the runtime itself ends a program."""
    export: tuple[str, ...] | None
    """Names of the submission's variables that a program sees, besides the cluster's own; None for all."""
    separate_stderr: bool
    accounting: bool
    """Whether the cluster keeps accounting, so that sacct can be asked."""
    prologue: str
    node_python: str
    devices: tuple[str, ...]
    """The GPUs that the local cluster hands out, by the names CUDA_VISIBLE_DEVICES takes; Slurm does that itself."""
    directives: tuple[tuple[str, str | None], ...]
    """Options of sbatch in order, without their dashes; None for those that take no value."""
    dependency: str | None
    """The user's own ``--dependency``, which every batch gets."""
    batches: tuple[Batch, ...]
    format: int = FORMAT

    def to_json(self) -> dict[str, Any]:
        """The plan as a JSON value; `from_json` makes the same plan of it."""
        return dataclasses.asdict(self)


def from_json(value: dict[str, Any]) -> Plan:
    """The plan that `Plan.to_json` wrote.

    Raises ValueError for another format, by its number.
    """
    if value.get("format") != FORMAT:
        raise ValueError(f"found plan format {value.get('format')!r}, this hpcrun reads format {FORMAT}")
    export = value["export"]
    return Plan(
        **{
            **value,
            "role": Role(**{**value["role"], "command": tuple(value["role"]["command"])}),
            "batches": tuple(Batch(**batch) for batch in value["batches"]),
            "directives": tuple((name, setting) for name, setting in value["directives"]),
            "devices": tuple(value["devices"]),
            "export": None if export is None else tuple(export),
        }
    )


def read(path: str) -> Plan:
    """The plan in the file `path`.

    Raises RunFolderError, with the reason, when it cannot be read or is not a plan of this format.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return from_json(json.load(file))
    except OSError as error:
        raise RunFolderError(path, f"cannot read the plan: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunFolderError(path, f"not a plan this hpcrun can use: {error}") from error
