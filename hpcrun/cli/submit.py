"""hpcrun submit."""

from __future__ import annotations

import json
from typing import Any

import click

from hpcrun.cli.options import RunCommand, prepared, run_options
from hpcrun.submission import carry_out


@click.command(cls=RunCommand, context_settings={"allow_interspersed_args": False})
@run_options
@click.option("--dry-run", is_flag=True, help="Show the plan and the scripts; submit nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(words: tuple[str, ...], dry_run: bool, as_json: bool, **options: Any) -> None:
    """Submit a run, print its id and return.

    The run is a spec file, or a command with options; options end at the first word of the command.

    \b
      hpcrun submit spec.yaml
      hpcrun submit -N 8 --mem 4G -- python train.py
    """
    decided = prepared(words, options)
    if dry_run:
        from hpcrun.cli.compile import show

        show(decided, as_json=as_json)
        return
    run = carry_out(decided)
    if as_json:
        status = run.status()
        click.echo(json.dumps({"run_id": run.id, "jobs": status.jobs, "folder": run.dir.path}))
    else:
        click.echo(run.id)
