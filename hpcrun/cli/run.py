"""hpcrun run."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from hpcrun.cli.compile import show
from hpcrun.cli.options import RunCommand, prepared, run_options
from hpcrun.cli.progress import follow
from hpcrun.cli.table import report
from hpcrun.submission import carry_out


@click.command(cls=RunCommand, context_settings={"allow_interspersed_args": False})
@run_options
@click.option("--dry-run", is_flag=True, help="Show the plan and the scripts; submit nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print nothing but the last status, as JSON.")
@click.option("--follow", "follow_too", is_flag=True, hidden=True, help="It follows anyway.")
def command(words: tuple[str, ...], dry_run: bool, as_json: bool, follow_too: bool, **options: Any) -> None:
    """Submit a run and follow it to its end.

    The run is a spec file, or a command with options; options end at the first word of the command. A single program's
    output is shown as it comes. Ctrl-C ends the following, not the run.

    \b
      hpcrun run spec.yaml
      hpcrun run -N 8 -- python count.py
      hpcrun run --gpus 1 --time 2:00:00 -p gpu python train.py --epochs 3
    """
    decided = prepared(words, options)
    if dry_run:
        show(decided, as_json=as_json)
        return
    run = carry_out(decided)
    if not as_json:
        click.echo(f"run {run.id} ({run.plan.name!r}): {run.plan.reason}", err=True)
    one = run.plan.shards == 1 and not run.plan.tasks
    status = follow(run, quiet=as_json, show_output=one, fresh=True)
    if as_json:
        click.echo(json.dumps(status.to_json()))
    else:
        click.echo(report(run, status), err=one, nl=False)
    sys.exit(status.exit_code())
