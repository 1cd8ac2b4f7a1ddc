"""hpcrun usage."""

from __future__ import annotations

import json

import click

from hpcrun.cli.table import columns, spell
from hpcrun.errors import AccountingDisabled, ClusterUnavailable
from hpcrun.run import Run
from hpcrun.usage import Part, Usage, fold


@click.command()
@click.argument("run_id", metavar="[RUN]", default="last")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(run_id: str, as_json: bool) -> None:
    """Show what a run has used: the last one, or RUN.

    Compute-seconds are wall-clock seconds times machine units (CPUs, or what the settings say of a machine), summed
    over all attempts of all shards; beside them stands what Slurm charged, where it keeps accounting.
    """
    found = _measured(Run.open(run_id))
    click.echo(json.dumps(found.to_json()) if as_json else _table(found), nl=as_json)


def _measured(run: Run) -> Usage:
    status = run.status()
    running = {shard.index for shard in status.shards if shard.state in ("starting", "running")}
    notes, charges = list(status.notes), None
    try:
        charges = run.charges()
    except AccountingDisabled:
        pass
    except ClusterUnavailable as error:
        notes.append(f"what Slurm charged could not be asked: {error}")
    return fold(run.plan, run.attempts(), running, status.asked, charges, notes)


def _table(usage: Usage) -> str:
    head = ("", "ATTEMPTS", "WALL", "COMPUTE-SECONDS", *(["GPU-SECONDS"] if usage.gpus else []))
    shown = [(outcome.replace("_", " "), part) for outcome, part in usage.parts.items()] + [("in all", usage.total)]
    units = f"{usage.units:g} {'unit' if usage.units == 1 else 'units'}" + (
        f" and {usage.gpus} GPU" if usage.gpus else ""
    )
    parts = [
        f"run {usage.run_id}  {usage.name!r}  {units} a shard\n",
        columns([head, *(_row(usage, outcome, part) for outcome, part in shown)]),
    ]
    if usage.lost.attempts:
        parts.append(f"  lost in attempts that did not succeed: {usage.lost.compute:,.1f} compute-seconds\n")
    if usage.endless:
        parts.append(f"  note: {usage.endless} attempts ended unseen; nothing is counted for them\n")
    if usage.charged is not None:
        charged = usage.charged
        gpu = f", {charged.gpu:,.0f} GPU-seconds" if charged.gpu else ""
        starts = f"{charged.starts} {'start' if charged.starts == 1 else 'starts'} of jobs"
        parts.append(
            f"  Slurm charged: {charged.cpu:,.0f} CPU-seconds{gpu}, {charged.billing:,.0f} of billing, in {starts}\n"
        )
    parts += [f"  note: {note}\n" for note in usage.notes]
    return "".join(parts)


def _row(usage: Usage, outcome: str, part: Part) -> tuple[str, ...]:
    gpu = (f"{part.gpu:,.1f}",) if usage.gpus else ()
    return f"  {outcome}", str(part.attempts), spell(part.wall), f"{part.compute:,.1f}", *gpu
