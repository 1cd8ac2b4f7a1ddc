"""A call of sbatch as sbatch itself understands it: its command line, its environment, its script.

Options of the command line rank over those of variables (``SBATCH_…``), these over ``#PBS`` and ``#BSUB`` lines, and
these over ``#SBATCH`` lines. Nothing here is a judgement: what sbatch refuses is for sbatch to refuse.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from hpcrun.errors import UsageError
from hpcrun.sbatch_header import Header, header
from hpcrun.sbatch_options import ALIASES, OF_A_COMPONENT, OF_THE_LINE
from hpcrun.sbatch_paths import Array, array, find_script, output_path
from hpcrun.sbatch_words import NO, OPTIONAL, REQUIRED, Option, Piece, Version, is_option, table, take

__all__ = [
    "Array", "Effective", "Header", "Line", "Option", "array", "effective", "find_script", "from_environment",
    "header", "output_path", "parse", "plugin_options", "wrapped",
]  # fmt: skip

SEPARATOR = ":"


@dataclass(frozen=True)
class Line:
    """sbatch's command line."""

    pieces: tuple[Piece, ...]
    rest: tuple[str, ...]
    """The words behind the options, as given."""

    @property
    def options(self) -> tuple[Option, ...]:
        """The options in order."""
        return tuple(option for piece in self.pieces for option in piece.options)

    @property
    def components(self) -> int:
        """How many components of a heterogeneous job the line names."""
        return 1 + sum(piece.words == (SEPARATOR,) for piece in self.pieces)

    @property
    def wrap(self) -> str | None:
        """The command of ``--wrap``."""
        return self.get("wrap")

    @property
    def script(self) -> str | None:
        """The script as it was given; None where it is standard input, or the command of ``--wrap``."""
        return next(iter(self._words), None) if self.wrap is None else None

    @property
    def args(self) -> tuple[str, ...]:
        """The script's arguments."""
        return self._words[1:] if self.wrap is None else self._words

    @property
    def _words(self) -> tuple[str, ...]:
        # sbatch takes separators out of its whole command line before it looks for the script.
        return tuple(word for word in self.rest if word != SEPARATOR)

    def get(self, name: str, component: int | None = None) -> str | None:
        """The last value of an option, "" for a flag without one, None where it is not given.

        Without `component`, in any of them: so sbatch reads ``--wrap``, ``--quiet`` and ``--version``.
        """
        return _last(name, [option for option in self.options if component in (None, option.component)])

    def words(self, without: Collection[str] = ()) -> list[str]:
        """The words as given, without the options of these names."""
        return [*self.option_words(without), *self.rest]

    def option_words(self, without: Collection[str] = ()) -> list[str]:
        """The words up to the script."""
        return [word for piece in self.pieces for word in _kept(piece, without)]

    @property
    def unknown(self) -> tuple[str, ...]:
        """Names of long options that no sbatch has: a plug-in's, or a mistake; see `plugin_options`."""
        known = table().takes
        longs = [option for option in self.options if option.words and option.words[0].startswith("--")]
        return tuple(option.name for option in longs if option.name not in known)


def _kept(piece: Piece, without: Collection[str]) -> tuple[str, ...]:
    kept = [option for option in piece.options if option.name not in without]
    return piece.words if len(kept) == len(piece.options) else tuple(option.spelled() for option in kept)


def _last(name: str, options: Sequence[Option]) -> str | None:
    wanted = ALIASES.get(name, name)
    found = [option for option in options if option.name == wanted]
    return None if not found or found[-1].off else found[-1].value or ""


def parse(
    argv: Sequence[str],
    own: Mapping[str, bool],
    version: Version | None = None,
    plugins: Mapping[str, bool] | None = None,
) -> tuple[dict[str, str], Line]:
    """What was given of our `own` options (True: takes a value; a flag gives ""), and sbatch's line without them.

    `argv` is without the command's name. An option of ours counts only where it is spelt in full, and only before the
    script. Raises `UsageError` for one of ours without its value, or with one that it does not take.
    """
    known = table(version, plugins)
    given: dict[str, str] = {}
    pieces: list[Piece] = []
    rest, component = list(argv), 0
    while rest and (rest[0] == SEPARATOR or is_option(rest[0])):
        name = rest[0][2:].partition("=")[0]
        if rest[0] == SEPARATOR:
            pieces.append(Piece((rest.pop(0),)))
            component += 1
        elif rest[0].startswith("--") and name in own:
            given[name] = _own(rest, own[name])
        else:
            pieces.append(take(rest, known, component))
            if pieces[-1].words == ("--",):
                break
    return given, Line(tuple(pieces), tuple(rest))


