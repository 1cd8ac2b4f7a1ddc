"""How long imports and command lines take over a bare Python, hpcrun's and its peers', interleaved.

python benchmarks/start.py [ROUNDS] [PEERS], where PEERS is a folder with an environment for each peer, by its name in
the package index; without it they are looked for in the environment of this Python, as hpcrun is. One that is not
there is named.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from pairs import interleaved, table

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 15
PEERS = sys.argv[2] if len(sys.argv) > 2 else ""
MODULES = {
    "submitit": "submitit", "torchx": "torchx.runner", "nemo-run": "nemo_run", "dask-jobqueue": "dask_jobqueue",
    "parsl": "parsl", "executorlib": "executorlib", "psij-python": "psij", "nv-sflow": "sflow",
    "hyperqueue": "hyperqueue", "simple-slurm": "simple_slurm",
}  # fmt: skip
"""What a program that submits by a peer imports, by the peer's name in the package index."""
COMMANDS = {"torchx": "torchx", "nemo-run": "nemorun", "nv-sflow": "sflow", "gridtk": "gridtk"}
"""The commands of peers that have one."""
VERSION = "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))"


def timed(*argv: str) -> Callable[[], float]:
    def measure() -> float:
        began = time.perf_counter()
        subprocess.run(argv, check=True, capture_output=True)
        return (time.perf_counter() - began) * 1000

    return measure


def python(peer: str) -> str:
    return os.path.join(PEERS, peer, "bin", "python") if PEERS else sys.executable


def version(peer: str) -> str:
    if not os.path.exists(python(peer)):
        return ""
    done = subprocess.run([python(peer), "-c", VERSION, peer], check=False, capture_output=True, text=True)
    return done.stdout.strip()


def of_peers(missing: list[str]) -> Iterator[tuple[str, Callable[[], float]]]:
    for peer in dict.fromkeys((*MODULES, *COMMANDS)):
        known = version(peer)
        ways = [(f"import {MODULES[peer]}", [python(peer), "-c", f"import {MODULES[peer]}"])] if peer in MODULES else []
        if peer in COMMANDS:
            path = os.path.join(os.path.dirname(python(peer)), COMMANDS[peer])
            ways.append((f"{COMMANDS[peer]} --help", [path, "--help"]))
        for name, argv in ways if known else ():
            try:
                timed(*argv)()
            except (OSError, subprocess.CalledProcessError) as error:
                words = getattr(error, "stderr", b"") or str(error).encode()
                missing.append(
                    f"{name} ({peer} {known} fails: {words.decode(errors='replace').split(chr(10))[-2:][0]})"
                )
                continue
            yield f"{name} ({peer} {known})", timed(*argv)
        if not known:
            missing.append(f"{peer} (not installed)")


def main() -> None:
    hpcrun = os.path.join(os.path.dirname(sys.executable), "hpcrun")
    missing: list[str] = []
    found = interleaved(
        {
            "python -c pass": timed(sys.executable, "-c", "pass"),
            "import hpcrun": timed(sys.executable, "-c", "import hpcrun"),
            "hpcrun --version": timed(hpcrun, "--version"),
            "hpcrun --help": timed(hpcrun, "--help"),
            **dict(of_peers(missing)),
        },
        ROUNDS,
    )
    print(table(found, "python -c pass", "ms"))
    if missing:
        print(f"\nWithout {', '.join(missing)}.")


main()
