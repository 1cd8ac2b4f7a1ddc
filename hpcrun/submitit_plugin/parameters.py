"""From the parameters of submitit's slurm executor to the fields of a run's spec. Pure.

Names and meanings are those of ``submitit.SlurmExecutor`` (1.5), which mostly are sbatch's own. What cannot be honoured
is refused by name. docs/submitit.md has the table.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from hpcrun import quantity
from hpcrun.errors import UsageError

_MINUTES = 5
_SIGNAL_DELAY = 90
_PARALLELISM = 256
_NAME = "submitit"
"""What SlurmExecutor takes where nothing is said."""

_MOST_RETRIES = 50
_OPTIONS = (
    "partition", "qos", "constraint", "exclude", "account", "mail_type", "mail_user", "nodelist", "dependency",
    "exclusive", "wckey", "comment",
)  # fmt: skip
"""Options of sbatch that a spec has under ``sbatch``."""
_AMOUNTS = (
    "mem", "mem_per_cpu", "mem_per_gpu", "gres", "gpus_per_node", "gpus_per_task", "cpus_per_task", "cpus_per_gpu",
)  # fmt: skip
_OWN = ("cluster", "spec")
NAMES = frozenset(
    (
        *_OPTIONS, *_AMOUNTS, *_OWN, "job_name", "time", "nodes", "ntasks_per_node", "num_gpus", "setup", "teardown",
        "signal_delay_s", "array_parallelism", "stderr_to_stdout", "additional_parameters", "srun_args", "use_srun",
    )
)  # fmt: skip
"""Every parameter: those of the slurm executor, `cluster` (auto, slurm or local) and `spec` (further fields)."""
OWN = frozenset(_OWN)

_DECIDED = dict.fromkeys(("command", "args", "script", "codespec", "job", "worker"), "the functions it submits")
_DECIDED |= dict.fromkeys(("shards", "parallelism", "completions", "totalshards"), "how many jobs it submits")
_DECIDED |= dict.fromkeys(("timeout", "timeoutseconds"), "its timeout_min, which its checkpoints go by")
_DECIDED |= dict.fromkeys(("tasks", "ntasks", "nodes"), "its tasks_per_node and nodes")
"""Fields of a spec, in lower case, that say what submitit has other words for, and which."""
_NOT_FORCED = {"gpus": "gpus_per_node", "ntasks": "nodes and ntasks_per_node", "array": "map_array"}


def settled(given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` without what is None, with what ``additional_parameters`` forces in its own place, under one name each.

    Raises UsageError for a parameter that there is not, or that cannot be honoured.
    """
    _check_names(given)
    found = {name: value for name, value in given.items() if value is not None}
    options = {}
    for key, value in found.pop("additional_parameters", {}).items():
        name = str(key).lstrip("-").replace("-", "_")
        if name in _NOT_FORCED:
            raise UsageError(f"found {key} in additional_parameters, wanted {_NOT_FORCED[name]}")
        if name in NAMES - OWN and name not in _OPTIONS:
            found[name] = value
        else:
            options[name] = value
    found["sbatch"] = {name: found.pop(name) for name in _OPTIONS if name in found} | options
    if "num_gpus" in found:
        found["gpus_per_node"] = found.pop("num_gpus")
    _check_srun(found)
    return found


def _check_names(given: Mapping[str, Any]) -> None:
    unknown = sorted(set(given) - NAMES)
    if unknown:
        raise UsageError(f"found unknown parameters: {', '.join(unknown)}; wanted some of: {', '.join(sorted(NAMES))}")


def _check_srun(found: Mapping[str, Any]) -> None:
    words = list(found.get("srun_args") or ())
    if words:
        raise UsageError(
            f"found srun_args={words!r}, wanted none: a job of one task is started without srun, and how several are "
            "started hpcrun decides; `spec={'mpi': …}` sets srun's --mpi"
        )
    if not found.get("use_srun", True) and _tasks(found) > 1:
        raise UsageError(f"found use_srun=False for {_tasks(found)} tasks, which only srun can start; wanted one task")


def tasks(given: Mapping[str, Any]) -> int:
    """How many tasks each job has."""
    return _tasks(settled(given))


def nodes(given: Mapping[str, Any]) -> int:
    """How many nodes each job has."""
    return _nodes(settled(given))


