"""Codespecs: what to execute and what each copy of it needs, as pydantic models.

The words are Tyger's (its REST API, ``Codespec``): ``kind: job`` or ``kind: worker``, command, args, env, resources in
Kubernetes quantities, endpoints of workers. Beside them are the ones that Slurm jobs need: nodes, tasks, mpi. A run's
spec describes its job by the same fields. docs/spec.md is the reference.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BeforeValidator, Field

from hpcrun import quantity
from hpcrun.environ import RESERVED_NAMES, RESERVED_PREFIXES, shell_safe
from hpcrun.fields import EntryError, Source, canonical, shown, validated

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

NAME = re.compile(r"[a-z0-9\-._]+")
_REFERENCE = re.compile(r"([a-z0-9\-._]+)(?:/versions/([1-9][0-9]{0,8}))?")
_ENDPOINT = re.compile(r"[A-Za-z]([-_A-Za-z0-9]*[A-Za-z0-9])?")


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


def one_line(text: str) -> str:
    """`text`, which is to become part of a line of an sbatch script.

    Raises ValueError where it holds a control character.
    """
    if any(ord(char) < 32 or char == "\x7f" for char in text):
        raise ValueError(f"found a control character in {shown(text)}, wanted a single line")
    return text


Word = Annotated[str, pydantic.AfterValidator(one_line)]


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
        if len(f"{name}={content}".encode("utf-8", "surrogateescape")) > 131071:
            raise EntryError(name, "found more than 128 KiB, which Linux gives to no program; put it in a file")
    return value


def _gpus(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return str(value)
    name, _, count = str(value).rpartition(":")
    if not isinstance(value, str) or not _is_number(count) or not name.isprintable() or (":" in value and not name):
        raise ValueError(f"found {shown(value)}, wanted a number of GPUs or TYPE:NUMBER")
    return value


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _amount(read: Callable[[Any], Any]) -> BeforeValidator:
    """`read`, a function of `quantity`, for a field: a number beyond all numbers is no amount."""

    def check(value: object) -> object:
        try:
            return read(value)
        except OverflowError as error:
            raise ValueError(f"found {shown(value)}, wanted an amount that a machine may have") from error

    return BeforeValidator(check)


Command = Annotated[list[Text], BeforeValidator(_command)]
Script = Annotated[Code, BeforeValidator(_script)]
Env = Annotated[dict[str, Text], BeforeValidator(_env)]
Memory = Annotated[int, _amount(quantity.memory)]
Gpus = Annotated[str, BeforeValidator(_gpus)]


def _endpoints(value: object) -> object:
    """Endpoint names to ports; ``auto`` is 0, a free port for each replica."""
    if not isinstance(value, Mapping):
        return value
    found: dict[str, int] = {}
    seen: dict[str, str] = {}
    for name, port in value.items():
        if not isinstance(name, str) or not _ENDPOINT.fullmatch(name):
            raise EntryError(name, f"found the endpoint {name!r}, wanted letters, digits and dashes, a letter first")
        key = shell_safe(name)
        if key in seen:
            raise EntryError(name, f"found `{name}` beside `{seen[key]}`: both are {key} in upper case; rename one")
        if port == "auto":
            port = 0
        elif not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= 65535:
            raise EntryError(name, f"found {shown(port)}, wanted a port from 1 to 65535, or auto")
        seen[key], found[name] = name, port
    return found


def _mounts(value: object) -> object:
    """``SOURCE[:TARGET[:ro]]`` or a mapping, as (source, target, read only)."""
    if not isinstance(value, list):
        return value
    return [_mount(entry) for entry in value]


def _mount(entry: object) -> tuple[str, str, bool]:
    if isinstance(entry, str):
        source, _, rest = entry.partition(":")
        target, _, mode = rest.partition(":")
        parts: tuple[object, object, object] = (source, target or source, mode in ("ro",))
        good = mode in ("", "ro", "rw")
    elif isinstance(entry, Mapping):
        given = {str(key).replace("_", "").lower(): content for key, content in entry.items()}
        source_, target_ = given.pop("source", None), given.pop("target", given.pop("mountpath", None))
        parts = (source_, target_ or source_, given.pop("readonly", False))
        good = not given
    else:
        parts, good = (None, None, False), False
    source_, target_, read_only = parts
    if not good or not isinstance(source_, str) or not isinstance(target_, str) or not isinstance(read_only, bool):
        raise ValueError(f"found {shown(entry)}, wanted SOURCE, SOURCE:TARGET or SOURCE:TARGET:ro")
    for path in (source_, target_):
        if not path.startswith("/") or set(path) & set(",:\n\0"):
            raise ValueError(f"found {shown(path)} in {shown(entry)}, wanted an absolute path without , and :")
    return source_, target_, read_only


Mounts = Annotated[list[tuple[str, str, bool]], BeforeValidator(_mounts)]
"""(source, target, read only) of each folder that a container sees."""


class _Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class Amounts(_Model):
    """CPUs and memory in Kubernetes quantities: ``500m``, ``2``; ``1Gi``, ``512M``, bytes. Slurm's units come out."""

    cpu: Annotated[int, _amount(quantity.kubernetes_cpus)] | None = None
    memory: Annotated[int, _amount(quantity.kubernetes_memory)] | None = None


