"""Codespecs: what to execute and what each copy of it needs, as pydantic models.

The words are Tyger's (its REST API, ``Codespec``): ``kind: job`` or ``kind: worker``, command, args, env, resources in
Kubernetes quantities, endpoints of workers. Beside them are the ones that Slurm jobs need: nodes, tasks, mpi. A run's
spec describes its job by the same fields. docs/spec.md is the reference.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pydantic
from pydantic import BeforeValidator

from hpcrun import quantity
from hpcrun.fields import Source, canonical, model_of, shown, validated
from hpcrun.values import (
    Command,
    Count,
    Endpoints,
    Env,
    Gpus,
    MadeBy,
    Memory,
    Model,
    Mounts,
    Script,
    Text,
    Word,
    amount,
)

SPELLINGS = {
    "cwd": "working_dir",
    "working_directory": "working_dir",
    "chdir": "working_dir",
    "mem": "memory",
    "cpus_per_task": "cpus",
    "ntasks": "tasks",
    "volume_mounts": "mounts",
}
"""Other names of a codespec's fields, in snake_case."""

_CLOUD = (
    "found a field of Tyger's service that has no meaning on a cluster; wanted a codespec without it (docs/scope.md)"
)
ABSENT = {"buffers": _CLOUD, "sockets": _CLOUD, "identity": _CLOUD}
"""Fields of Tyger's codespecs which hpcrun refuses by name."""

NOT_OURS = "found a field of nv-sflow's that hpcrun does not have"
ABSENT_IN_RUN = {
    "artifacts": f"{NOT_OURS}; wanted the files where the nodes see them, and their paths as variables",
    "operators": f"{NOT_OURS}: on Slurm it starts tasks by srun, locally by themselves; wanted `image` for a container",
    "storage": f"{NOT_OURS}; wanted a last task that takes the results where they are to be",
}
"""Fields of nv-sflow's files which hpcrun refuses by name."""

NAME = re.compile(r"[a-z0-9\-._]+")
_REFERENCE = re.compile(r"([a-z0-9\-._]+)(?:/versions/([1-9][0-9]{0,8}))?")


def _readiness(value: object) -> object:
    from hpcrun import probes

    return model_of(probes.Probe, probes.short(value))


if TYPE_CHECKING:
    from hpcrun.probes import Probe
else:
    Probe = Annotated[Any, MadeBy(_readiness)]


class Amounts(Model):
    """CPUs and memory in Kubernetes quantities: ``500m``, ``2``; ``1Gi``, ``512M``, bytes. Slurm's units come out."""

    cpu: Annotated[int, amount(quantity.kubernetes_cpus)] | None = None
    memory: Annotated[int, amount(quantity.kubernetes_memory)] | None = None


class Resources(Model):
    """Tyger's resources. Slurm allots one amount and caps at it: the limit where there is one, else the request."""

    requests: Amounts = Amounts.model_construct()
    limits: Amounts = Amounts.model_construct()
    gpu: Annotated[int, amount(quantity.kubernetes_count)] | None = None
    shm: Annotated[int, amount(quantity.kubernetes_memory)] | None = None
    """Size of /dev/shm in MiB; container runtimes whose template asks for it get it, else the node's own holds."""

    @property
    def cpus(self) -> int | None:
        """Whole CPUs of one process."""
        return self.limits.cpu or self.requests.cpu

    @property
    def memory(self) -> int | None:
        """MiB of one process."""
        return self.limits.memory or self.requests.memory


ResourcesGiven = Annotated[Resources, MadeBy.the(Resources)]


class Program(Model):
    """A program and what each copy of it needs; what a codespec and a run's job have in common."""

    command: Command | None = None
    """Program and first arguments."""
    args: list[Text] = []
    """Further arguments."""
    script: Script | None = None
    """Shell code for bash, instead of a command: text, or a list of lines."""
    env: Env = {}
    working_dir: Text | None = None
    """Where the program starts; the directory of the submission by default, for workers that of their run."""
    image: Text | None = None
    """A container image, run by the site's runtime."""
    resources: ResourcesGiven = Resources.model_construct()
    cpus: Count | None = None
    """CPUs of one process, 1 by default; wins over resources, as memory and gpus do."""
    memory: Memory | None = None
    """Memory of one process: MiB, or 8G; the cluster's default by default."""
    gpus: Gpus | None = None
    """GPUs of one process: a number, or TYPE:NUMBER."""
    nodes: Count | None = None
    """Nodes of one copy, where it is a parallel program."""
    tasks: Count | None = None
    """Processes (MPI ranks) of one copy; started by srun together."""
    mpi: Word | None = None
    """What ``srun --mpi`` gets: pmix, pmi2, none."""
    mounts: Mounts = []
    """Folders that a container sees: SOURCE[:TARGET[:ro]]."""

    def problems(self) -> list[tuple[tuple[str, ...], str]]:
        """What is wrong with a program whose fields are each right: (field, problem)."""
        found: list[tuple[tuple[str, ...], str]] = []
        if not self.command and not self.script:
            found.append(((), "found no program, wanted `command: [PROGRAM, ARGUMENT, …]` or `script`"))
        if self.command and self.script:
            found.append((("script",), "found `script` beside `command`, wanted one of them"))
        if self.args and self.script:
            found.append((("args",), "found `args` beside `script`, wanted them in the script, or a `command`"))
        return found + self.problems_of_ranks()

    def problems_of_ranks(self) -> list[tuple[tuple[str, ...], str]]:
        """What is wrong with how many processes it is."""
        if self.nodes and self.tasks and self.tasks < self.nodes:
            return [(("tasks",), f"found {self.tasks} tasks on {self.nodes} nodes, wanted a task a node at least")]
        return []


