"""The part of `hpcrun doctor` on a node that needs a Python: whether the runtime loads there, and whether another node
of the job reaches this one by TCP, as workers reach their supervisor.

``checkup`` prints NAME=VALUE lines; ``checkup PORT HOST…`` is the other node's end.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys

# What shards, gangs and workflows load: a Python that lacks a part of its standard library cannot be used.
from hpcrun.node import agent, batch, gang, workflow
from hpcrun.node.steps import without_shape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from hpcrun.rundir import RunDir

LOADED = (agent, batch, gang, workflow)
_CALL = 20.0
"""Seconds in which the other node must have called."""
_CONNECT = 10.0


def tell(run: RunDir, words: Sequence[str]) -> NoReturn:
    """Print what was found, or be the other node's end."""
    if words:
        _call(int(words[0]), words[1:])
    print("runtime=ok", flush=True)
    for name, value in _peer(run):
        print(f"{name}={value}", flush=True)
    raise SystemExit(0)


def _call(port: int, hosts: Sequence[str]) -> NoReturn:
    problem = ""
    for host in hosts:
        try:
            socket.create_connection((host, port), timeout=_CONNECT).close()
            raise SystemExit(0)
        except OSError as error:
            problem = f"{host}:{port}: {error}"
    raise SystemExit(problem)


def _peer(run: RunDir) -> list[tuple[str, str]]:
    from hpcrun.hostlist import expand

    own = os.environ.get("SLURMD_NODENAME", os.uname().nodename)
    others = [name for name in expand(os.environ.get("SLURM_JOB_NODELIST", "")) if name != own]
    if not others:
        return []
    listener = socket.create_server(("", 0))
    hosts = list(dict.fromkeys((own, os.uname().nodename)))
    command = [
        "srun", "--input=none", "--overlap", "--nodes=1", "--ntasks=1", f"--nodelist={others[0]}", "--mpi=none",
        "--export=ALL", sys.executable, "-I", "-S", run.start, "checkup", str(listener.getsockname()[1]), *hosts,
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, env=without_shape(os.environ), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, timeout=_CALL, check=False,
        )  # fmt: skip
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        answer = "ok" if done.returncode == 0 else (said or [f"exit code {done.returncode}"])[0]
    except (OSError, subprocess.TimeoutExpired) as error:
        answer = f"no call within {_CALL:.0f} s" if isinstance(error, subprocess.TimeoutExpired) else str(error)
    return [("peer_node", others[0]), ("peer", answer)]