def _nodes(found: Mapping[str, Any]) -> int:
    return _count(found, "nodes", 1)


def _tasks(found: Mapping[str, Any]) -> int:
    return _nodes(found) * _tasks_per_node(found)


def _tasks_per_node(found: Mapping[str, Any]) -> int:
    return max(1, _count(found, "ntasks_per_node", 1))


def _count(found: Mapping[str, Any], name: str, default: int) -> int:
    value = found.get(name, default)
    try:
        return int(value)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name}: found {value!r}, wanted a whole number") from error


def minutes(given: Mapping[str, Any]) -> float:
    """What one attempt of a job may take: `time` in minutes, or as sbatch's ``--time`` spells it."""
    value = given.get("time")
    value = _MINUTES if value is None else value
    try:
        found = quantity.time_limit(value) / 60 if isinstance(value, str) else float(value)
    except (TypeError, ValueError) as error:
        raise UsageError(f"time: found {value!r}, wanted minutes, or a time as sbatch takes it") from error
    if not 0 < found < math.inf:
        raise UsageError(
            f"time: found {value!r}, wanted a time limit: it is what jobs are warned of and requeued after"
        )
    return found


def spec(
    given: Mapping[str, Any],
    *,
    python: str | None,
    program: Iterable[str],
    jobs: int,
    timeouts: int,
    usr_signal: str,
    local: bool,
) -> dict[str, Any]:
    """The fields of the spec of one run for `jobs` jobs.

    `program` is what each task executes; `python`, where it is given, is shell code that replaces its first word.
    After `timeouts` time limits a job is started again. Raises UsageError.
    """
    found = settled(given)
    count, timeout = _tasks(found), minutes(found) * 60
    fields: dict[str, Any] = {
        "name": str(found.get("job_name", _NAME)),
        "timeout": timeout,
        "signal": _signal(found, timeout, usr_signal),
        "stderr": "merged" if found.get("stderr_to_stdout") else "separate",
        "retries": {"preempted": _MOST_RETRIES, "timed_out": _timeouts(timeouts)},
        "sbatch": dict(found["sbatch"]),
        "prologue": "\n".join(_lines(found, "setup")),
        "command": _command(found, python, list(program)),
    }
    if jobs > 1:
        fields |= {"shards": jobs, "max_parallel": _parallel(found)}
    for option, field in (("chdir", "working_dir"), ("export", "export")):
        if option in fields["sbatch"]:
            fields[field] = fields["sbatch"].pop(option)
    amounts = _amounts(found)
    if local:
        fields |= _here(found, amounts, count)
    elif count > 1:
        fields |= {**amounts, "nodes": _nodes(found), "tasks": count}
        if "gpus" in amounts and "gpus_per_task" not in found:
            # Tasks see all GPUs of their node and choose by their local rank, as they do under SlurmExecutor.
            fields["sbatch"].setdefault("gpu_bind", "none")
    else:
        fields |= amounts
    return {name: value for name, value in fields.items() if value not in (None, "", {})}


def _parallel(found: Mapping[str, Any]) -> int:
    at_once = _count(found, "array_parallelism", _PARALLELISM)
    if at_once < 1:
        raise UsageError(f"array_parallelism: found {at_once}, wanted 1 or more")
    return at_once


def _timeouts(timeouts: int) -> int:
    if not 0 <= timeouts <= _MOST_RETRIES:
        raise UsageError(f"max_num_timeout: found {timeouts}, wanted 0 to {_MOST_RETRIES}")
    return timeouts


def _signal(found: Mapping[str, Any], timeout: float, name: str) -> str | None:
    """The warning before the end; never before half of the time is over, and none where there is no time for one.

    submitit's default of 90 s would else warn a job of one minute as it starts.
    """
    ahead = min(_count(found, "signal_delay_s", _SIGNAL_DELAY), math.floor(timeout / 2))
    return f"{name}@{ahead}" if ahead >= 1 else None


def _command(found: Mapping[str, Any], python: str | None, program: list[str]) -> list[str]:
    teardown = _lines(found, "teardown")
    if python is None and not teardown:
        return program
    words = shlex.join(program) if python is None else f"{python} {shlex.join(program[1:])}"
    if not teardown:
        return ["bash", "-c", words]
    if _tasks(found) > 1:
        raise UsageError("found teardown for several tasks, each of which would carry it out; wanted one task")
    # A shell that a signal ends would not come to it.
    return ["bash", "-c", "\n".join(["trap : TERM INT", words, "_code=$?", *teardown, "exit $_code"])]