class Resources(_Model):
    """Tyger's resources. Slurm allots one amount and caps at it: the limit where there is one, else the request."""

    requests: Amounts = Amounts()
    limits: Amounts = Amounts()
    gpu: Annotated[int, _amount(quantity.kubernetes_count)] | None = None
    shm: Annotated[int, _amount(quantity.kubernetes_memory)] | None = None
    """Size of /dev/shm in MiB; container runtimes whose template asks for it get it, else the node's own holds."""

    @property
    def cpus(self) -> int | None:
        """Whole CPUs of one process."""
        return self.limits.cpu or self.requests.cpu

    @property
    def memory(self) -> int | None:
        """MiB of one process."""
        return self.limits.memory or self.requests.memory


class TcpPort(_Model):
    """Passes when something accepts connections."""

    port: Text
    host: Text = "127.0.0.1"


class HttpGet(_Model):
    """Passes when the answer is 2xx or 3xx."""

    url: Text
    headers: dict[str, Text] = {}


class LogWatch(_Model):
    """Passes when the log holds `match_count` lines that match a pattern (searched for anywhere in the line)."""

    regex_pattern: Text | None = None
    match_pattern: Text | None = None
    """A plain text, or ``re:PATTERN``."""
    match_count: Count = 1

    @pydantic.model_validator(mode="after")
    def _one(self) -> LogWatch:
        if (self.regex_pattern is None) == (self.match_pattern is None):
            raise ValueError("wanted one of regex_pattern and match_pattern")
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"found {shown(self.pattern)}, which is no regular expression: {error}") from error
        return self

    @property
    def pattern(self) -> str:
        """What is searched for, as a regular expression."""
        if self.regex_pattern is not None:
            return self.regex_pattern
        text = self.match_pattern or ""
        prefix = next((word for word in ("re:", "regex:") if text.startswith(word)), None)
        return text[len(prefix) :] if prefix else re.escape(text)


class Exec(_Model):
    """Passes when the command exits with 0."""

    command: Command


_CHECKS: tuple[tuple[str, type[_Model]], ...] = (
    ("tcp_port", TcpPort), ("http_get", HttpGet), ("log_watch", LogWatch), ("exec", Exec),
)  # fmt: skip


