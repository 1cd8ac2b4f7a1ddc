"""The run spec: what was asked for, as pydantic models.

Field names are snake_case; camelCase and the names that Sylphx, Velda, Kubernetes and sbatch use for the same thing
are accepted beside them (`SPELLINGS`). docs/spec.md is the reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BeforeValidator, Field

from hpcrun import quantity
from hpcrun.environ import RESERVED_NAMES, RESERVED_PREFIXES
from hpcrun.fields import EntryError, Source, canonical, shown, suggestion, validated
from hpcrun.indexes import MAX_INDEXES
from hpcrun.sbatch_options import BARE, FLAGS, KNOWN, OWNED, SPEC_FIELDS

SPELLINGS = {
    "parallelism": "shards",
    "completions": "shards",
    "total_shards": "shards",
    "timeout_seconds": "timeout",
    "cwd": "working_dir",
    "working_directory": "working_dir",
    "chdir": "working_dir",
    "pool": "node_pool",
    "mem": "memory",
    "cpus_per_task": "cpus",
    "slurm": "sbatch",
}
"""Other names of a field, in snake_case."""

_NOT_YET = (
    "found a field that this version cannot carry out; wanted a spec without it (docs/scope.md says what is planned)"
)
_NOT_YET_VALUE = "anything else is not part of this version (docs/scope.md says what is planned)"
ABSENT = dict.fromkeys(
    [
        "worker",
        "job",
        "workflow",
        "variables",
        "image",
        "volume_mounts",
        "retries",
        "back_off_limit",
        "backoff_limit",
        "max_failed_indexes",
        "run_timeout",
        "success_policy",
        "node_selector",
        "identity",
        "buffers",
        "endpoints",
        "replicas",
        "kind",
    ],
    _NOT_YET,
)
"""Fields of the systems that hpcrun learns from which it refuses by name."""


def _text(value: object) -> object:
    """Numbers where text is wanted are what YAML made of it; of true and false nobody knows which word was meant."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return value


def _no_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError(f"found a NUL byte in {shown(value)}, wanted text: no program can be given one")
    return value


Text = Annotated[str, BeforeValidator(_text), pydantic.AfterValidator(_no_nul)]
Code = Annotated[str, pydantic.AfterValidator(_no_nul)]
Count = Annotated[int, Field(strict=True, ge=1)]


def _command(value: object) -> object:
    if isinstance(value, str):
        raise ValueError(
            f"found the text {shown(value)}, wanted a list such as [python, train.py]; for shell code use `script`"
        )
    if value == []:
        raise ValueError("found an empty list, wanted a program and its arguments")
    if isinstance(value, list) and value[0] == "":
        raise ValueError("found an empty text as the program, wanted its name or path")
    return value


def _script(value: object) -> object:
    return "\n".join(value) if isinstance(value, list) and all(isinstance(line, str) for line in value) else value


def _env(value: object) -> object:
    for name, content in value.items() if isinstance(value, dict) else ():
        if isinstance(content, bool):
            raise EntryError(name, f'found {shown(content)}, wanted text; write {name}: "{shown(content)}"')
        if not isinstance(name, str) or not name or "=" in name or "\0" in name:
            raise EntryError(name, f"found the variable name {name!r}, wanted a name without = or NUL")
        if name.startswith(RESERVED_PREFIXES) or name in RESERVED_NAMES:
            raise EntryError(name, f"found {name}, which hpcrun sets itself; wanted a name without a reserved prefix")
        if len(os_bytes(f"{name}={content}")) > 131071:
            raise EntryError(name, "found more than 128 KiB, which Linux gives to no program; put it in a file")
    return value


def os_bytes(text: str) -> bytes:
    """`text` as the operating system gets it; bytes that were no UTF-8 come back as they were."""
    return text.encode("utf-8", "surrogateescape")


