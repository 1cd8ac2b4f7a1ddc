"""hpcrun env."""

from __future__ import annotations

import os
from collections.abc import Mapping

import click

from hpcrun import allocation, environ, script
from hpcrun.errors import UsageError


@click.command()
def command() -> None:
    """Print the run environment of the Slurm job this is called in: `eval "$(hpcrun env)"`.

    Works in any job, also in one that hpcrun did not submit: shard index and count from the array, worker nodes from
    the components of a heterogeneous job. docs/environment.md lists the variables.
    """
    click.echo(script.exports(variables(os.environ)), nl=False)


def variables(here: Mapping[str, str]) -> dict[str, str]:
    """The run environment of the job that `here` is the environment of.

    Raises UsageError outside of Slurm jobs.
    """
    if "HPCRUN_RUN_ID" in here:
        return {
            name: here[name]
            for name in here
            if name.startswith(environ.RESERVED_PREFIXES[:-1]) or name in environ.RESERVED_NAMES
        }
    if "SLURM_JOB_ID" not in here:
        raise UsageError(
            "found no SLURM_JOB_ID, wanted to be called inside a Slurm job (a batch script, salloc or srun)"
        )
    where = allocation.from_slurm(here)
    index, count = _index(here)
    folder = here.get("SLURM_SUBMIT_DIR", here.get("PWD", ""))
    who = environ.Who(
        run_id=f"slurm-{where.job}", run_dir=folder, results=folder, name=here.get("SLURM_JOB_NAME", ""), shard=index,
        shards=count, sharded=where.task is not None, attempt=where.restarts,
    )  # fmt: skip
    return environ.variables(who, where, workspace=folder)


def _index(here: Mapping[str, str]) -> tuple[int, int]:
    """Index and count of an array that somebody else submitted: its elements in order, from 0.

    Only for these is Slurm's own count believed; in hpcrun's runs the plan knows it.
    """
    if "SLURM_ARRAY_TASK_ID" not in here:
        return 0, 1
    task, first = int(here["SLURM_ARRAY_TASK_ID"]), int(here.get("SLURM_ARRAY_TASK_MIN", "0"))
    step = int(here.get("SLURM_ARRAY_TASK_STEP", "1")) or 1
    return (task - first) // step, int(here.get("SLURM_ARRAY_TASK_COUNT", "1"))