def _own(rest: list[str], takes_value: bool) -> str:
    """Take an option of ours off `rest`; its value."""
    name, equals, value = rest.pop(0).partition("=")
    if not takes_value:
        if equals:
            raise UsageError(f"{name}: found the value {value!r}, wanted {name} alone: it takes none")
        return ""
    if not equals and not rest:
        raise UsageError(f"{name}: found nothing behind it, wanted a value: {name}=VALUE")
    return value if equals else rest.pop(0)


VARIABLES = {
    "ACCOUNT": "account", "ARRAY_INX": "array", "ACCTG_FREQ": "acctg-freq", "BATCH": "batch", "BURST_BUFFER": "bb",
    "CLUSTER_CONSTRAINT": "cluster-constraint", "CLUSTERS": "clusters",
    "CONSOLIDATE_SEGMENTS": "consolidate-segments", "CONTAINER": "container", "CONTAINER_ID": "container-id",
    "CONTAINER_TYPE": "container-type", "CONSTRAINT": "constraint", "CORE_SPEC": "core-spec",
    "CPU_FREQ_REQ": "cpu-freq", "CPUS_PER_GPU": "cpus-per-gpu", "DELAY_BOOT": "delay-boot",
    "DISTRIBUTION": "distribution", "EXCLUSIVE": "exclusive", "EXPORT": "export", "GET_USER_ENV": "get-user-env",
    "GRES": "gres", "GRES_FLAGS": "gres-flags", "GPUS": "gpus", "GPU_BIND": "gpu-bind", "GPU_FREQ": "gpu-freq",
    "GPUS_PER_NODE": "gpus-per-node", "GPUS_PER_SOCKET": "gpus-per-socket", "GPUS_PER_TASK": "gpus-per-task",
    "HINT": "hint", "JOB_NAME": "job-name", "MEM_BIND": "mem-bind", "MEM_PER_CPU": "mem-per-cpu",
    "MEM_PER_GPU": "mem-per-gpu", "MEM_PER_NODE": "mem", "NETWORK": "network", "NO_KILL": "no-kill",
    "NO_REQUEUE": "no-requeue", "OPEN_MODE": "open-mode", "OVERCOMMIT": "overcommit", "PARTITION": "partition",
    "POWER": "power", "PROFILE": "profile", "QOS": "qos", "REQ_SWITCH": "switches", "REQUEUE": "requeue",
    "RESERVATION": "reservation", "SEGMENT_SIZE": "segment", "SIGNAL": "signal", "SPREAD_JOB": "spread-job",
    "SPREAD_SEGMENTS": "spread-segments", "THREAD_SPEC": "thread-spec", "THREADS_PER_CORE": "threads-per-core",
    "TIMELIMIT": "time", "TRES_BIND": "tres-bind", "TRES_PER_TASK": "tres-per-task",
    "USE_MIN_NODES": "use-min-nodes", "WAIT": "wait", "WAIT_ALL_NODES": "wait-all-nodes", "WCKEY": "wckey",
    "ERROR": "error", "INPUT": "input", "OUTPUT": "output", "IGNORE_PBS": "ignore-pbs",
}  # fmt: skip
"""The options of variables ``SBATCH_…`` (sbatch's manual, INPUT ENVIRONMENT VARIABLES), in the order of reading."""


def from_environment(environ: Mapping[str, str], version: Version | None = None) -> tuple[Option, ...]:
    """The options that sbatch takes from its environment, in the order in which it does.

    A flag is set by ``yes``, a number other than 0 or nothing at all, and taken back by any other value.
    """
    known = table(version).takes
    named = {f"SBATCH_{variable}": name for variable, name in VARIABLES.items() if name in known}
    return tuple(_from_variable(name, variable, environ) for variable, name in named.items() if variable in environ)