def _gpus(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return str(value)
    name, _, count = str(value).rpartition(":")
    if not isinstance(value, str) or not _is_number(count) or not name.isprintable() or (":" in value and not name):
        raise ValueError(f"found {shown(value)}, wanted a number of GPUs or TYPE:NUMBER")
    return value


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _sbatch(value: object) -> object:
    """sbatch's options by long name: a text or number, true for a bare flag, false for none at all."""
    if not isinstance(value, Mapping):
        return value
    found: dict[str, str | None] = {}
    for key, setting in value.items():
        name = str(key).lstrip("-").replace("_", "-")
        try:
            _refuse_option(name)
            if setting is not False:
                found[name] = _option_value(name, setting)
        except ValueError as error:
            raise EntryError(key, str(error)) from error
    return found


def _refuse_option(name: str) -> None:
    if name in OWNED:
        raise ValueError(f"found --{name}, which hpcrun decides: {OWNED[name]}")
    if name in SPEC_FIELDS:
        raise ValueError(f"found --{name}, wanted the spec's own field `{SPEC_FIELDS[name]}`")
    if name not in KNOWN:
        raise ValueError(f"found --{name}, which sbatch does not have.{suggestion(name, sorted(KNOWN))}")


def _option_value(name: str, setting: object) -> str | None:
    if setting is True or setting is None:
        if name not in FLAGS:
            raise ValueError(f"found --{name} without a value, wanted --{name}=VALUE")
        return None
    if name in BARE:
        raise ValueError(f"found --{name}={setting}, wanted --{name} alone: it takes no value")
    if isinstance(setting, Mapping):
        raise ValueError(f"found {shown(setting)}, wanted text, a number or a list")
    return one_line(",".join(map(str, setting)) if isinstance(setting, list) else str(setting))


def one_line(text: str) -> str:
    """`text`, which is to become part of a line of an sbatch script.

    Raises ValueError where it holds a control character.
    """
    if any(ord(char) < 32 or char == "\x7f" for char in text):
        raise ValueError(f"found a control character in {shown(text)}, wanted a single line")
    return text


def _only(allowed: object) -> BeforeValidator:
    """A field of another system that may say what hpcrun does anyway, and nothing else."""

    def check(value: object) -> None:
        if value != allowed or type(value) is not type(allowed):
            raise ValueError(f"found {shown(value)}, wanted {shown(allowed)} or no such field: {_NOT_YET_VALUE}")

    return BeforeValidator(check)


class RunSpec(pydantic.BaseModel):
    """One run: a program, how many shards of it, and what each needs."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    name: Text | None = None
    """Any text; the program's name by default."""
    command: Annotated[list[Text], BeforeValidator(_command)] | None = None
    """Program and first arguments."""
    args: list[Text] = []
    """Further arguments."""
    script: Annotated[Code, BeforeValidator(_script)] | None = None
    """Shell code for bash, instead of a command: text, or a list of lines."""
    env: Annotated[dict[str, Text], BeforeValidator(_env)] = {}
    working_dir: Text | None = None
    """Where the program starts; the directory of the submission by default."""
    shards: Annotated[Count, Field(le=MAX_INDEXES)] | None = None
    """How many indices the run has; none by default, which is one program and no shard variables of Velda."""
    completion_mode: Annotated[None, _only("Indexed")] = None
    gang_scheduling: Annotated[None, _only(False)] = None
    backoff_limit_per_index: Annotated[None, _only(0)] = None
    max_parallel: Count | None = None
    """How many shards may run at once over the whole run."""
    timeout: Annotated[float, BeforeValidator(quantity.duration)] | None = None
    """Seconds that one attempt of a shard may take, or 90s, 15m, 1h30m."""
    machine: str | None = None
    node_pool: str | None = None
    cpus: Count | None = None
    """CPUs of one process; 1 by default."""
    memory: Annotated[int, BeforeValidator(quantity.memory)] | None = None
    """Memory of one process: MiB, or 8G; the cluster's default by default."""
    gpus: Annotated[str, BeforeValidator(_gpus)] | None = None
    """GPUs of one process: a number, or TYPE:NUMBER."""
    stderr: Literal["merged", "separate"] = "merged"
    export: Text | None = None
    """As sbatch's ``--export``: ALL (default), NONE, or NAME[=VALUE] with commas."""
    prologue: Code | None = None
    """Shell code that runs in the batch script before the program, besides the site's own."""
    sbatch: Annotated[dict[str, str | None], BeforeValidator(_sbatch)] = {}
    """Any of sbatch's long options."""


def spelled(source: Source) -> Source:
    """`source` with every field in its one spelling; sources are spelled alike before one is laid over another.

    Raises SpecError for a field that there is not.
    """
    return canonical(source, list(RunSpec.model_fields), SPELLINGS, ABSENT)


def from_source(source: Source) -> RunSpec:
    """The spec that `source` describes, whatever spellings it uses.

    Raises SpecError with file, line and field.
    """
    found = spelled(source)
    spec = validated(RunSpec, found)
    if spec.command and spec.script:
        raise found.error(("script",), "found `script` beside `command`, wanted one of them")
    if not spec.command and not spec.script:
        raise found.error((), "found no program, wanted `command: [PROGRAM, ARGUMENT, …]` or `script`")
    if spec.args and spec.script:
        raise found.error(("args",), "found `args` beside `script`, wanted them in the script, or a `command`")
    return spec


def raw(values: Mapping[str, Any]) -> Source:
    """A source of values that stand in no file."""
    return Source(dict(values), {})
