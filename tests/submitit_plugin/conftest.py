"""submitit's users without a Slurm: jobs run on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import submitit
from machine import Machine, end_all


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """This machine, which tests submit from; whatever they leave running is killed."""
    found = Machine(tmp_path)
    for name in [name for name in os.environ if name.startswith("SUBMITIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HPCRUN_CLUSTER", "local")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))  # so that jobs find the functions of the tests
    monkeypatch.chdir(found.cwd)
    yield found
    end_all(found)


@pytest.fixture
def folder(machine: Machine) -> Path:
    """Where submitit is to keep its files."""
    return machine.cwd / "submitit's $(HOME) logs"


@pytest.fixture
def executor(folder: Path) -> submitit.AutoExecutor:
    """What a user has after changing one word."""
    return submitit.AutoExecutor(folder, cluster="hpcrun")
