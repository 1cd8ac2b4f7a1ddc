"""The group that loads a command when it is used, and turns errors into exit codes: the one place that does."""

from __future__ import annotations

import atexit
import gc
import os
import sys
import threading
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


_COERCED = ("C.UTF-8", "C.utf8", "UTF-8")


def restore_locale() -> None:
    """Take back the LC_CTYPE that Python has set for itself where the locale is C: no job is to inherit it.

    PEP 538. What this process was started with stands in /proc; its own encodings are chosen already.
    """
    if os.environ.get("LC_CTYPE") not in _COERCED:
        return
    try:
        with open("/proc/self/environ", "rb") as file:
            given = dict(part.partition(b"=")[::2] for part in file.read().split(b"\0"))
    except OSError:
        return
    if b"LC_CTYPE" in given:
        os.environb[b"LC_CTYPE"] = given[b"LC_CTYPE"]
    else:
        del os.environ["LC_CTYPE"]


def no_run_given() -> UsageError:
    """What to say to a command that changes a run and is not told which."""
    return UsageError(
        "found no RUN, wanted the id of a run, its beginning, the number of a job, or `last`; `hpcrun list` shows the "
        "runs there are"
    )


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
        collects = gc.isenabled()
        gc.disable()  # of what modules make nothing is ever garbage
        try:
            found: click.Command = import_module(f"hpcrun.cli.{cmd_name}").command
        finally:
            if collects:
                gc.enable()
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without loading any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line as all that this process is for: it ends without taking down what it has loaded."""
        try:
            super().__call__(*args, **kwargs)
        except SystemExit as end:
            if end.code is None or isinstance(end.code, int):
                _leave(end.code or 0)
            raise

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line; the process ends with the exit code of its outcome."""
        restore_locale()
        try:
            return super().main(*args, **kwargs)
        except HpcrunError as error:
            click.echo(f"hpcrun: error: {error}", err=True)
            sys.exit(error.exit_code)
        except BrokenPipeError:
            # Whoever read the output has enough (`hpcrun logs … | head`).
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.exit(141)


def _leave(code: int) -> None:
    """End the process, which for the interpreter takes longer than most commands do; return where it is not to be."""
    if threading.active_count() > 1:
        return
    try:
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # closed when the process began
                stream.flush()
    except (OSError, ValueError):  # the interpreter says so in its own way
        return
    os._exit(code)
