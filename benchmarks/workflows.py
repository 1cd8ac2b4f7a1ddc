"""Workflows beside nv-sflow, both on this machine: python benchmarks/workflows.py [ROUNDS]

How long it takes from a server's listening to the start of what waits for it, and how long graphs of trivial tasks
take.
The same file is given to both. nv-sflow 0.3.1 must be installed, or SFLOW name its program.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pairs import interleaved, table

ROUNDS = int(sys.argv[1]) if sys.argv[1:] else 7
HPCRUN = os.path.join(os.path.dirname(sys.executable), "hpcrun")
SFLOW = os.environ.get("SFLOW") or shutil.which("sflow") or os.path.join(os.path.dirname(sys.executable), "sflow")
COMMANDS = {"hpcrun": (HPCRUN, "run", "--cluster", "local"), "nv-sflow 0.3.1": (SFLOW, "run")}
SERVER = """
import socket, sys, time
time.sleep(float(sys.argv[1]))
found = socket.create_server(("127.0.0.1", int(sys.argv[2])))
print(time.time(), file=open("listening", "w"), flush=True)
while True:
    found.accept()[0].close()
"""
"""Leaves when it began to listen."""


def spec(tasks: list[dict[str, Any]]) -> str:
    """A workflow of these tasks; JSON is YAML, too."""
    return json.dumps({"version": "0.1", "workflow": {"name": "measured", "tasks": tasks}})


def layers(count: int, wide: int) -> str:
    """`count` layers of `wide` tasks, each of which needs all of the layer before."""
    return spec(
        [
            {
                "name": f"t{layer}_{place}",
                "script": ["true"],
                "depends_on": [f"t{layer - 1}_{before}" for before in range(wide)] if layer else [],
            }
            for layer in range(count)
            for place in range(wide)
        ]
    )


def served(port: int, **probe: int) -> str:
    """A server that takes some time to listen, and a task that needs it and leaves when it began."""
    wait = round(random.uniform(0.5, 2.5), 2)
    return spec(
        [
            {
                "name": "server",
                "script": [f"exec {sys.executable} server.py {wait} {port}"],
                "probes": {"readiness": {"tcp_port": {"port": port}, **probe}},
            },
            {"name": "client", "script": ["date +%s.%N > began"], "depends_on": ["server"]},
        ]
    )


def carried_out(command: tuple[str, ...], text: str, folder: Path) -> None:
    """One run in an empty folder; what it leaves running is in its session, and is killed."""
    (folder / "workflow.yaml").write_text(text)
    (folder / "server.py").write_text(SERVER)
    environ = {**os.environ, "HPCRUN_HOME": str(folder / "home")}
    with subprocess.Popen(
        [*command, "workflow.yaml"], cwd=folder, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:  # fmt: skip
        if process.wait():
            raise SystemExit(f"{command[0]} has failed in {folder}")
    try:
        os.killpg(process.pid, 9)
    except ProcessLookupError:
        pass


def latency(command: tuple[str, ...], **probe: int) -> Callable[[], float]:
    """Seconds from the server's listening to the client's start."""

    def measure() -> float:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            carried_out(command, served(random.randrange(20_000, 32_000), **probe), folder)
            return float((folder / "began").read_text()) - float((folder / "listening").read_text())

    return measure


def wall(command: tuple[str, ...], text: str) -> Callable[[], float]:
    """Seconds from the call to its end."""

    def measure() -> float:
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            carried_out(command, text, Path(folder))
            return time.perf_counter() - began

    return measure


def main() -> None:
    ours, theirs = COMMANDS.values()
    print("From the server's listening to the client's start:\n")
    contenders = {
        "nv-sflow 0.3.1": latency(theirs),
        "nv-sflow 0.3.1, interval: 1": latency(theirs, interval=1),
        "hpcrun": latency(ours),
    }
    print(table(interleaved(contenders, ROUNDS), "nv-sflow 0.3.1"))
    for title, text in {
        "200 tasks, 10 layers of 20": layers(10, 20),
        "20 tasks, a chain": layers(20, 1),
    }.items():
        print(f"\n{title}:\n")
        found = interleaved({name: wall(command, text) for name, command in reversed(COMMANDS.items())}, ROUNDS)
        print(table(found, "nv-sflow 0.3.1"))


if __name__ == "__main__":
    main()
