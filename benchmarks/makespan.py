"""Makespan of no-op shards on Slurm: a raw job array, hpcrun and submitit, interleaved.

Runs on a login node, in an environment with hpcrun and submitit that the nodes see too (submitit needs it there):
python makespan.py [SHARDS] [ROUNDS] [EVERY].
Every shard leaves one empty file, and its output in a file of its own; the makespan is from the call that submits to
the youngest of the empty files. submitit, which takes long, has its turn in one of EVERY rounds.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from onslurm import drained, timed
from pairs import interleaved, table

SHARDS = int(sys.argv[1]) if len(sys.argv) > 1 else 500
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 5
EVERY = int(sys.argv[3]) if len(sys.argv) > 3 else 2
HOME = Path.home()
DEADLINE = 300


def touched(folder: Path, began: float) -> float:
    while len(os.listdir(folder)) < SHARDS:
        if time.time() > began + DEADLINE:
            raise SystemExit(f"{len(os.listdir(folder))} of {SHARDS} shards after {DEADLINE} s")
        time.sleep(0.02)
    return max(entry.stat().st_mtime for entry in os.scandir(folder)) - began


def program(folder: Path) -> Path:
    """The one program that raw Slurm and hpcrun run: it leaves a file that says that its element has been here."""
    path = folder.with_suffix(".sh")
    path.write_text(f"#!/bin/sh\ntouch {folder}/$SLURM_ARRAY_TASK_ID\n")
    path.chmod(0o755)
    return path


def raw() -> float:
    drained()
    folder = Path(tempfile.mkdtemp(dir=HOME))
    logs = Path(tempfile.mkdtemp(dir=HOME))
    script = folder.with_suffix(".sbatch")
    script.write_text(f"#!/bin/bash\n#SBATCH --output={logs}/%a.out\n{program(folder)}\n")
    began = time.time()
    timed("sbatch", "--parsable", f"--array=0-{SHARDS - 1}", script)
    return touched(folder, began)


def hpcrun() -> float:
    drained()
    folder = Path(tempfile.mkdtemp(dir=HOME))
    command = program(folder)
    began = time.time()
    timed("hpcrun", "submit", "-N", str(SHARDS), "--", command)
    return touched(folder, began)


def submitit() -> float:
    import submitit

    drained()
    folder = Path(tempfile.mkdtemp(dir=HOME))
    executor = submitit.SlurmExecutor(folder=folder.with_suffix(".logs"))
    executor.update_parameters(array_parallelism=SHARDS, time=5, stderr_to_stdout=True)
    began = time.time()
    executor.map_array(lambda index: (folder / str(index)).touch(), range(SHARDS))
    return touched(folder, began)


def main() -> None:
    contenders = {"raw sbatch --array": raw, "hpcrun": hpcrun}
    try:
        import submitit as peer

        peers = {f"submitit {peer.__version__}": submitit}
    except ImportError:
        peers = {}
        print("submitit is not installed here: without it\n")
    timed("hpcrun", "submit", "--", "true")  # what is made once for all runs is there then
    found = interleaved({**contenders, **peers}, ROUNDS, seldom=peers, every=EVERY, warm=False)
    print(table(found, "raw sbatch --array"))


main()
