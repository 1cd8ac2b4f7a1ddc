"""What the scripts that run on a login node have in common."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path


def drained() -> None:
    """Wait until the user has no jobs in the queue."""
    while subprocess.run(["squeue", "--noheader", "--me"], capture_output=True, text=True, check=True).stdout:
        time.sleep(0.2)


def emptied() -> None:
    """Cancel all jobs of the user's, and wait until they are gone."""
    subprocess.run(["scancel", "--me"], check=True)
    drained()


def folder() -> Path:
    """A new folder that the nodes see."""
    return Path(tempfile.mkdtemp(dir=Path.home()))


def timed(*command: str | Path) -> tuple[float, str]:
    """How many seconds a command took, and what it printed. Raises SystemExit with its complaint where it failed."""
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    took = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{command[0]} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return took, done.stdout.strip()


def submitted(shards: int, *options: str, command: tuple[str, ...] = ("true",)) -> tuple[float, Path]:
    """How many seconds `hpcrun submit` took for so many shards, and the folder of the run."""
    took, run_id = timed("hpcrun", "submit", "-N", str(shards), *options, "--", *command)
    home = os.environ.get("HPCRUN_HOME") or Path.home() / ".hpcrun"
    return took, Path(home, "runs", run_id)


def holds(path: str | Path) -> tuple[int, int, int]:
    """How many files and folders there are below a path, and how many bytes the files have."""
    files = folders = size = 0
    for top, below, names in os.walk(path):
        folders += len(below)
        files += len(names)
        size += sum(os.lstat(os.path.join(top, name)).st_size for name in names)
    return files, folders, size
