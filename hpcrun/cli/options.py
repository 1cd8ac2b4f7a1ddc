"""The options that describe a run, shared by run, submit and compile, and how they become a spec."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

from hpcrun import config, specfile
from hpcrun.errors import SpecError
from hpcrun.fields import Source, all_of, snake, suggestion
from hpcrun.sbatch_options import BARE, FLAGS, OWNED, SPEC_FIELDS, TAKE_VALUE
from hpcrun.spec import ABSENT, RunSpec, spelled
from hpcrun.submission import Prepared, prepare
from hpcrun.upstream import KINDS as UPSTREAM

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

FIELDS = {
    "name": ("-n", "--name", "--job-name", "-J"),
    "shards": ("-N", "--shards", "--parallelism", "--total-shards"),
    "max_parallel": ("--max-parallel",),
    "cpus": ("-c", "--cpus", "--cpus-per-task"),
    "memory": ("--mem", "--memory"),
    "gpus": ("-G", "--gpus"),
    "machine": ("--machine",),
    "node_pool": ("-P", "--node-pool", "--pool"),
    "timeout": ("--timeout",),
    "signal": ("--signal",),
    "retries": ("--retries",),
    "retry": ("--retry",),
    "backoff": ("--backoff",),
    "max_failed_indexes": ("--max-failed-indexes",),
    "run_timeout": ("--run-timeout",),
    "after": ("--after",),
    "after_success": ("--after-success",),
    "after_fail": ("--after-fail",),
    "working_dir": ("-D", "--working-dir", "--chdir"),
    "image": ("--image",),
    "mounts": ("--mount",),
    "nodes": ("--nodes",),
    "tasks": ("--ntasks", "--tasks"),
    "mpi": ("--mpi",),
    "gang": ("--gang/--no-gang",),
    "topology": ("--topology",),
    "start_timeout": ("--start-timeout",),
    "stderr": ("--stderr",),
    "results": ("--results",),
    "completion_mode": ("--completion-mode",),
    "export": ("--export",),
}
"""The options that are fields of the spec; the second spelling, or the only one, is what messages use."""

PER_INDEX = "--backoff-limit-per-index"
"""Another spelling of --retries, which is none in a gang: see `spec`."""

_HELP = {
    "name": "What the run is called; any text.",
    "shards": "How many shards; each gets an index from 0.",
    "max_parallel": "How many shards may run at once, over the whole run.",
    "cpus": "CPUs of each shard.  [default: 1]",
    "memory": "Memory of each shard, such as 8G.",
    "gpus": "GPUs of each shard: NUMBER or TYPE:NUMBER.",
    "machine": "A machine of hpcrun.toml, or nano … 2xlarge.",
    "node_pool": "A node pool of hpcrun.toml.",
    "timeout": "Time one attempt of a shard may take: 90s, 15m, 1h30m.",
    "signal": "Warn the program before its end: USR1 or USR2, @ and how many seconds before.",
    "retries": "How often a shard is tried again when its program fails.  [default: 0]",
    "retry": "Let Slurm start the next attempt (requeue), or the same allocation (in_place).  [default: requeue]",
    "backoff": "Time between a failure and the next attempt, doubled each time.  [default: 0]",
    "max_failed_indexes": "Stop the run when more shards than this have failed for good.",
    "run_timeout": "Time after which the whole run is stopped.",
    "after": "Start when RUN has ended: an id, the beginning of one, or last; several with commas.",
    "after_success": "Start when RUN has succeeded.",
    "after_fail": "Start when RUN has failed.",
    "working_dir": "Where the program starts.  [default: here]",
    "image": "A container image, for the site's runtime.",
    "mounts": "SOURCE[:TARGET[:ro]]: a folder that the container sees; all of them replace the spec's.",
    "nodes": "Nodes of each shard, where it is a parallel program.",
    "tasks": "Processes (MPI ranks) of each shard, started by srun.",
    "mpi": "What srun --mpi gets: pmix, pmi2, none.",
    "gang": "Start all shards together, or none.",
    "topology": "With workers: one allocation (flat) or a heterogeneous job (het).  [default: auto]",
    "start_timeout": "Time until workers, or all shards of a gang, must be up.  [default: 10m]",
    "stderr": "Keep standard error in the log (merged) or apart (separate).",
    "results": "One folder of results for all shards (shared), or one each (committed).  [default: shared]",
    "completion_mode": "NonIndexed: shards take their work from a queue.  [default: Indexed]",
    "export": "As sbatch's: ALL, NONE, or NAME[=VALUE],…",
}
_WORKER = {
    "node_pool": ("--worker-node-pool", "A node pool of hpcrun.toml for the workers.  [default: the job's]"),
    "replicas": ("--worker-replicas", "How many workers, for each shard."),
}
"""The options that are fields of the spec's `worker`, besides its codespec."""

