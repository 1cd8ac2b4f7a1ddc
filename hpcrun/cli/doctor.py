"""hpcrun doctor."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import click

from hpcrun import checkup, quantity
from hpcrun.doctor import Finding, examine
from hpcrun.doctor.facts import State

_OPTIONS = (
    ("-p", "--partition"),
    ("-A", "--account"),
    ("-q", "--qos"),
    ("-C", "--constraint"),
    ("--reservation",),
)
_COLOURS: dict[State, str] = {"ok": "green", "note": "yellow", "problem": "red", "not checked": "cyan"}
_COUNTED: dict[State, tuple[str, str]] = {
    "problem": ("problem", "problems"),
    "note": ("note", "notes"),
    "not checked": ("not checked", "not checked"),
    "ok": ("ok", "ok"),
}


def _duration(ctx: click.Context, param: click.Parameter, value: str) -> float:
    try:
        return quantity.duration(value)
    except ValueError as error:
        raise click.BadParameter(f"found {value!r}, wanted a time such as 60, 90s or 10m") from error


@click.command()
@click.option("--no-job", is_flag=True, help="Submit no job: what only a node can tell is not checked.")
@click.option(
    "--timeout",
    default="60",
    callback=_duration,
    metavar="TIME",
    show_default=True,
    help="How long the job may wait in the queue: 90s, 10m.",
)
@click.option("-P", "--node-pool", help="A node pool of hpcrun.toml for the job.")
@click.option("--sbatch-option", multiple=True, metavar="NAME[=VALUE]", help="Any other option of sbatch for the job.")
@click.option("--cluster", type=click.Choice(["auto", "slurm", "local"]), help="Where runs go.  [default: auto]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    no_job: bool,
    timeout: float,
    node_pool: str | None,
    sbatch_option: Sequence[str],
    cluster: str | None,
    as_json: bool,
    **where: str | None,
) -> None:
    """Check this machine, Slurm and its nodes for what runs stumble over.

    One small job (some seconds, one CPU) looks at a node. Exits with 1 where there is a problem, else with 0.
    """
    options: dict[str, str | bool] = {name: value for name, value in where.items() if value is not None}
    for text in sbatch_option:
        name, equals, value = text.lstrip("-").partition("=")
        options[name] = value if equals else True
    asked = checkup.Asked(options, node_pool, cluster, None if no_job else timeout)
    findings = examine(checkup.ask(os.environ, os.getcwd(), asked))
    if as_json:
        click.echo(json.dumps(_value(findings)))
    else:
        for line in _lines(findings):
            click.echo(line)
    sys.exit(1 if any(one.state == "problem" for one in findings) else 0)


for _names in reversed(_OPTIONS):
    command = click.option(*_names, metavar="…", help=f"sbatch {_names[-1]}, of the job.")(command)


def _value(findings: Sequence[Finding]) -> dict[str, Any]:
    counts = {state.replace(" ", "_"): sum(one.state == state for one in findings) for state in _COUNTED}
    return {"findings": [dataclasses.asdict(one) for one in findings], "counts": counts}


def _lines(findings: Sequence[Finding]) -> Iterator[str]:
    groups = list(dict.fromkeys(one.group for one in findings))
    width = max(len(one.name) for one in findings)
    for group in groups:
        yield click.style(group, bold=True)
        for one in (one for one in findings if one.group == group):
            yield from _of(one, width)
    named = {state: [one.name for one in findings if one.state == state] for state in _COUNTED}
    problems = f" ({', '.join(named['problem'])})" if named["problem"] else ""
    counts = [f"{len(names)} {_COUNTED[state][len(names) != 1]}" for state, names in named.items() if names]
    yield ""
    yield ", ".join([counts[0] + problems, *counts[1:]])


def _of(finding: Finding, width: int) -> Iterator[str]:
    """One line where all is well; else what it means, and what to do, below it."""
    state = click.style(f"{finding.state:<11}", fg=_COLOURS[finding.state])
    yield f"  {state}  {finding.name:<{width}}  {finding.found}"
    margin = " " * 15
    for text, mark in ((finding.meaning, ""), (finding.todo, "-> ")):
        lines = itertools.chain.from_iterable(_wrapped(line, mark) for line in text.splitlines())
        for number, line in enumerate(lines):
            yield f"{margin}{mark if number == 0 else ' ' * len(mark)}{line}"


def _wrapped(line: str, mark: str) -> list[str]:
    """Prose in lines that fit a terminal; what is to be copied in one."""
    return [line] if mark else click.wrap_text(line, 100).splitlines()
