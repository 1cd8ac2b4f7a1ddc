"""Settings of the site, the user and the project: hpcrun.toml and HPCRUN_* variables.

Later ones win: /etc/hpcrun/hpcrun.toml, ~/.config/hpcrun/hpcrun.toml, the nearest hpcrun.toml at or above the working
directory, then the environment (HPCRUN_HOME, HPCRUN_CLUSTER, HPCRUN_NODE_PYTHON, HPCRUN_TEMPLATES).
docs/settings.md is the reference.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BeforeValidator, Field

from hpcrun import quantity
from hpcrun.errors import ConfigError, SpecError
from hpcrun.fields import (
    EntryError,
    Path,
    Place,
    Source,
    all_of,
    canonical,
    shown,
    snake,
    suggestion,
    validated,
)
from hpcrun.settings_files import DEFAULTS, below_home, files, is_plain
from hpcrun.spec import spelled
from hpcrun.values import Code, MadeBy, Mounts, Word

_TOML_PLACE = re.compile(r"(.*) \(at line (\d+), column \d+\)")
_ENVIRON = {
    field: f"HPCRUN_{field.upper()}" for field in ("home", "cluster", "poller", "node_python", "templates", "codespecs")
}


class _Table(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, defer_build=True)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _all_known(cls, values: Any) -> Any:
        known = list(cls.model_fields)
        for key in values if isinstance(values, dict) else ():
            if key not in known:
                raise EntryError(key, f"found an unknown key.{suggestion(key, known) or all_of(known)}")
        return values


class NodePool(_Table):
    """Where a process runs: one ``[node_pools.NAME]``."""

    partition: Word | None = None
    account: Word | None = None
    qos: Word | None = None
    constraint: Word | None = None
    reservation: Word | None = None


class Machine(_Table):
    """How much a process gets: one ``[machines.NAME]``."""

    cpus: Annotated[int, Field(strict=True, ge=1)] = 1
    memory: Annotated[int, BeforeValidator(quantity.memory)] | None = None
    gpus: Annotated[int, Field(strict=True, ge=0)] = 0
    units: Annotated[float, Field(gt=0)] | None = None
    """Machine units, which compute-seconds are counted in; its CPUs by default."""


PLACEHOLDER = re.compile(r"\{([a-z_]*)\}")
"""What is filled in in the words of a container template."""
_IN_COMMAND = ("image", "workdir", "mounts", "gpu", "shm")
_IN_MOUNT = ("source", "target", "mode")
_OWN_ENVIRONMENT = ("--cleanenv", "-e", "--containall", "-C", "--compat", "--oci")
"""Options of apptainer and singularity under which a program does not get the environment that it was started with."""


class Containers(_Table):
    """How a program runs inside an image: ``[containers]``. `hpcrun.containers` makes command lines of it."""

    runtime: Literal["apptainer", "singularity", "pyxis", "command"] | None = None
    command: list[Word] = []
    """With the runtime ``command``: the words that stand before the program's."""
    mount: list[Word] = []
    """With the runtime ``command``: the words of one mount, put where the word ``{mounts}`` stands."""
    gpu: list[Word] | None = None
    """Words for a program with GPUs; by default ``--nv`` with apptainer and singularity, else none."""
    options: list[Word] = []
    """More options of apptainer's or singularity's ``exec``, or of pyxis' ``srun``."""
    mounts: Mounts = []
    """Folders that every container of the site sees, besides the spec's."""

    @pydantic.model_validator(mode="after")
    def _fit(self) -> Containers:
        for key, problem in _template_problems(self) if self.runtime == "command" else _option_problems(self):
            raise EntryError(key, problem)
        return self