class Probe(_Model):
    """When a process is ready: one check, and how often it is made. The words are nv-sflow's and Kubernetes'."""

    tcp_port: TcpPort | None = None
    http_get: HttpGet | None = None
    log_watch: LogWatch | None = None
    exec: Exec | None = None
    delay: Annotated[float, BeforeValidator(quantity.seconds)] = 0.0
    """Seconds before the first check."""
    interval: Annotated[float, BeforeValidator(quantity.duration)] | None = None
    """Seconds between two checks; by default 20 ms at first and half a second at most."""
    each_check_timeout: Annotated[float, BeforeValidator(quantity.duration)] = 5.0
    timeout: Annotated[float, BeforeValidator(quantity.duration)] | None = None
    """Seconds until it must have passed; the run's start_timeout holds as well."""
    success_threshold: Count = 1
    """How many checks in a row must pass."""

    @pydantic.model_validator(mode="after")
    def _one(self) -> Probe:
        if sum(check is not None for check in (self.tcp_port, self.http_get, self.log_watch, self.exec)) != 1:
            raise ValueError("wanted exactly one of tcp_port, http_get, log_watch and exec")
        return self


def _probe(value: object) -> object:
    if isinstance(value, Mapping) and "exec" in value and isinstance(value["exec"], list):
        return {**value, "exec": {"command": value["exec"]}}
    return value


class Codespec(_Model):
    """What to execute, and what each copy of it needs."""

    kind: Literal["job", "worker"] = "job"
    image: Text | None = None
    """A container image, for the site's runtime."""
    command: Command | None = None
    """Program and first arguments."""
    args: list[Text] = []
    """Further arguments."""
    script: Script | None = None
    """Shell code for bash, instead of a command: text, or a list of lines."""
    env: Env = {}
    working_dir: Text | None = None
    resources: Resources = Resources()
    cpus: Count | None = None
    """CPUs of one process; wins over resources, as memory and gpus do."""
    memory: Memory | None = None
    """Memory of one process: MiB, or 8G."""
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
    max_replicas: Count | None = None
    """The most copies a run may ask for; no bound by default."""
    endpoints: Annotated[dict[str, int], BeforeValidator(_endpoints)] = {}
    """Workers: names of ports that they listen on; 0 (``auto``) is a free one for each replica."""
    readiness: Annotated[Probe, BeforeValidator(_probe)] | None = None
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
        found = found.replaced("readiness", _probe_spelled(found.inner("readiness")))
    return found


def resources_spelled(source: Source) -> Source:
    """`source`, Tyger's resources, with every key in its one spelling. Raises SpecError for a key that there is not."""
    found = canonical(source, list(Resources.model_fields), {}, {})
    for name in ("requests", "limits"):
        if isinstance(found.values.get(name), dict):
            found = found.replaced(name, canonical(found.inner(name), list(Amounts.model_fields), {}, {}))
    return found


def _probe_spelled(source: Source) -> Source:
    found = canonical(source, list(Probe.model_fields), {}, {})
    for name, model in _CHECKS:
        if isinstance(found.values.get(name), dict):
            found = found.replaced(name, canonical(found.inner(name), list(model.model_fields), {}, {}))
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
    found: list[tuple[tuple[str, ...], str]] = []
    if kind and made.kind != kind:
        found.append((("kind",), f"found a codespec of kind {made.kind}, wanted one of kind {kind} here"))
    found += _problems_of_kind(made)
    if not made.command and not made.script:
        found.append(((), "found no program, wanted `command: [PROGRAM, ARGUMENT, …]` or `script`"))
    if made.command and made.script:
        found.append((("script",), "found `script` beside `command`, wanted one of them"))
    if made.args and made.script:
        found.append((("args",), "found `args` beside `script`, wanted them in the script, or a `command`"))
    if made.nodes and made.tasks and made.tasks < made.nodes:
        found.append((("tasks",), f"found {made.tasks} tasks on {made.nodes} nodes, wanted a task a node at least"))
    return found


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
    Annotated[str, pydantic.Tag("function-named")] | Annotated[Codespec, pydantic.Tag("function-inline")],
    pydantic.Discriminator(kind_of),
    BeforeValidator(_given),
]
"""A reference to a named codespec, or one inline."""
