"""Programs written for the systems that hpcrun learns from run unchanged, as arrays of the real cluster."""

from __future__ import annotations

import pytest
from containers import User
from programs import FOLDER, PROGRAMS, Program


@pytest.fixture
def folder(user: User) -> str:
    """The published programs and their stubs, where every node sees them."""
    for path in FOLDER.glob("*.py"):
        user.write(f"programs/{path.name}", path.read_text(encoding="utf-8"))
    return f"{user.folder}/programs"


def test_every_part_is_done_once(user: User, folder: str) -> None:
    """All shards of an array together do everything that the page says, and nothing twice."""
    submitted = {program: submit(user, folder, program) for program in PROGRAMS}
    found = {}
    for program, run_id in submitted.items():
        waited = user.hpcrun("wait", run_id)
        assert waited.returncode == 0, waited.stdout
        results = user.ok("bash", "-c", 'cat "$1"/*', "bash", f"{user.home}/runs/{run_id}/results")
        found[program.name] = tuple(sorted(results.splitlines()))
    assert found == {program.name: program.expected for program in PROGRAMS}


def submit(user: User, folder: str, program: Program) -> str:
    return user.submit("-N", str(program.shards), "--chdir", folder, "--", *program.argv)
