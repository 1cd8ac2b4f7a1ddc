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

HIT = """
setsid sh -c 'kill -STOP $1; : >stopped; until grep -q " Z " /proc/$2/stat; do :; done; kill -TERM $1; kill -CONT $1' \
    sh $PPID $$ &
until [ -e stopped ]; do :; done
"""
"""Holds the supervisor, lets the program end, tells the supervisor to end, and lets it go on."""


@pytest.mark.parametrize("end", ["kill -TERM $$", "exit 1", "exit 0"])
def test_the_program_first(tmp_path: Path, end: str) -> None:
    """A program that was gone before its supervisor heard of SIGTERM was cancelled, however it ended."""
    script = f"cd {tmp_path}; {HIT}{end}"
    run = RunDir(str(tmp_path / "abc"))
    for folder in run.folders(1):
        os.makedirs(folder)
    made = plan({"command": ["sh", "-c", script], "working_dir": str(tmp_path)})
    runtime.write(run, json.loads(json.dumps(made.to_json())), sys.executable, str(tmp_path / "cache"))
    environ = {"PATH": os.environ["PATH"], "SLURM_JOB_ID": "12", "SLURM_JOB_NODELIST": "n1", "SLURMD_NODENAME": "n1"}
    command = [sys.executable, "-I", "-S", run.start, "shard", "0"]
    subprocess.run(command, env=environ, stdout=subprocess.DEVNULL, timeout=60, check=False)
    assert events.read(run.record(0, 0))[-1]["cause"] == "cancelled"
