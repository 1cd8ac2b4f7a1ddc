"""hpcrun codespec."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from typing import Any

import click

from hpcrun import codespec, config, registry, specfile
from hpcrun.cli.options import given_at, variables
from hpcrun.cli.table import columns
from hpcrun.errors import SpecError
from hpcrun.fields import Source

_WIDEST = 60
"""Characters of what a codespec runs that a table shows."""

_OPTIONS: dict[str, tuple[str, ...]] = {
    "kind": ("kind",),
    "image": ("image",),
    "gpu": ("resources", "gpu"),
    "cpu_request": ("resources", "requests", "cpu"),
    "memory_request": ("resources", "requests", "memory"),
    "cpu_limit": ("resources", "limits", "cpu"),
    "memory_limit": ("resources", "limits", "memory"),
    "shm": ("resources", "shm"),
    "max_replicas": ("max_replicas",),
    "working_dir": ("working_dir",),
    "restart": ("restart",),
}
"""The options of one value, and the field that each is."""


@click.group()
def command() -> None:
    """Create, show and list named codespecs: what to execute and what it needs, in versions that never change.

    They are kept in the folder `codespecs` of HPCRUN_HOME, or where HPCRUN_CODESPECS says. `hpcrun run --codespec
    NAME` runs one.
    """


class _Create(click.Command):
    """A command that takes the words behind ``--`` apart from its own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse what stands before the first ``--``; what stands behind it is the program's."""
        own = args.index("--") if "--" in args else len(args)
        ctx.meta["hpcrun.words"] = args[own + 1 :] if own < len(args) else None
        return super().parse_args(ctx, args[:own])


@command.command(cls=_Create, options_metavar="[OPTIONS]")
@click.argument("names", nargs=-1, metavar="NAME [-- ARG…]")
@click.option("-f", "--file", metavar="FILE", help="A YAML file with the codespec; options win over it.")
@click.option("-k", "--kind", type=click.Choice(["job", "worker"]), help="What it is.  [default: job]")
@click.option("--image", metavar="TEXT", help="A container image, for the site's runtime.")
@click.option("-e", "--env", multiple=True, metavar="NAME[=VALUE]", help="A variable of the program.")
@click.option("--endpoint", multiple=True, metavar="NAME=PORT", help="A port that a worker listens on, or auto.")
@click.option("--gpu", metavar="QUANTITY", help="GPUs of one process.")
@click.option("--cpu-request", metavar="QUANTITY", help="CPUs of one process: 2, 500m.")
@click.option("--memory-request", metavar="QUANTITY", help="Memory of one process: 1Gi, 512M.")
@click.option("--cpu-limit", metavar="QUANTITY", help="As --cpu-request, and wins over it.")
@click.option("--memory-limit", metavar="QUANTITY", help="As --memory-request, and wins over it.")
@click.option("--shm", metavar="QUANTITY", help="Size of a container's /dev/shm.")
@click.option("-r", "--max-replicas", type=int, metavar="N", help="The most copies that a run may ask for.")
@click.option("--working-dir", metavar="PATH", help="Where the program starts.")
@click.option("--restart", type=click.Choice(["always", "never"]), help="What becomes of a worker that exits.")
@click.option("--command", "as_command", is_flag=True, help="The words behind -- are `command`, not `args`.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def create(
    ctx: click.Context, /, names: tuple[str, ...], file: str | None, as_command: bool, as_json: bool, **options: Any
) -> None:
    """Create a version of a codespec and print its number.

    A codespec that says what the latest version says is that version. The words behind -- are `args`; with --command,
    and where there is neither image nor command (without an image there is no entry point that takes them), they are
    `command`. Variables and endpoints are added to those of FILE, all else replaces what it says.

    \b
      hpcrun codespec create train --gpu 1 --memory-request 8Gi -- python train.py
      hpcrun codespec create cache -k worker --endpoint redis=6379 -- redis-server
      hpcrun codespec create train -f train.yaml
    """
    source = specfile.read(file) if file else Source({}, {})
    name = _name(names, source)
    found = codespec.spelled(source).under(_given(options))
    found = found.under(_words(found, ctx.meta["hpcrun.words"], as_command=as_command))
    version = registry.create(_folder(), name, found)
    click.echo(json.dumps({"name": name, "version": version}) if as_json else version)