class Codespec(Program):
    """What to execute, and what each copy of it needs."""

    kind: Literal["job", "worker"] = "job"
    max_replicas: Count | None = None
    """The most copies a run may ask for; no bound by default."""
    endpoints: Endpoints = {}
    """Workers: names of ports that they listen on."""
    readiness: Probe | None = None
    """Workers: what must hold before the job starts, besides that every endpoint accepts connections."""
    restart: Literal["never", "always"] = "never"
    """Workers: whether one that exits is started again (Tyger's behaviour) or fails the attempt."""

    def demand(self) -> tuple[int | None, int | None, str | None]:
        """CPUs, MiB and GPUs of one process, as far as this says them."""
        gpu = str(self.resources.gpu) if self.resources.gpu is not None else None
        return self.cpus or self.resources.cpus, self.memory or self.resources.memory, self.gpus or gpu


def spelled(source: Source) -> Source:
    """`source`, a codespec, with every field in its one spelling, the nested ones included.

    Raises SpecError for a field that there is not.
    """
    found = canonical(source, [*Codespec.model_fields, "name", "version", "created_at"], SPELLINGS, ABSENT)
    for system in ("name", "version", "created_at"):  # of Tyger's answers; the registry has its own
        found.values.pop(system, None)
    if isinstance(found.values.get("resources"), dict):
        found = found.replaced("resources", resources_spelled(found.inner("resources")))
    if isinstance(found.values.get("readiness"), dict):
        from hpcrun import probes

        found = found.replaced("readiness", probes.spelled(found.inner("readiness")))
    return found


def resources_spelled(source: Source) -> Source:
    """`source`, Tyger's resources, with every key in its one spelling. Raises SpecError for a key that there is not."""
    found = canonical(source, list(Resources.model_fields), {}, {})
    for name in ("requests", "limits"):
        if isinstance(found.values.get(name), dict):
            found = found.replaced(name, canonical(found.inner(name), list(Amounts.model_fields), {}, {}))
    return found


def checked(source: Source, kind: str | None = None) -> Codespec:
    """The codespec that `source`, spelled already, describes; `kind` is what it is where it does not say.

    Raises SpecError with file, line and field.
    """
    values = {"kind": kind, **source.values} if kind else source.values
    made = validated(Codespec, Source(values, source.places, source.prefix))
    for problem in problems(made, kind):
        raise source.error(*problem)
    return made


def problems(made: Codespec, kind: str | None) -> list[tuple[tuple[str, ...], str]]:
    """What is wrong with a codespec whose fields are each right: (field, problem)."""
    wrong_kind = f"found a codespec of kind {made.kind}, wanted one of kind {kind} here"
    found = [(("kind",), wrong_kind)] if kind and made.kind != kind else []
    return [*found, *_problems_of_kind(made), *made.problems()]


def _problems_of_kind(made: Codespec) -> list[tuple[tuple[str, ...], str]]:
    if made.kind == "worker":
        several = next((field for field in ("tasks", "nodes") if (getattr(made, field) or 1) > 1), None)
        return [((several,), "found a worker of several processes, wanted replicas")] if several else []
    found: list[tuple[tuple[str, ...], str]] = []
    for field, value in (("endpoints", made.endpoints), ("readiness", made.readiness)):
        if value:
            found.append(((field,), f"found {field} on a job; job codespecs cannot have {field}, workers can"))
    if made.restart == "always":
        found.append((("restart",), "found always on a job, wanted it on a worker: runs end when their job ends"))
    return found


def reference(text: str) -> tuple[str, int | None]:
    """Name and version of ``NAME`` or ``NAME/versions/N``.

    Raises ValueError for anything else.
    """
    match = _REFERENCE.fullmatch(text)
    if not match:
        raise ValueError(
            f"found {shown(text)}, wanted the name of a codespec (lower case letters, digits, - . _), "
            "or NAME/versions/NUMBER"
        )
    return match[1], int(match[2]) if match[2] else None


def kind_of(value: Any) -> str:
    """The tag of pydantic's union for a codespec given by name or inline; `fields.validated` drops both from paths."""
    return "function-named" if isinstance(value, str) else "function-inline"


def _given(value: object) -> object:
    if value is None or isinstance(value, (str, Mapping, Codespec)):
        return value
    raise ValueError(f"found {shown(value)}, wanted the name of a codespec (in quotes), or a mapping with `command`")


CodespecGiven = Annotated[
    Annotated[str, pydantic.Tag("function-named")]
    | Annotated[Codespec, MadeBy.the(Codespec), pydantic.Tag("function-inline")],
    pydantic.Discriminator(kind_of),
    BeforeValidator(_given),
]
"""A reference to a named codespec, or one inline."""