_SHORT = {
    "partition": "-p", "account": "-A", "time": "-t", "qos": "-q", "nodelist": "-w", "exclude": "-x",
    "dependency": "-d",
}  # fmt: skip
_SHOWN = (
    "account", "begin", "comment", "constraint", "dependency", "exclude", "exclusive", "licenses", "mail-type",
    "mail-user", "nodelist", "partition", "qos", "reservation", "time",
)  # fmt: skip
PASSED = sorted((TAKE_VALUE | FLAGS) - set(OWNED) - set(SPEC_FIELDS))
"""sbatch's options that go through as they are."""


class RunCommand(click.Command):
    """A command whose options end at the first positional, and which knows sbatch's optional values.

    sbatch takes ``--exclusive`` and ``--exclusive=user``, but never ``--exclusive user``; click knows no such option.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse `args`, ``--FLAG=VALUE`` of sbatch's turned into ``--sbatch-option FLAG=VALUE`` first."""
        return super().parse_args(ctx, _with_flag_values(args, _takers(self)))


def _takers(command: click.Command) -> set[str]:
    options = (param for param in command.params if isinstance(param, click.Option))
    return {name for option in options if not option.is_flag for name in option.opts}


def _with_flag_values(args: Sequence[str], takers: set[str]) -> list[str]:
    found: list[str] = []
    rest = list(args)
    while rest and rest[0].startswith("-") and rest[0] != "--":
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if name not in takers:
            _refuse(name)
        if equals and name[2:] in FLAGS - BARE:
            found += ["--sbatch-option", f"{name[2:]}={value}"]
            continue
        found.append(word)
        if word in takers and rest:
            found.append(rest.pop(0))
    return found + rest


def _refuse(name: str) -> None:
    """Say why there is no such option where that is known."""
    if name.startswith("--") and name[2:] in OWNED:
        raise SpecError(f"found an option of sbatch's that hpcrun decides: {OWNED[name[2:]]}", field=name)
    if name.startswith("--") and (snake(name[2:]) in ABSENT or name in _NOT_YET):
        raise SpecError(
            "found an option that this version cannot carry out; wanted a run without it "
            "(docs/scope.md says what is planned)", field=name,
        )  # fmt: skip


_NOT_YET = ("--opportunistic",)


def run_options(function: Decorated) -> Decorated:
    """Everything that describes a run: the positional words, the spec's fields, sbatch's options."""
    decorators = [click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="SPEC.yaml | COMMAND…")]
    decorators += [click.option(*names, field, help=_HELP[field], **_kind(field)) for field, names in FIELDS.items()]
    decorators += [click.option(PER_INDEX, "per_index", help="As --retries, outside of gangs.", **_kind("retries"))]
    decorators += [_codespec_option("--codespec", "the job"), _version_option("--version", "--codespec")]
    decorators += [_codespec_option("--worker-codespec", "workers")]
    decorators += [_version_option("--worker-version", "--worker-codespec")]
    decorators += [
        click.option(name, f"worker_{field}", help=text, **_kind(field)) for field, (name, text) in _WORKER.items()
    ]
    decorators += [
        click.option("-e", "--env", multiple=True, metavar="NAME[=VALUE]", help="A variable of the program."),
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="NAME=VALUE",
            help="Set a variable of the workflow (a list is its domain), or a field of the spec by its path.",
        ),
        click.option("--cluster", type=click.Choice(["auto", "slurm", "local"]), help="Where to run.  [default: auto]"),
        click.option("--sbatch-option", multiple=True, metavar="NAME[=VALUE]", help="Any other option of sbatch."),
    ]
    decorators += [_passed(name) for name in PASSED]
    for decorator in reversed(decorators):
        function = decorator(function)
    return function


_SEVERAL = {"mounts": "SOURCE[:…]", **dict.fromkeys(UPSTREAM, "RUN")}
"""Options that may be given several times, and what each takes."""


_CHOICES = {
    "topology": ["auto", "flat", "het"],
    "retry": ["requeue", "in_place"],
    "stderr": ["merged", "separate"],
    "results": ["shared", "committed"],
    "completion_mode": ["Indexed", "NonIndexed"],
}


def _kind(field: str) -> dict[str, Any]:
    if field in ("shards", "max_parallel", "cpus", "nodes", "tasks", "replicas", "retries", "max_failed_indexes"):
        return {"type": int, "metavar": "N"}
    if field in _SEVERAL:
        return {"multiple": True, "metavar": _SEVERAL[field]}
    if field == "gang":
        return {"default": None}
    if field in _CHOICES:
        return {"type": click.Choice(_CHOICES[field])}
    return {"metavar": "TEXT"}


def _codespec_option(name: str, whose: str) -> Callable[[Any], Any]:
    return click.option(name, metavar="NAME", help=f"The named codespec of {whose}: NAME or NAME/versions/N.")


def _version_option(name: str, of: str) -> Callable[[Any], Any]:
    variable = name[2:].replace("-", "_")
    return click.option(name, variable, type=int, metavar="N", help=f"The version of {of}.  [default: the latest]")