@command.command()
@click.argument("name")
@click.option("--version", type=int, metavar="N", help="Which version.  [default: the latest]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(name: str, version: int | None, as_json: bool) -> None:
    """Print a codespec as YAML; NAME is its name, or NAME/versions/N."""
    try:
        name, named = codespec.reference(name)
    except ValueError as error:
        raise SpecError(str(error)) from error
    if version is not None and named is not None:
        raise SpecError(f"found {version} beside {name}/versions/{named}, wanted one of both", field="--version")
    values = _whole(registry.read(_folder(), name, named if version is None else version))
    click.echo(json.dumps(values, indent=1) + "\n" if as_json else registry.as_yaml(values), nl=False)


@command.command("list")
@click.option("-p", "--prefix", default="", metavar="TEXT", help="Only names that start like this.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(prefix: str, as_json: bool) -> None:
    """List the latest version of every codespec, alphabetically."""
    folder = _folder()
    found = []
    for name, version in registry.latest(folder, prefix):
        try:
            found.append(registry.read(folder, name, version))
        except SpecError as error:
            click.echo(f"hpcrun: {error}", err=True)
    if as_json:
        click.echo(json.dumps([_whole(each) for each in found]))
        return
    if not found:
        like = f" whose name starts with {prefix!r}" if prefix else ""
        click.echo(f"no codespecs{like} in {folder}; `hpcrun codespec create NAME -- COMMAND` makes one", err=True)
        return
    rows = [("NAME", "VERSION", "KIND", "RUNS")]
    rows += [(each.name, str(each.version), each.codespec.kind, _runs(each.codespec)) for each in found]
    click.echo(columns(rows), nl=False)


def _folder() -> str:
    return registry.folder(config.load(os.environ, os.getcwd()))


def _name(names: Sequence[str], source: Source) -> str:
    """The name of the new codespec: the one word, or what the file says."""
    if len(names) > 1:
        raise SpecError(f"found {names[1]!r} behind the name; the program's words stand behind --, at the end")
    if names:
        return names[0]
    name = source.values.get("name")
    if not isinstance(name, str):
        raise SpecError("found no name, wanted `hpcrun codespec create NAME`, or a file with `name`")
    return name


def _given(options: dict[str, Any]) -> Source:
    """The fields that options of `create` name."""
    found = Source({}, {})
    for option, path in _OPTIONS.items():
        if options[option] is not None:
            found = found.under(given_at(path, options[option], "--" + option.replace("_", "-")))
    for name, value in variables(options["env"]).items():
        found = found.under(given_at(("env", name), value, "--env"))
    for text in options["endpoint"]:
        name, _, port = text.partition("=")
        number = int(port) if port.isascii() and port.isdecimal() and len(port) < 10 else port
        found = found.under(given_at(("endpoints", name), number, "--endpoint"))
    return found


def _words(found: Source, words: list[str] | None, *, as_command: bool) -> Source:
    """The words behind ``--`` as the field that they are."""
    if words is None:
        if as_command:
            raise SpecError("found no words behind --, wanted the program and its arguments there", field="--command")
        return Source({}, {})
    program = any(found.values.get(field) for field in ("command", "script"))
    if found.values.get("image") and not program and not as_command:
        raise SpecError(
            "found arguments for the entry point of an image, which hpcrun does not call; wanted --command before --, "
            "and the program behind it"
        )
    return given_at(("args" if program and not as_command else "command",), words, "what stands behind --")


def _whole(found: registry.Found) -> dict[str, Any]:
    return {"name": found.name, "version": found.version, **found.source.values}


def _runs(made: codespec.Codespec) -> str:
    """What a codespec executes, on a part of a line; it was written by others, so nothing that a terminal obeys."""
    program = shlex.join([*(made.command or []), *made.args]) if made.script is None else made.script.strip()
    text = repr(f"{made.image}: {program}" if made.image else program)[1:-1]
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"
