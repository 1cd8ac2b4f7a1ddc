"""hpcrun env."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping, Sequence

import click

from hpcrun import allocation, environ, script
from hpcrun.errors import ClusterError, UsageError

_FIRST_PAUSE, _LAST_PAUSE = 0.02, 0.5


@click.command()
@click.option(
    "--endpoint", "endpoints", multiple=True, metavar="NAME=PORT", help="A port on which every worker listens."
)
@click.option(
    "--wait", "seconds", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
    help="Wait until all endpoints of all workers accept connections; exit 1 if that takes longer.",
)  # fmt: skip
def command(endpoints: tuple[str, ...], seconds: float | None) -> None:
    """Print the run environment of the Slurm job this is called in: `eval "$(hpcrun env)"`.

    Works in any job, also in one that hpcrun did not submit: shard index and count from the array, a worker for each
    task of the further components of a heterogeneous job. docs/environment.md lists the variables.
    """
    ports = _ports(endpoints)
    if seconds is not None and not ports:
        raise UsageError("--wait: found no --endpoint, wanted what to wait for")
    found = variables(os.environ, ports)
    if seconds is not None:
        nodes = json.loads(found.get("TYGER_WORKER_NODES", "[]"))
        _wait([(node, port) for node in nodes for port in ports.values()], seconds)
    click.echo(script.exports(found), nl=False)


def _ports(endpoints: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for text in endpoints:
        name, equals, port = text.partition("=")
        if not equals or not name or not port.isdecimal() or not 0 < int(port) < 65536:
            raise UsageError(f"--endpoint: found {text!r}, wanted NAME=PORT with a port from 1 to 65535")
        found[name] = int(port)
    return found


def _wait(addresses: Sequence[tuple[str, int]], seconds: float) -> None:
    """Return as soon as every address has accepted a connection.

    Raises ClusterError, with the address and what was wrong with it, after `seconds`.
    """
    until = time.monotonic() + seconds
    for node, port in addresses:
        pause = _FIRST_PAUSE
        while True:
            try:
                socket.create_connection((node, port), timeout=max(0.001, until - time.monotonic())).close()
                break
            except OSError as error:
                if time.monotonic() + pause > until:
                    raise ClusterError(
                        f"{node}:{port} accepted no connection within {seconds:g} s: {error.strerror or error}"
                    ) from error
            time.sleep(pause)
            pause = min(pause * 1.3, _LAST_PAUSE)


def variables(here: Mapping[str, str], ports: Mapping[str, int] | None = None) -> dict[str, str]:
    """The run environment of the job that `here` is the environment of; `ports` are those of the workers' endpoints.

    Raises UsageError outside of Slurm jobs, and for endpoints where there are no workers.
    """
    if "HPCRUN_RUN_ID" in here and ports:
        raise UsageError("found --endpoint in a run of hpcrun's own, whose job knows the endpoints of its workers")
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
    if ports and not where.workers:
        raise UsageError("found endpoints in a job without workers, wanted a heterogeneous job (#SBATCH hetjob)")
    found = environ.variables(who, where, workspace=folder)
    if not where.workers:
        return found
    everywhere = {name: [port] * len(where.workers) for name, port in (ports or {}).items()}
    return {**found, **environ.workers(where.workers, everywhere)}


def _index(here: Mapping[str, str]) -> tuple[int, int]:
    """Index and count of an array that somebody else submitted: its elements in order, from 0.

    Only for these is Slurm's own count believed; in hpcrun's runs the plan knows it.
    """
    if "SLURM_ARRAY_TASK_ID" not in here:
        return 0, 1
    task, first = int(here["SLURM_ARRAY_TASK_ID"]), int(here.get("SLURM_ARRAY_TASK_MIN", "0"))
    step = int(here.get("SLURM_ARRAY_TASK_STEP", "1")) or 1
    return (task - first) // step, int(here.get("SLURM_ARRAY_TASK_COUNT", "1"))
