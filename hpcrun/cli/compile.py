"""hpcrun compile."""

from __future__ import annotations

import json
from typing import Any

import click

from hpcrun.cli.options import RunCommand, prepared, run_options
from hpcrun.plan import Plan, Role
from hpcrun.submission import Prepared
from hpcrun.upstream import awaited


@click.command(cls=RunCommand, context_settings={"allow_interspersed_args": False})
@run_options
@click.option("--json", "as_json", is_flag=True, help="Print the plan and the scripts as JSON.")
def command(words: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Show the plan and the sbatch scripts of a run without submitting it.

    Takes what `run` and `submit` take. Nothing is written; the cluster is asked for its limits only.
    """
    show(prepared(words, options), as_json=as_json)


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
    for role in (plan.job, *([plan.worker] if plan.worker else [])):
        click.echo(_role(plan, role))
    for batch, text in zip(plan.batches, scripts, strict=False):  # none for the local cluster
        click.echo(f"\n# --- {decided.dir.script(batch.index)}\n{text}", nl=False)


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
