"""Makespan of no-op shards on Slurm: a raw job array, hpcrun and submitit, interleaved.

Runs on a login node, in an environment with hpcrun and submitit that the nodes see too (submitit needs it there):
python makespan.py [SHARDS] [ROUNDS].
Every shard leaves one empty file, and its output in a file of its own; the makespan is from the call that submits to
the youngest of the empty files.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pairs import interleaved, table

SHARDS = int(sys.argv[1]) if len(sys.argv) > 1 else 200
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 5
HOME = Path.home()
DEADLINE = 120


def touched(folder: Path, began: float) -> float:
    while len(os.listdir(folder)) < SHARDS:
        if time.time() > began + DEADLINE:
            raise SystemExit(f"{len(os.listdir(folder))} of {SHARDS} shards after {DEADLINE} s")
        time.sleep(0.02)
    return max(entry.stat().st_mtime for entry in os.scandir(folder)) - began


def drained() -> None:
    while subprocess.run(["squeue", "--noheader", "--me"], capture_output=True, text=True, check=True).stdout:
        time.sleep(0.2)


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
    subprocess.run(["sbatch", "--parsable", f"--array=0-{SHARDS - 1}", script], check=True, capture_output=True)
    return touched(folder, began)


def hpcrun() -> float:
    drained()
    folder = Path(tempfile.mkdtemp(dir=HOME))
    command = ["hpcrun", "submit", "-N", str(SHARDS), "--", str(program(folder))]
    began = time.time()
    subprocess.run(command, check=True, capture_output=True)
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

        contenders[f"submitit {peer.__version__}"] = submitit
    except ImportError:
        print("submitit is not installed here: without it")
    print(f"{SHARDS} shards, {ROUNDS} rounds\n")
    print(table(interleaved(contenders, ROUNDS), "raw sbatch --array"))


main()
