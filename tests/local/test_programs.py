"""Programs written for the systems that hpcrun learns from run unchanged."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest
from machine import Machine
from programs import FOLDER, PROGRAMS, Program


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_every_part_is_done_once(machine: Machine, program: Program) -> None:
    """All shards together do everything, and nothing twice."""
    argv = [sys.executable if word == "python3" else word for word in program.argv]
    run = machine.run("-N", str(program.shards), "--chdir", str(FOLDER), "--", *argv)
    lines = [line for path in Path(run.dir.results).iterdir() for line in path.read_text().splitlines()]
    assert tuple(sorted(lines)) == program.expected


def test_a_test_suite_is_sharded(machine: Machine) -> None:
    """Velda's conftest.py: every test runs in one shard and only there."""
    shutil.copy(FOLDER / "sharded_suite" / "sharding.py", machine.cwd / "conftest.py")
    machine.write("test_suite.py", "".join(f"def test_{number}():\n    pass\n\n" for number in range(7)))
    run = machine.run("-N", "3", "--", sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider")
    ran = [name for shard in range(3) for name in re.findall(r"::(test_\d) PASSED", run.logs(shard))]
    assert sorted(ran) == [f"test_{number}" for number in range(7)]
