"""hpcrun compile."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click

from hpcrun.cli.options import RunCommand, prepared, run_options
from hpcrun.cli.table import columns, few
from hpcrun.errors import UsageError
from hpcrun.indexes import fold_indexes
from hpcrun.plan import Plan, Role, Task
from hpcrun.submission import Prepared
from hpcrun.upstream import awaited

_GRAPHS = ("mermaid", "svg")
_DRAWINGS = {".svg": "svg", ".mmd": "mermaid"}
"""The ends of names of files that a graph may go to."""


class _CompileCommand(RunCommand):
    """A command like `run`, with a ``--graph`` whose value may be left out."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse `args`, a bare ``--graph`` turned into ``--graph=mermaid`` first."""
        takers = {name for option in self.params if not getattr(option, "is_flag", True) for name in option.opts}
        return super().parse_args(ctx, _with_value_of_graph(args, takers))


def _with_value_of_graph(args: Sequence[str], takers: set[str]) -> list[str]:
    at = 0
    while at < len(args) and args[at].startswith("-") and args[at] != "--":
        if args[at] == "--graph" and not any(map(_is_graph, args[at + 1 : at + 2])):
            return [*args[:at], "--graph=mermaid", *args[at + 1 :]]
        at += 2 if args[at] in takers else 1
    return list(args)


def _is_graph(text: str) -> bool:
    return text in _GRAPHS or text.endswith(tuple(_DRAWINGS))


@click.command(cls=_CompileCommand, context_settings={"allow_interspersed_args": False})
@run_options
@click.option("--json", "as_json", is_flag=True, help="Print the plan and the scripts as JSON.")
@click.option(
    "--graph", metavar="[FORMAT|FILE]", help="Print the graph of tasks instead: mermaid, svg, or into FILE.svg."
)
def command(words: tuple[str, ...], as_json: bool, graph: str | None, **options: Any) -> None:
    """Show the plan and the sbatch scripts of a run without submitting it.

    Takes what `run` and `submit` take. Nothing is written, but for the FILE of --graph; the cluster is asked for its
    limits only.
    """
    other = None if graph is None or _is_graph(graph) else graph
    if graph is not None and len(words) > 1 and words[1].endswith((".yaml", ".yml")):
        other = other or words[0]  # a name of a file that was taken for the program
    if other is not None:
        raise UsageError(f"--graph: found {other!r}, wanted mermaid, svg, or a file called *.svg or *.mmd")
    decided = prepared(words, options)
    if graph is None:
        show(decided, as_json=as_json)
    else:
        _draw(decided.plan, graph)


def _draw(plan: Plan, where: str) -> None:
    """Print the graph of a plan, or write it into a file."""
    from hpcrun import graph

    found = graph.of(plan)
    kind = _DRAWINGS.get(where[-4:], where)
    text = graph.svg(found) if kind == "svg" else graph.mermaid(found)
    if where in _GRAPHS:
        click.echo(text, nl=False)
        return
    try:
        with open(where, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"--graph: found {where!r}, wanted a file that can be written ({error.strerror})") from error
    click.echo(where)


def show(decided: Prepared, *, as_json: bool) -> None:
    """Print what was decided, and the scripts that would be submitted."""
    plan, scripts = decided.plan, decided.scripts()
    if as_json:
        click.echo(json.dumps({"plan": plan.to_json(), "scripts": scripts}, indent=1))
        return
    click.echo(f"{plan.name}: {plan.reason}")
    if plan.upstream:
        click.echo("  after " + ", ".join(awaited(one.kind, one.run_id) for one in plan.upstream))
    for batch in plan.batches if plan.sharded else ():
        last = batch.first + batch.count - 1
        throttle = f", {batch.throttle} at once" if batch.throttle else ""
        after = f", after batch {batch.after}" if batch.after is not None else ""
        click.echo(f"  batch {batch.index}: shards {batch.first}-{last}{throttle}{after}")
    if plan.sweep is not None:
        swept = " × ".join(f"{name} = {', '.join(domain)}" for name, domain in plan.sweep.variables)
        click.echo(f"  the shards are {plan.sweep.task}: {swept}")
    if plan.tasks:
        click.echo(_tasks(plan.tasks), nl=False)
    asks_by_itself = plan.tasks or plan.batch_script is not None
    for role in () if asks_by_itself else (plan.job, *([plan.worker] if plan.worker else [])):
        click.echo(_role(plan, role))
    for batch, text in zip(plan.batches, scripts, strict=False):  # none for the local cluster
        click.echo(f"\n# --- {decided.dir.script(batch.index)}\n{text}", nl=False)


def _tasks(tasks: Sequence[Task]) -> str:
    """One row a task: after what it starts, and what it gets."""
    from hpcrun.graph import spelled

    head = ("  TASK", "AFTER", "NODES", "CPUS", "GPUS", "READY", "TRIES")
    rows = [
        (
            f"  {task.name}", few(task.needs), _numbers(task.nodes), "shared" if task.overlaps else str(task.role.cpus),
            _numbers(task.devices), ", ".join(map(spelled, task.readiness)), str(1 + task.retries),
        )
        for task in tasks
    ]  # fmt: skip
    return columns([head, *rows])


def _numbers(found: Sequence[int]) -> str:
    return fold_indexes(found) if found else "-"


def _role(plan: Plan, role: Role) -> str:
    """One line on what a role's processes get."""
    what = role.name if plan.worker else "each"
    copies = f" × {role.replicas}{' a shard' if plan.sharded else ''}" if role.name == "worker" else ""
    tasks = f", {role.tasks} tasks" if role.tasks > 1 else ""
    nodes = f" on {role.nodes} nodes" if role.nodes else ""
    memory = f"{role.memory} MiB" if role.memory else "the cluster's default memory"
    gpus = f", {role.gpus} GPU" if role.gpus else ""
    ports = ", ".join(f"{name} on {f'port {port}' if port else 'a free port'}" for name, port in role.endpoints.items())
    named = f", {role.codespec}" if role.codespec else ""
    listens = f", listens as {ports}" if ports else ""
    return f"  {what}{copies}{named}: {role.cpus} CPU, {memory}{gpus}{tasks}{nodes}, in {role.cwd}{listens}"