def _option_problems(given: Containers) -> Iterator[tuple[str, str]]:
    """What is wrong where hpcrun makes the command line itself, or nobody does: (key, problem)."""
    for key, words in (("command", given.command), ("mount", given.mount)):
        if words:
            beside = f'runtime = "{given.runtime}"' if given.runtime else "no runtime"
            yield key, f'found a template beside {beside}, wanted runtime = "command" or no `{key}`'
    for word in given.options if given.runtime in ("apptainer", "singularity") else ():
        if word.split("=")[0] in _OWN_ENVIRONMENT:
            problem = (
                f"found {word}, under which programs do not see the variables that tell them who they are; "
                "wanted --contain, --pid, --ipc or others that leave the environment alone"
            )
            yield "options", problem


def _template_problems(given: Containers) -> Iterator[tuple[str, str]]:
    """What is wrong with the site's own templates: (key, problem)."""
    if not given.command or not given.command[0]:
        yield "command", 'found no program, wanted words such as ["podman", "run", "--rm", "{mounts}", "{image}"]'
    if given.options:
        yield "options", 'found options beside runtime = "command", wanted them among the words of `command`'
    for key, words, known in (("command", given.command, _IN_COMMAND), ("mount", given.mount, _IN_MOUNT)):
        for word in words:
            yield from ((key, problem) for problem in _word_problems(word, known))
    if not any("{image}" in word for word in given.command):
        yield "command", "found no {image} in it, wanted the word where the image's name stands"
    if given.mount and not all(any("{" + name + "}" in word for word in given.mount) for name in ("source", "target")):
        yield "mount", 'found a mount without {source} and {target}, wanted such as "--volume={source}:{target}:{mode}"'
    for key, filled, word in (("mount", bool(given.mount), "{mounts}"), ("gpu", given.gpu is not None, "{gpu}")):
        if filled and word not in given.command:
            yield key, f"found `{key}`, and no word {word} in `command` to put it; wanted both"
        if not filled and word in given.command:
            yield "command", f"found the word {word}, and no `{key}` that says what stands there; wanted both"


def _word_problems(word: str, known: tuple[str, ...]) -> Iterator[str]:
    names = PLACEHOLDER.findall(word)
    for name in names:
        if name not in known:
            yield f"found {{{name}}} in {shown(word)}.{suggestion(name, list(known)) or all_of(list(known))}"
        if name in ("mounts", "gpu") and len(word) > len(name) + 2:
            yield f"found {{{name}}} in {shown(word)}, wanted it as a word of its own: several words may stand there"
    if names and any(char.isspace() for char in word):
        yield f"found a blank in {shown(word)}, wanted one word: what is filled in must not become code of a shell"
    if "shm" in names and not word.startswith("-"):
        yield f"found {shown(word)}, wanted option and value in one word, for it is left out where no shm is asked for"


# Sylphx's tiers (its documentation, Machine Tiers). Slurm allots whole CPUs, so those below one get one; they count
# as what Sylphx counts.
TIERS = {
    "nano": Machine.model_construct(cpus=1, memory=256, units=0.125),
    "micro": Machine.model_construct(cpus=1, memory=512, units=0.25),
    "small": Machine.model_construct(cpus=1, memory=1024, units=0.5),
    "standard": Machine.model_construct(cpus=1, memory=2048),
    "large": Machine.model_construct(cpus=2, memory=4096),
    "xlarge": Machine.model_construct(cpus=4, memory=8192),
    "2xlarge": Machine.model_construct(cpus=8, memory=16384),
    "mem-2xlarge": Machine.model_construct(cpus=4, memory=32768),
}


