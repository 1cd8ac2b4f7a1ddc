"""The command line: one module a command, loaded when it is used."""

import click

import hpcrun
from hpcrun.cli.group import CommandGroup


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(hpcrun.__version__, prog_name="hpcrun")
def main() -> None:
    """Launch distributed runs on Slurm, or on this machine.

    RUN is a run's id, a unique prefix of it, or `last`. The exit code of `run` and `wait` tells how the run ended:
    0 succeeded, the program's own code (one shard) or 1 failed, 3 partial, 124 timed out, 130 cancelled; 2 is a usage
    or spec error, 69 a Slurm that cannot be asked.
    """
