"""Hydra's sweeps as runs: ``hydra/launcher=submitit_hpcrun``."""

from __future__ import annotations

import sys

import pytest
from machine import Done, Machine

APP = """
from pathlib import Path
import hydra, submitit
from hydra.core.hydra_config import HydraConfig

@hydra.main(config_path=".", config_name="config", version_base=None)
def app(config):
    if config.x == 7:
        raise RuntimeError("seven is too many")
    job = submitit.JobEnvironment().job_id
    Path(HydraConfig.get().runtime.output_dir, "square").write_text(f"{config.x ** 2} {job}")

app()
"""


@pytest.fixture
def sweep(machine: Machine) -> list[str]:
    """The command of an app whose sweeps go to hpcrun."""
    machine.write("config.yaml", "x: 0\n")
    return [
        sys.executable,
        machine.write("app.py", APP),
        "-m",
        "hydra/launcher=submitit_hpcrun",
        "hydra.sweep.dir=swept",
    ]


def launched(machine: Machine, *argv: str) -> Done:
    """The end of a command which may show a traceback."""
    with machine.start(*argv) as process:
        out, err = process.communicate(timeout=120)
    return Done(process.args, process.returncode, out, err)


def test_sweep(machine: Machine, sweep: list[str]) -> None:
    """A sweep is one run: a shard for each point of it."""
    done = machine.command(*sweep, "x=1,2,3", "hydra.launcher.timeout_min=2", "hydra.launcher.partition=gpu")
    assert done.returncode == 0, done.stderr.decode()
    run = machine.open("last")
    left = [(machine.cwd / f"swept/{index}/square").read_text() for index in range(3)]
    assert left == [f"{(index + 1) ** 2} {run.id}_{index}" for index in range(3)]
    assert (run.wait().state, run.plan.name, run.plan.timeout) == ("succeeded", "app", 120)


def test_a_job_fails(machine: Machine, sweep: list[str]) -> None:
    """Hydra tells of the point that failed, and ends badly."""
    done = launched(machine, *sweep, "x=1,7")
    assert done.returncode == 1
    assert b"seven is too many" in done.stderr
    assert b"x=7" in done.stderr
    assert (machine.cwd / "swept/0/square").exists()


def test_without_the_launcher(machine: Machine) -> None:
    """Where hydra-submitit-launcher is not installed, Hydra works, and nothing complains."""
    app = machine.write("app.py", APP.replace("import hydra, submitit", "import hydra"))
    machine.write("config.yaml", "x: 7\n")
    code = (
        "import runpy, sys; sys.modules['hydra_plugins.hydra_submitit_launcher'] = None; sys.argv = sys.argv[1:];"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = launched(machine, sys.executable, "-c", code, app)
    assert b"seven is too many" in done.stderr
    assert b"hpcrun_launcher" not in done.stderr