def _from_variable(name: str, variable: str, environ: Mapping[str, str]) -> Option:
    value = environ[variable]
    words = (f"{variable}={value}",)
    takes = table().takes[name]
    if takes == NO or (takes == OPTIONAL and name == "requeue" and value != "expedite"):
        number = re.fullmatch(r"\s*[+-]?[0-9]+", value)
        is_set = not value or value.lower() == "yes" or bool(number and int(value))
        return Option(name, None, words, off=not is_set)
    return Option(name, value if takes == REQUIRED else value or None, words)


@dataclass(frozen=True)
class Effective:
    """What a call of sbatch comes to."""

    line: Line
    header: Header
    environment: tuple[Option, ...]

    @property
    def components(self) -> int:
        """How many components the job has; more than one make it heterogeneous."""
        return max(self.line.components, self.header.components)

    def options(self, component: int = 0) -> list[Option]:
        """The options of a component, those that count more behind the others.

        sbatch reads its line once for all components, then for each in turn the script, the environment and the
        line, and forgets only options `OF_A_COMPONENT` in between. The line's last component is that of all further
        ones in the script.
        """
        given = list(self.line.options)
        for number in range(component + 1):
            given = [option for option in given if option.name not in OF_A_COMPONENT]
            given += self._read_for(number)
        return given

    def _read_for(self, component: int) -> list[Option]:
        of_line = min(component, self.line.components - 1)
        found = [option for option in self.header.options if option.component == component]
        found += self.environment if self._ignores_pbs else (*self.header.translated, *self.environment)
        found = [option for option in found if option.name not in OF_THE_LINE]
        return found + [option for option in self.line.options if option.component == of_line]

    @property
    def _ignores_pbs(self) -> bool:
        given = [option for option in self.environment if option.name == "ignore-pbs"]
        given += [option for option in (*self.line.options, *self.header.options) if option.name == "ignore-pbs"]
        return bool(given) and not given[-1].off

    def get(self, name: str, component: int = 0) -> str | None:
        """The value of an option, "" for a flag without one, None where nobody gives it."""
        if name in OF_THE_LINE:
            return self.line.get(name)
        return _last(name, self.options(component))

    @property
    def array(self) -> Array | None:
        """The array; None where there is none, and where Slurm will refuse it."""
        return array(self.get("array") or "")

    @property
    def requeue(self) -> bool | None:
        """Whether the job may be requeued; None where Slurm's own setting (JobRequeue) decides."""
        given = [option for option in self.options() if option.name in ("requeue", "no-requeue")]
        return None if not given or given[-1].off else given[-1].name == "requeue"

    @property
    def output(self) -> str:
        """The pattern of the path of standard output; see `output_path`."""
        default = "slurm-%A_%a.out" if self.get("array") else "slurm-%j.out"
        return self._file("output") or default

    @property
    def error(self) -> str | None:
        """The pattern of the path of standard error; None where it goes with the output."""
        return self._file("error")

    @property
    def chdir(self) -> str | None:
        """The job's folder; None for that in which sbatch is called, which it is relative to."""
        return self.get("chdir")

    def job_name(self, script: str | None = None, component: int = 0) -> str:
        """The job's name: what was given, or else the script's base name, ``wrap`` or (standard input) ``sbatch``."""
        given = self.get("job-name", component)
        if given is not None:
            return given
        if self.line.wrap is not None:
            return "wrap"
        word = script if script is not None else self.line.script
        return "sbatch" if word is None else posixpath.basename(word)

    def _file(self, name: str) -> str | None:
        given = self.get(name)
        return "/dev/null" if given is not None and given.lower() == "none" else given


def effective(line: Line, environ: Mapping[str, str], header: Header, version: Version | None = None) -> Effective:
    """What sbatch makes of a command line, its environment and the script; `Header()` for ``--wrap``."""
    return Effective(line, header if line.wrap is None else Header(), from_environment(environ, version))


def wrapped(command: str) -> str:
    """The script that sbatch makes of ``--wrap``."""
    return f"#!/bin/sh\n# This script was created by sbatch --wrap.\n\n{command}\n"


def plugin_options(text: str) -> dict[str, bool]:
    """The options of the site's SPANK plug-ins in what ``sbatch --help`` prints, True where they take a value."""
    _, _, listed = text.partition("Options provided by plugins:")
    found = re.findall(r"^\s+--([A-Za-z0-9][\w-]*)(\[?=)?", listed, re.MULTILINE)
    return {name: equals == "=" for name, equals in found}
