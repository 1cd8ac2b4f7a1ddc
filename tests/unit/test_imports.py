"""Imports go one way, and the node side needs nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hpcrun
from hpcrun import runtime

ROOT = Path(__file__).parents[2]
_OF_WORKFLOWS = {
    f"hpcrun.{name}" for name in ("workflow", "workflows", "expansion", "expressions", "backends", "probes")
}


def test_contracts() -> None:
    """The contracts of pyproject.toml hold."""
    lint = os.path.join(os.path.dirname(sys.executable), "lint-imports")
    done = subprocess.run([lint, "--no-cache"], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_node_side_travels_whole() -> None:
    """node.pyz carries everything that its modules import of this package, and they import with nothing installed."""
    package = Path(hpcrun.__path__[0])
    code = (
        "import sys, importlib; sys.modules['hpcrun_plan'] = sys; sys.path.insert(0, sys.argv[1]);"
        "[importlib.import_module(name) for name in sys.argv[2:]];"
        "print(*(name for name in sys.modules if name.split('.')[0] == 'hpcrun'))"
    )
    wanted = [
        f"hpcrun.node.{path.stem}" for path in (package / "node").glob("*.py") if path.stem not in ("__init__", "start")
    ]
    wanted += ["hpcrun.slurm", "hpcrun.local", "hpcrun.follow"]  # which some of them load when they need it
    command = [sys.executable, "-I", "-S", "-c", code, str(package.parent), *wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    loaded = {_file(package, name) for name in done.stdout.split()}
    assert loaded <= set(runtime.NODE_MODULES)


def test_nodes_need_no_newer_python() -> None:
    """Neither the language nor the standard library of what runs there is newer than 3.9."""
    vermin = os.path.join(os.path.dirname(sys.executable), "vermin")
    package = Path(hpcrun.__path__[0])
    files = [str(package / f"{name}.py") for name in (*runtime.NODE_MODULES, "node/start")]
    command = [vermin, "--target=3.9-", "--no-tips", "--violations", "--no-config-file", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def _file(package: Path, name: str) -> str:
    below = name.split(".")[1:]
    folder = package.joinpath(*below).is_dir()
    return "/".join([*below, "__init__"] if folder else below)


@pytest.mark.parametrize(
    ("words", "without"),
    [
        (["submit", "--cluster=local", "--dry-run", "-N", "3", "--", "true"], {"jinja2", "ruamel"} | _OF_WORKFLOWS),
        (["submit", "--cluster=slurm", "-N", "3", "--", "true"], _OF_WORKFLOWS),
        (["list"], {"pydantic", "jinja2", "ruamel", "hpcrun.submission"} | _OF_WORKFLOWS),
        (["hosts", "expand", "n[1-2]"], {"pydantic", "jinja2", "ruamel", "hpcrun.run"}),
        (["--help"], {"pydantic", "jinja2", "ruamel", "hpcrun.run"}),
    ],
)
def test_commands_load_what_they_need(tmp_path: Path, words: list[str], without: set[str]) -> None:
    """A command whose spec has no file, expression or workflow loads nothing that is for these."""
    for name, said in (("sbatch", "echo 1"), ("scontrol", "echo MaxArraySize = 1001"), ("squeue", ":")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{said}\n")
        (tmp_path / name).chmod(0o755)
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path), "HPCRUN_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-X", "importtime", "-m", "hpcrun", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environ, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "hpcrun.cli" in loaded
    assert not loaded & without


def test_processes_start_in_few_places() -> None:
    """No module but these names what starts a process."""
    package = Path(hpcrun.__path__[0])
    starting = re.compile(r"\b(subprocess|os\.(fork|exec\w+|posix_spawn\w*|system|popen))\b")
    found = {path.relative_to(package).parts[0] for path in package.rglob("*.py") if starting.search(path.read_text())}
    assert found == {"slurm.py", "local.py", "runtime.py", "node", "submitit_plugin"}
