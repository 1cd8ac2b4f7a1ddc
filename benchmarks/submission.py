"""Submitting arrays of 1,000, 10,000 and 100,000 elements: a bare sbatch, hpcrun and submitit, interleaved.

Runs on a login node, in an environment with hpcrun and submitit: python submission.py [ROUNDS] [SHARDS ...].
What is submitted is to begin in an hour, and is cancelled right away; the time is that of the command, or of the call.
Also counts what hpcrun and submitit leave in their folders by submitting. submitit, which writes two files an element,
is given up to 1,000 elements in each second round, and 10,000 once. `hpcrun submit` is a command, of which most is its
start; `hpcrun.submit` and submitit are called in this process, which has them loaded from the round before.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial

from onslurm import emptied, folder, holds, submitted, timed
from pairs import Found, interleaved, median, table

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 5
SHARDS = [int(word) for word in sys.argv[2:]] or [1_000, 10_000, 100_000]
MOST_FOR_SUBMITIT = 10_000
LEFT: dict[tuple[str, int], tuple[int, int, int]] = {}


def raw(shards: int) -> float:
    script = folder() / "script.sh"
    script.write_text("#!/bin/bash\n:\n")
    options = ("--begin=now+1hour", "--output=/dev/null", f"--array=0-{shards - 1}")
    took, _ = timed("sbatch", "--parsable", *options, script)
    emptied()
    return took


def hpcrun(shards: int) -> float:
    took, path = submitted(shards, "--begin=now+1hour")
    LEFT["hpcrun", shards] = holds(path)
    emptied()
    return took


def from_python(shards: int) -> float:
    import hpcrun

    began = time.perf_counter()
    run = hpcrun.submit(["true"], shards=shards, sbatch={"begin": "now+1hour"}, cluster="slurm")
    took = time.perf_counter() - began
    LEFT["hpcrun", shards] = holds(run.dir.path)
    emptied()
    return took


def submitit(shards: int) -> float:
    import submitit

    logs = folder()
    executor = submitit.SlurmExecutor(folder=logs)
    executor.update_parameters(array_parallelism=shards, time=5, additional_parameters={"begin": "now+1hour"})
    began = time.perf_counter()
    executor.map_array(abs, range(shards))
    took = time.perf_counter() - began
    LEFT["submitit", shards] = holds(logs)
    emptied()
    return took


def measured(shards: int) -> Found:
    contenders: dict[str, Callable[[], float]] = {
        "raw sbatch --array": partial(raw, shards),
        "hpcrun submit": partial(hpcrun, shards),
        "hpcrun.submit, from Python": partial(from_python, shards),
    }
    every = 2
    if shards <= MOST_FOR_SUBMITIT:
        contenders["submitit"] = partial(submitit, shards)
        every = 2 if shards <= 1_000 else ROUNDS
    return interleaved(contenders, ROUNDS, seldom=("submitit",), every=every)


def main() -> None:
    found = {}
    for shards in SHARDS:
        found[shards] = measured(shards)
        print(f"{shards:,} elements:\n\n{table(found[shards], 'raw sbatch --array')}\n", flush=True)
    for name in ("hpcrun submit", "hpcrun.submit, from Python"):
        over = {shards: median(each[name]) - median(each["raw sbatch --array"]) for shards, each in found.items()}
        print(f"{name}: " + ", ".join(f"{value:.2f} s over a raw sbatch for {size:,}" for size, value in over.items()))
        print()
    print("In the folder after submission:\n\n| | elements | files | folders | bytes |\n|---|---|---|---|---|")
    for (name, shards), (files, folders, size) in LEFT.items():
        print(f"| {name} | {shards:,} | {files:,} | {folders:,} | {size:,} |")


main()
