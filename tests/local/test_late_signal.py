"""Slurm signals every process of a job, in an order that nobody knows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from unit.made import plan

from hpcrun import events, runtime
from hpcrun.rundir import RunDir


@pytest.mark.parametrize(
    ("end", "cause"),
    [("kill -TERM $$", "cancelled"), ("exit 1", "cancelled"), ("exit 0", None)],
    ids=["by the signal", "in its own way", "well"],
)
def test_the_program_first(tmp_path: Path, end: str, cause: str | None) -> None:
    """A program that SIGTERM reached before its supervisor was cancelled, unless it had ended well."""
    script = f"setsid sh -c 'sleep 0.03; kill -TERM $1' sh $PPID & {end}"
    run = RunDir(str(tmp_path / "abc"))
    for folder in run.folders(1):
        os.makedirs(folder)
    made = plan({"command": ["sh", "-c", script], "working_dir": str(tmp_path)})
    runtime.write(run, json.loads(json.dumps(made.to_json())), sys.executable, str(tmp_path / "cache"))
    environ = {"PATH": os.environ["PATH"], "SLURM_JOB_ID": "12", "SLURM_JOB_NODELIST": "n1", "SLURMD_NODENAME": "n1"}
    command = [sys.executable, "-I", "-S", run.start, "shard", "0"]
    subprocess.run(command, env=environ, stdout=subprocess.DEVNULL, timeout=60, check=False)
    assert events.read(run.record(0, 0))[-1]["cause"] == cause