class Config(_Table):
    """All settings, decided."""

    home: str = DEFAULTS["home"]
    """Where run folders are; on a file system that the nodes share."""
    cluster: Literal["auto", "slurm", "local"] = "auto"
    poller: Literal["squeue", "pyslurm"] = "squeue"
    """What asks Slurm's queue: squeue, or pyslurm where there is one that fits, and squeue wherever that fails."""
    node_python: Code = "python3"
    """The Python 3.9 or newer that nodes start; an absolute path where PATH does not find one."""
    templates: str | None = None
    """A folder whose templates replace those of the package, file by file."""
    prologue: Code = ""
    """Shell code that runs in every batch script before the program."""
    grace: Annotated[float, BeforeValidator(quantity.duration)] = 10.0
    """Seconds between SIGTERM and SIGKILL where the runtime itself ends a program."""
    lost_after: Annotated[float, BeforeValidator(quantity.duration)] = 10.0
    """Seconds of silence after which a node of a gang counts as dead."""
    check_limits: Annotated[bool, Field(strict=True)] = True
    """Whether submission asks Slurm for the limits that hold for a run, and refuses what they forbid."""
    codespecs: Code = ""
    """Where named codespecs are kept; the folder codespecs in `home` by default. A group may share one."""
    defaults: dict[str, Any] = {}
    """Fields of a spec that does not say otherwise."""
    node_pools: dict[str, Annotated[NodePool, MadeBy.the(NodePool)]] = {}
    machines: dict[str, Annotated[Machine, MadeBy.the(Machine)]] = {}
    containers: Annotated[Containers, MadeBy.the(Containers)] = Containers.model_construct()
    places: dict[Path, Place] = Field({}, exclude=True)
    """Where each default stands, for errors."""

    def default_fields(self) -> Source:
        """The fields of a spec that the settings give, with their places."""
        prefix = ("defaults",)
        places = {path[1:]: place for path, place in self.places.items() if path[:1] == prefix}
        return spelled(Source(dict(self.defaults), places))


def load(environ: Mapping[str, str], cwd: str) -> Config:
    """The settings that hold in the directory `cwd`.

    Raises ConfigError with file, line and field.
    """
    found = Source({}, {})
    try:
        for path in files(environ, cwd):
            found = found.under(_read(path))
        found = found.under(_from_environ(environ))
        checked = canonical(found, [name for name in Config.model_fields if name != "places"], {}, {})
        config = validated(Config, checked)
        config.model_copy(update={"places": found.places}).default_fields()
    except SpecError as error:
        raise ConfigError(error.problem, file=error.file, line=error.line, field=error.field) from error
    home = os.path.abspath(below_home(config.home, environ))
    if not is_plain(home):
        place = found.place(("home",))
        problem = f"found a control character in {home!r}, wanted a plain path: Slurm cannot name it"
        raise ConfigError(problem, file=place.file, line=place.line, field=place.field or "home")
    return config.model_copy(update={"home": home, "machines": {**TIERS, **config.machines}, "places": found.places})


def _read(path: str) -> Source:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        values = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"cannot read the settings: {error.strerror}", file=path) from error
    except UnicodeDecodeError as error:
        raise ConfigError("found bytes that are not UTF-8, wanted a TOML file", file=path) from error
    except ValueError as error:
        said = _TOML_PLACE.fullmatch(str(error))
        problem, line = (said[1], int(said[2])) if said else (str(error), None)
        raise ConfigError(f"not TOML: {problem}", file=path, line=line) from error
    return Source(values, {(): Place(path), **_places(text, path)})


def _places(text: str, path: str) -> dict[Path, Place]:
    """The line of each ``[table]`` and ``key =``; TOML's parser in the standard library does not tell."""
    found: dict[Path, Place] = {}
    table: Path = ()
    for number, line in enumerate(text.splitlines(), 1):
        head = line.strip()
        if head.startswith("[") and "]" in head:
            table = tuple(part.strip().strip("\"'") for part in head.strip("[]").split("]")[0].split("."))
            found[table] = Place(path, number)
        elif "=" in head and not head.startswith("#"):
            key = head.split("=", 1)[0].strip().strip("\"'")
            found[(*table, *key.split("."))] = Place(path, number)
    return {tuple(map(_canonical_part, route)): place for route, place in found.items()} | found


def _canonical_part(part: str | int) -> str | int:
    return snake(part) if isinstance(part, str) else part


def _from_environ(environ: Mapping[str, str]) -> Source:
    set_ones = {field: name for field, name in _ENVIRON.items() if environ.get(name)}
    values = {field: environ[name] for field, name in set_ones.items()}
    return Source(values, {(field,): Place(field=name) for field, name in set_ones.items()})
