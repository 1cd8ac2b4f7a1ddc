"""The group that loads a command when it is used, and turns errors into exit codes: the one place that does."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

import click

from hpcrun.errors import HpcrunError, UsageError

COMMANDS = {
    "run": "Submit a run and follow it to its end.",
    "submit": "Submit a run, print its id and return.",
    "compile": "Show the plan and the sbatch scripts, submit nothing.",
    "status": "Show how a run is.",
    "list": "List the runs there are.",
    "logs": "Print what the shards of a run have written.",
    "wait": "Wait until a run has ended.",
    "results": "Print where the shards of a run leave their results.",
    "usage": "Show what a run has used, and what Slurm charged.",
    "cancel": "Let nothing more of a run start and end what runs.",
    "retry": "Try the failed shards of a run again.",
    "codespec": "Create, show and list named codespecs.",
    "sbatch": "Submit a batch script as sbatch does, and keep a run of it.",
    "hosts": "Expand, fold and count Slurm hostlists.",
    "doctor": "Check what runs stumble over on this machine and its Slurm.",
    "env": "Print the run environment of this Slurm job, for eval.",
}
"""Every command, with its line of help; the module of each is `hpcrun.cli.NAME` with its function `command`."""


class CommandGroup(click.Group):
    """A click group whose commands are modules of this package."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command called `cmd_name`, its module loaded now."""
        if cmd_name not in COMMANDS:
            from hpcrun.fields import all_of, suggestion  # which take longer to import than most commands to run

            known = list(COMMANDS)
            raise UsageError(f"found no command {cmd_name!r}.{suggestion(cmd_name, known) or all_of(known)}")
        found: click.Command = import_module(f"hpcrun.cli.{cmd_name}").command
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without loading any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line; the process ends with the exit code of its outcome."""
        try:
            return super().main(*args, **kwargs)
        except HpcrunError as error:
            click.echo(f"hpcrun: error: {error}", err=True)
            sys.exit(error.exit_code)
        except BrokenPipeError:
            # Whoever read the output has enough (`hpcrun logs … | head`).
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.exit(141)