def _lines(found: Mapping[str, Any], name: str) -> list[str]:
    lines = found.get(name) or ()
    if isinstance(lines, str):
        raise UsageError(f"{name}: found the text {lines!r}, wanted a list of lines of shell code")
    return list(lines)


def _here(found: Mapping[str, Any], amounts: Mapping[str, Any], count: int) -> dict[str, Any]:
    """Amounts of a job without Slurm, where one program starts its tasks."""
    if _nodes(found) > 1:
        raise UsageError(f"nodes: found {_nodes(found)}, and without Slurm there is one; wanted nodes=1")
    return {
        name: _times(value, count) if name == "gpus" else value * count for name, value in amounts.items()
    }  # fmt: skip


def _times(gpus: str, count: int) -> str:
    kind, colon, number = gpus.rpartition(":")
    return f"{kind}{colon}{int(number) * count}"


def _amounts(found: Mapping[str, Any]) -> dict[str, Any]:
    """CPUs, MiB and GPUs of one task, as far as they are said."""
    gpus = _gpus(found)
    number = int(gpus.rpartition(":")[2]) if gpus else 0
    cpus = _cpus(found, number)
    memory = _memory(found, cpus or 1, number)
    amounts = {"cpus": cpus, "memory": memory, "gpus": gpus if number else None}
    return {name: value for name, value in amounts.items() if value}


def _gpus(found: Mapping[str, Any]) -> str:
    """GPUs of one task as ``[TYPE:]NUMBER``; empty for none."""
    said = [name for name in ("gpus_per_node", "gpus_per_task", "gres") if found.get(name)]
    if not said:
        return ""
    if len(said) > 1:
        raise UsageError(f"found {' beside '.join(said)}, wanted one of them")
    text = str(found[said[0]])
    if said[0] == "gres":
        if not re.match(r"gpu(:|$)", text) or "," in text:
            raise UsageError(
                f"gres: found {text!r}, wanted gpu:[TYPE:]NUMBER; `spec={{'sbatch': {{'gres': …}}}}` takes others"
            )
        text = text.partition(":")[2] or "1"
    kind, colon, number = text.rpartition(":")
    if not number.isdecimal():
        raise UsageError(f"{said[0]}: found {found[said[0]]!r}, wanted a number of GPUs, or TYPE:NUMBER")
    each = _tasks_per_node(found) if said[0] != "gpus_per_task" else 1
    if int(number) % each:
        raise UsageError(
            f"{said[0]}: found {number} GPUs for {each} tasks on each node, wanted as many for each task, or "
            "gpus_per_task"
        )
    return f"{kind}{colon}{int(number) // each}"


def _cpus(found: Mapping[str, Any], gpus: int) -> int | None:
    if "cpus_per_gpu" not in found:
        return _count(found, "cpus_per_task", 0) or None
    if "cpus_per_task" in found or not gpus:
        raise UsageError("found cpus_per_gpu beside cpus_per_task, or without GPUs; wanted cpus_per_task")
    return _count(found, "cpus_per_gpu", 1) * gpus


def _memory(found: Mapping[str, Any], cpus: int, gpus: int) -> int | None:
    said = [name for name in ("mem", "mem_per_cpu", "mem_per_gpu") if name in found]
    if not said:
        return None
    if len(said) > 1:
        raise UsageError(f"found {' beside '.join(said)}, wanted one of them")
    if said[0] == "mem_per_gpu" and not gpus:
        raise UsageError("found mem_per_gpu without GPUs, wanted mem or mem_per_cpu")
    try:
        each = quantity.memory(found[said[0]])
    except ValueError as error:
        raise UsageError(f"{said[0]}: {error}") from error
    if said[0] == "mem":
        return max(1, each // _tasks_per_node(found))
    return each * (cpus if said[0] == "mem_per_cpu" else gpus)


def check_more(fields: Mapping[str, Any]) -> None:
    """Raises UsageError where the parameter `spec` has what is decided by other means."""
    for name in fields:
        means = _DECIDED.get(str(name).replace("_", "").replace("-", "").lower())
        if means:
            raise UsageError(f"spec: found {name}, which submitit decides by {means}; wanted other fields of a spec")
