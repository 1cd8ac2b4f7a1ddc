"""compile_plan: from what was asked for to what will run. Pure: every fact about the world is an argument."""

from __future__ import annotations

import dataclasses
import math
import os
import shlex

from hpcrun.cluster import Limits
from hpcrun.config import Config, Machine, NodePool
from hpcrun.environ import RESERVED_NAMES, RESERVED_PREFIXES
from hpcrun.errors import SpecError
from hpcrun.fields import suggestion
from hpcrun.plan import Batch, Plan, Role
from hpcrun.spec import RunSpec

TIME_MARGIN = 60
"""Seconds between the end of a shard's own timeout and Slurm's limit, so that the record is written first."""

_SHELLS = ("bash", "sh", "zsh", "python", "python3", "perl", "Rscript", "julia", "node")


@dataclasses.dataclass(frozen=True)
class Submission:
    """Who asks, when, from where."""

    run_id: str
    created: float
    """Seconds since the epoch."""
    cwd: str
    cluster: str
    """``slurm`` or ``local``."""
    typed: bool
    """Whether the command came from a command line, where the shell has expanded what was to be expanded."""


def compile_plan(spec: RunSpec, config: Config, limits: Limits, asked: Submission) -> Plan:
    """The plan of the run that `spec` asks for under these settings and limits.

    Raises SpecError for a demand that cannot be met.
    """
    machine, pool = _machine(spec, config), _pool(spec, config)
    name = spec.name or _default_name(spec)
    names, settings = _export(spec.export)
    prologue = "\n".join(part for part in (config.prologue, spec.prologue or "") if part)
    role = _role(spec, machine, asked, name, settings, prologue)
    throttle = _local_throttle(role, limits) if asked.cluster == "local" else None
    batches = _batches(spec, limits, throttle)
    dependency = spec.sbatch.get("dependency")
    if dependency and "?" in dependency and any(batch.after is not None for batch in batches):
        raise SpecError(
            "found alternatives (?) beside max_parallel on a run of several arrays, which depend on each other; "
            "wanted dependencies that all must hold (,)", field="sbatch.dependency",
        )  # fmt: skip
    return Plan(
        run_id=asked.run_id,
        name=name,
        created=asked.created,
        cluster=asked.cluster,
        shape="array" if batches[0].array else "job",
        reason=_reason(spec, limits, batches, asked.cluster),
        shards=spec.shards or 1,
        sharded=spec.shards is not None,
        max_parallel=spec.max_parallel,
        role=role,
        timeout=spec.timeout,
        grace=config.grace,
        export=names,
        separate_stderr=spec.stderr == "separate",
        accounting=limits.accounting,
        prologue=prologue,
        node_python=config.node_python,
        devices=limits.devices if role.gpus else (),
        directives=_directives(spec, config, role, pool, name, asked),
        dependency=dependency,
        batches=batches,
    )


def _machine(spec: RunSpec, config: Config) -> Machine | None:
    if spec.machine is None:
        return None
    if spec.machine not in config.machines:
        raise _unknown("machine", spec.machine, sorted(config.machines))
    return config.machines[spec.machine]


def _pool(spec: RunSpec, config: Config) -> NodePool:
    if spec.node_pool is None:
        return NodePool()
    if spec.node_pool not in config.node_pools:
        raise _unknown("node_pool", spec.node_pool, sorted(config.node_pools))
    return config.node_pools[spec.node_pool]


def _unknown(field: str, found: str, known: list[str]) -> SpecError:
    table = f"[{field}s.{found}]"
    wanted = f"one of: {', '.join(known)}" if known else f"a {table} in hpcrun.toml; there is none yet"
    return SpecError(f"found {found!r}, wanted {wanted}.{suggestion(found, known)}", field=field)


def _default_name(spec: RunSpec) -> str:
    """The program's name; of ``python train.py`` that is ``train``."""
    words = [*(spec.command or ["script"]), *spec.args]
    first = os.path.basename(words[0])
    if first in _SHELLS and len(words) > 1 and not words[1].startswith("-"):
        return os.path.splitext(os.path.basename(words[1]))[0] or first
    return first


def _export(text: str | None) -> tuple[tuple[str, ...] | None, dict[str, str]]:
    """sbatch's ``--export`` as the names a program is to see (None for all) and the variables it sets."""
    if text is None:
        return None, {}
    lexer = shlex.shlex(text, posix=True, punctuation_chars=False)
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = ",", True, ""
    try:
        words = list(lexer)
    except ValueError as error:
        raise SpecError(
            f"found {text!r} with an open quote, wanted ALL, NONE, or NAME[=VALUE] with commas", field="export"
        ) from error
    settings = dict(word.split("=", 1) for word in words if "=" in word)
    for name in settings:
        if not name or name.startswith(RESERVED_PREFIXES) or name in RESERVED_NAMES:
            raise SpecError(f"found {name}=, wanted a name that hpcrun does not set itself", field="export")
    names = tuple(word for word in words if "=" not in word and word not in ("ALL", "NONE", "NIL"))
    return (None if "ALL" in words else names), settings


