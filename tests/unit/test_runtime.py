"""node.pyz: the runtime that travels with a run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.made import plan

from hpcrun import runtime
from hpcrun.rundir import RunDir

HOME = Path(os.path.expanduser("~"))  # before a test has another one


def pythons(*minors: int) -> list[str]:
    """The interpreters of these versions of Python 3 on this machine, real ones and no shims."""
    found = [path for minor in minors for path in sorted(HOME.glob(f".pyenv/versions/3.{minor}.*/bin/python"))]
    named = [shutil.which(f"python3.{minor}") for minor in minors]
    return [str(path) for path in found] or [path for path in named if path and ".pyenv/shims" not in path]


OLDEST = (*pythons(9), sys.executable)[0]


def write(folder: Path, value: dict[str, Any], python: str = sys.executable) -> str:
    run = RunDir(str(folder))
    runtime.write(run, value, python, str(folder / "cache"))
    return run.node


def carried(path: str) -> dict[str, Any]:
    """The plan that the node side reads from a node.pyz."""
    with zipfile.ZipFile(path) as archive:
        found: dict[str, Any] = {}
        exec(compile(archive.read("hpcrun_plan.py"), "plan", "exec"), found)  # it is Python
    return found["PLAN"]  # type: ignore[no-any-return]


@given(st.dictionaries(st.text(st.characters(exclude_categories=())), st.text(st.characters(exclude_categories=()))))
def test_hostile_text(tmp_path_factory: pytest.TempPathFactory, env: dict[str, str]) -> None:
    """Whatever text a plan holds, the node reads just that: quotes, newlines, lone surrogates."""
    folder = tmp_path_factory.mktemp("pyz")
    assert carried(write(folder, {"env": env, "none": None, "flag": True})) == {"env": env, "none": None, "flag": True}


def test_the_common_part_is_kept(tmp_path: Path) -> None:
    """Two runs share what does not differ; the second does not build it again."""
    write(tmp_path, {"a": 1})
    kept = list((tmp_path / "cache").iterdir())
    assert len(kept) == 1
    kept[0].write_bytes(kept[0].read_bytes())  # still a zip, and a sign if it is replaced
    before = kept[0].stat().st_mtime_ns
    path = write(tmp_path, {"a": 2})
    assert [entry.stat().st_mtime_ns for entry in (tmp_path / "cache").iterdir()] == [before]
    assert carried(path) == {"a": 2}


def test_byte_code_is_used(tmp_path: Path) -> None:
    """The node's Python takes its modules from byte code that is in the zip, not from their sources."""
    path = write(tmp_path, {})
    code = (
        f"import sys; sys.path.insert(0, {path!r}); import hpcrun.node.shard as m, hpcrun_plan as p;"
        "print(*(x.__cached__ or x.__file__ for x in (m, p)), sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert [name.endswith(".pyc") for name in done.stdout.split()] == [True, True]


def test_without_the_nodes_python(tmp_path: Path) -> None:
    """A python that only the nodes have is no reason to fail: the sources are there."""
    names = zipfile.ZipFile(write(tmp_path, {}, "/only/on/nodes/python3")).namelist()
    assert {"hpcrun/__init__.py", "hpcrun/node/shard.py", "hpcrun_plan.py"} <= set(names)


def in_a_run(tmp_path: Path, python: str) -> subprocess.CompletedProcess[str]:
    """start.py run as the one shard of a Slurm job, by `python` with nothing but its standard library."""
    run = RunDir(str(tmp_path / "abc"))
    for folder in run.folders(1):
        os.makedirs(folder)
    made = plan(command=["sh", "-c", 'printf %s "$1"', "sh", "$(HPCRUN_SHARD_INDEX)"], working_dir=str(tmp_path))
    runtime.write(run, json.loads(json.dumps(made.to_json())), python, str(tmp_path / "cache"))
    environ = {"PATH": os.defpath, "SLURM_JOB_ID": "12", "SLURM_JOB_NODELIST": "n1", "SLURMD_NODENAME": "n1"}
    command = [python, "-I", "-S", "-W", "error", run.start, "shard", "0"]
    return subprocess.run(command, capture_output=True, text=True, env=environ, timeout=60)


def test_node_side_on_the_oldest_python(tmp_path: Path) -> None:
    """The node side runs a program with the standard library of Python 3.9 alone."""
    done = in_a_run(tmp_path, OLDEST)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "abc" / "logs" / "0" / "000" / "0.log").read_text() == "0"


@pytest.mark.parametrize("python", pythons(6, 7, 8))
def test_too_old_a_python(tmp_path: Path, python: str) -> None:
    """A Python that is too old says what it is, what is wanted and where to set it."""
    done = in_a_run(tmp_path, python)
    assert done.returncode == 1
    assert done.stderr.startswith("hpcrun: found Python 3.")
    assert "wanted 3.9 or newer; set node_python in hpcrun.toml to the absolute path" in done.stderr
