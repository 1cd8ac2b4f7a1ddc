"""hpcrun compile."""

from __future__ import annotations

import json
from typing import Any

import click

from hpcrun.cli.options import RunCommand, prepared, run_options
from hpcrun.submission import Prepared


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
    for batch in plan.batches:
        last = batch.first + batch.count - 1
        throttle = f", {batch.throttle} at once" if batch.throttle else ""
        after = f", after batch {batch.after}" if batch.after is not None else ""
        click.echo(f"  batch {batch.index}: shards {batch.first}-{last}{throttle}{after}")
    memory = f"{plan.role.memory} MiB" if plan.role.memory else "the cluster's default memory"
    gpus = f", {plan.role.gpus} GPU" if plan.role.gpus else ""
    click.echo(f"  each: {plan.role.cpus} CPU, {memory}{gpus}, in {plan.role.cwd}")
    for batch, text in zip(plan.batches, scripts, strict=False):  # none for the local cluster
        click.echo(f"\n# --- {decided.dir.script(batch.index)}\n{text}", nl=False)