def _role(
    spec: RunSpec, machine: Machine | None, asked: Submission, name: str, settings: dict[str, str], prologue: str
) -> Role:
    command = ("bash", "-c", spec.script, name) if spec.script else (*(spec.command or ()), *spec.args)
    if prologue and asked.cluster == "local":
        # On Slurm the batch script runs the prologue; here there is none.
        command = ("bash", "-c", f'_program=("$@")\n{prologue}\nexec "${{_program[@]}}"', "bash", *command)
    sized = machine or Machine()
    gpus = int(spec.gpus.rpartition(":")[2]) if spec.gpus else sized.gpus
    return Role(
        name="job",
        command=command,
        env={**settings, **spec.env},
        expand=not asked.typed and not spec.script,
        cwd=os.path.normpath(os.path.join(asked.cwd, spec.working_dir or ".")),
        cpus=spec.cpus or sized.cpus,
        memory=spec.memory or sized.memory,
        gpus=gpus,
    )


def _local_throttle(role: Role, limits: Limits) -> int:
    """How many shards this machine holds at once.

    Raises SpecError where it does not hold one, with the arithmetic.
    """
    demands = (
        ("cpus", role.cpus, limits.cpus, ""),
        ("memory", role.memory or 0, limits.memory, " MiB"),
        ("gpus", role.gpus, len(limits.devices), ""),
    )
    for field, wanted, there, unit in demands:
        if there is not None and wanted > there:
            raise SpecError(f"found {wanted}{unit} a shard, and this machine has {there}{unit}; lower it", field=field)
    return min(there // wanted for _, wanted, there, _ in demands if wanted and there is not None)


def _batches(spec: RunSpec, limits: Limits, throttle: int | None) -> tuple[Batch, ...]:
    """The arrays of the run, each as large as the cluster takes one.

    `max_parallel` holds over all of them without anybody watching: as many lanes of arrays as fit under it, each array
    after the one before it in its lane, each with its share as its own throttle.
    """
    shards = spec.shards or 1
    size = min(shards, limits.max_array)
    at_once = min(value for value in (spec.max_parallel, throttle, shards) if value is not None)
    if shards == 1:
        return (Batch(index=0, first=0, count=1, array=False, throttle=None, after=None),)
    lanes = max(1, at_once // size)
    share = at_once // lanes
    firsts = range(0, shards, size)
    return tuple(
        Batch(
            index=index,
            first=first,
            count=min(size, shards - first),
            array=True,
            throttle=share if share < min(size, shards - first) else None,
            after=index - lanes if spec.max_parallel is not None and index >= lanes else None,
        )
        for index, first in enumerate(firsts)
    )


def _reason(spec: RunSpec, limits: Limits, batches: tuple[Batch, ...], cluster: str) -> str:
    if cluster == "local":
        at_once = f", up to {batches[0].throttle or spec.shards} at once" if spec.shards else ""
        return f"{_so_many(spec)} on this machine{at_once}"
    if not batches[0].array:
        return f"{_so_many(spec)}: one batch job"
    if len(batches) == 1:
        return f"{spec.shards} independent shards: one job array"
    chain = "" if spec.max_parallel is None else ", one after the other so that max_parallel holds with nobody watching"
    return (
        f"{spec.shards} independent shards: {len(batches)} job arrays, for this cluster takes arrays of up to "
        f"{limits.max_array} elements{chain}"
    )


def _so_many(spec: RunSpec) -> str:
    if spec.shards is None:
        return "one program"
    return f"{spec.shards} shards" if spec.shards > 1 else "one shard"


def _directives(
    spec: RunSpec, config: Config, role: Role, pool: NodePool, name: str, asked: Submission
) -> tuple[tuple[str, str | None], ...]:
    """sbatch's options, ours first; what the user gave by sbatch's own names comes last and wins."""
    comment = f"{spec.sbatch['comment']} " if spec.sbatch.get("comment") else ""
    options: dict[str, str | None] = {
        "job-name": _one_line(name),
        "open-mode": "append",
        "comment": f"{comment}hpcrun:{asked.run_id}",
        "export": "ALL",
        "requeue": None,
    }
    options.update((field, value) for field, value in pool.model_dump().items() if value is not None)
    if spec.cpus or spec.machine:
        options["cpus-per-task"] = str(role.cpus)
    if role.memory:
        options["mem-per-cpu"] = f"{math.ceil(role.memory / role.cpus)}M"
    if role.gpus:
        options["gpus"] = spec.gpus or str(role.gpus)
    if spec.timeout is not None:
        options["time"] = str(math.ceil((spec.timeout + config.grace + TIME_MARGIN) / 60))
    if "no-requeue" in spec.sbatch:
        del options["requeue"]
    given = {option: value for option, value in spec.sbatch.items() if option not in ("comment", "dependency")}
    return tuple({**options, **given}.items())


def _one_line(name: str) -> str:
    """A name that Slurm can hold; the run itself keeps the true one."""
    return "".join(char if char.isprintable() else "?" for char in name)[:200] or "run"