def _passed(name: str) -> Callable[[Any], Any]:
    names = [f"--{name}", *([_SHORT[name]] if name in _SHORT else []), "sbatch_" + name.replace("-", "_")]
    hidden = name not in _SHOWN
    if name in FLAGS:
        return click.option(*names, is_flag=True, hidden=hidden, help=f"sbatch --{name}[=…]")
    return click.option(*names, hidden=hidden, metavar="…", help=f"sbatch --{name}")


def prepared(words: tuple[str, ...], options: dict[str, Any]) -> Prepared:
    """The run that these words and options of the command line describe, decided and not submitted."""
    settings = config.load(os.environ, os.getcwd())
    path = _spec_path(words)
    source = (
        specfile.read(path) if path else specfile.from_options({"command": list(words) or None}, {"command": "COMMAND"})
    )
    source = _set(spelled(source), spelled(specfile.from_settings(options["settings"])))
    source = source.under(_fields(options)).under(_programs(options))
    return prepare(source, settings, options["cluster"] or settings.cluster, typed=bool(words) and path is None)


def _set(source: Source, settings: Source) -> Source:
    """`source` with ``--set`` laid over it, whose variables have to be there already."""
    known = source.values.get("variables", {})
    for name in settings.values.get("variables", {}):
        if name not in known:
            field = f" For the field of that name write spec.{name}=…" if snake(name) in RunSpec.model_fields else ""
            near = field or suggestion(name, list(known)) or all_of(list(known)) if known else field
            raise settings.error(("variables", name), f"found the variable {name!r}, which the spec has not.{near}")
    return source.under(settings)


def _fields(options: Mapping[str, Any]) -> Source:
    """The fields of the spec that options name."""
    given = {field: options[field] for field in FIELDS}
    given |= {field: list(options[field]) or None for field in _SEVERAL}
    given |= {"env": variables(options["env"]), "sbatch": _sbatch(options)}
    names = {field: written[:2][-1].partition("/")[0] for field, written in FIELDS.items()}
    if options["per_index"] is not None:
        if given["retries"] is not None:
            raise SpecError("found it beside --retries, which says the same; wanted one of them", field=PER_INDEX)
        given["retries"], names["retries"] = options["per_index"], PER_INDEX
    return specfile.from_options(given, names | {"env": "--env", "sbatch": "sbatch's options"})


def _programs(options: Mapping[str, Any]) -> Source:
    """The job's named codespec and the workers."""
    found = Source({}, {})
    for name, path in (("", ("codespec",)), ("worker_", ("worker", "codespec"))):
        option = "--" + name.replace("_", "-")
        text = _pinned(options[name + "codespec"], options[name + "version"], option)
        if text is not None:
            found = found.under(given_at(path, text, option + "codespec"))
    for field, (option, _) in _WORKER.items():
        if options["worker_" + field] is not None:
            found = found.under(given_at(("worker", field), options["worker_" + field], option))
    return found


def _pinned(text: str | None, version: int | None, option: str) -> str | None:
    """NAME/versions/N of a codespec given as NAME and N; `option` is the beginning of both options."""
    if version is None:
        return text
    if text is None:
        raise SpecError(f"found {version} without {option}codespec, wanted both of them", field=f"{option}version")
    if "/" in text:
        raise SpecError(f"found {version} beside {text}, wanted one of both", field=f"{option}version")
    if version < 1:
        raise SpecError(f"found {version}, wanted 1 or more", field=f"{option}version")
    return f"{text}/versions/{version}"


def given_at(path: tuple[str, ...], value: Any, option: str) -> Source:
    """A source of one value at `path` that `option` gave; what stands around it keeps its place."""
    found = specfile.at(path, value, option)
    return Source(found.values, {path: found.places[path]})


def _spec_path(words: tuple[str, ...]) -> str | None:
    """The spec file, if that is what the first word is."""
    if not words or not words[0].endswith((".yaml", ".yml")):
        return None
    if not os.path.isfile(words[0]):
        if len(words) > 1:
            return None
        found = "a directory" if os.path.isdir(words[0]) else "no such file"
        raise SpecError(f"found {found}, wanted a spec file or a command", file=words[0])
    if len(words) > 1:
        raise SpecError(
            f"found {words[1]!r} behind the spec file; options go before it, and the program's arguments into it "
            "(or --set spec.args='[…]')", file=words[0],
        )  # fmt: skip
    return words[0]


def variables(pairs: Sequence[str]) -> dict[str, str]:
    """Variables given as NAME=VALUE, or as NAME with the value that it has here.

    Raises SpecError for a NAME that has none.
    """
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals and name not in os.environ:
            raise SpecError(f"found {name!r}, which is not set here; wanted NAME=VALUE", field="--env")
        found[name] = value if equals else os.environ[name]
    return found


def _sbatch(options: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in PASSED:
        value = options["sbatch_" + name.replace("-", "_")]
        if value is not None and value is not False:
            found[name] = value
    for text in options["sbatch_option"]:
        name, equals, value = text.lstrip("-").partition("=")
        found[name] = value if equals else True
    return found
