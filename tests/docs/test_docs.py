"""The documents are run: every block of the README and of docs/ that can be."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from hpcrun import config
from hpcrun.backends import Backend
from hpcrun.environ import RESERVED_NAMES, RESERVED_PREFIXES
from hpcrun.probes import TaskProbe
from hpcrun.spec import SPELLINGS, RunSpec
from hpcrun.workflow import Gpus, Nodes, Probes, Replicas, Resources, Retries, Task, Variable, Workflow

ROOT = Path(__file__).resolve().parents[2]
HPCRUN = os.path.join(os.path.dirname(sys.executable), "hpcrun")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))]


def blocks(kind: str) -> list[tuple[str, str]]:
    """(page, text) of every block of one kind."""
    return [(page, text) for page in PAGES for found, text in BLOCK.findall((ROOT / page).read_text()) if found == kind]


def run(*command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "HPCRUN_CLUSTER": "local", "PATH": f"{os.path.dirname(HPCRUN)}:{os.environ['PATH']}"}
    return subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=120, check=False)


def test_commands_of_the_readme() -> None:
    """The commands run as they stand, one after the other, from a checkout."""
    commands = [
        line.split("#")[0]
        for page, text in blocks("sh")
        if page == "README.md"
        for line in text.splitlines()
        if line.startswith("hpcrun ")
    ]
    assert len(commands) >= 4
    for command in commands:
        done = run(*shlex.split(command))
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


def test_the_two_commands_exist() -> None:
    """The set-up commands that the README names are there and can be started."""
    named = re.findall(r"^((?:examples|tests)/\w+) ", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert named == ["examples/run", "tests/run"]
    assert all(os.access(ROOT / name, os.X_OK) for name in named)


@pytest.mark.parametrize(("page", "text"), blocks("yaml"))
def test_specs(page: str, text: str, tmp_path: Path) -> None:
    """Every spec of the documents compiles."""
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    # What a spec asks for may be more than this machine has; a workflow has no such options.
    limits = [] if "workflow:" in text else ["--cpus=1", "--mem=1M"]
    done = run(HPCRUN, "compile", *limits, str(path))
    assert done.returncode == 0, f"{page}: {done.stderr}"


def test_the_first_workflow(tmp_path: Path) -> None:
    """It runs as it stands, and its tasks are those that the page shows."""
    page = "docs/workflows.md"
    (tmp_path / "bench.yaml").write_text(next(text for found, text in blocks("yaml") if found == page))
    done = run(HPCRUN, "run", "bench.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = re.findall(r"^(\w+) +(?:ready|succeeded|running|pending) ", (ROOT / page).read_text(), re.MULTILINE)
    assert re.findall(r"^(\w+) +succeeded ", done.stdout, re.MULTILINE) == shown
    assert "4 at a time took" in run(HPCRUN, "logs", "--task", "report").stdout
    graph = next(text for found, text in blocks("mermaid") if found == page)
    assert run(HPCRUN, "compile", "--graph", "bench.yaml", cwd=tmp_path).stdout == graph


@pytest.mark.parametrize(("page", "text"), blocks("python"))
def test_python(page: str, text: str) -> None:
    """Every Python block runs, and what it claims to print in a comment is printed."""
    done = run(sys.executable, "-c", text)
    assert done.returncode == 0, f"{page}: {done.stderr}"
    for claimed in re.findall(r"print\(.*\) +# (.*)$", text, re.MULTILINE):
        assert claimed in done.stdout


@pytest.mark.parametrize(("page", "text"), blocks("toml"))
def test_settings(page: str, text: str, tmp_path: Path) -> None:
    """Every settings block is one that hpcrun takes."""
    (tmp_path / "hpcrun.toml").write_text(text)
    assert config.load(os.environ, str(tmp_path)).home, page


def test_every_field_is_documented() -> None:
    """docs/spec.md names each field of the spec and each other spelling of one."""
    text = (ROOT / "docs" / "spec.md").read_text()
    words = set(re.findall(r"\w+", text))
    assert [name for name in RunSpec.model_fields if not {name, _camel(name)} & words] == []
    assert [name for name in SPELLINGS if not {name, _camel(name)} & words] == []
    models = (Workflow, Task, Variable, Replicas, Resources, Nodes, Gpus, Retries, Probes, TaskProbe, Backend)
    assert [(model, name) for model in models for name in model.model_fields if name not in words] == []


def _camel(name: str) -> str:
    return re.sub(r"_(\w)", lambda match: match[1].upper(), name)


def test_every_variable_is_documented() -> None:
    """docs/environment.md names each variable that a program gets."""
    text = (ROOT / "docs" / "environment.md").read_text()
    done = run(HPCRUN, "run", "-N", "1", "--", "env")
    assert done.returncode == 0, done.stderr
    ours = [line.split("=")[0] for line in done.stdout.splitlines()]
    ours = [name for name in ours if name.startswith(RESERVED_PREFIXES) or name in RESERVED_NAMES]
    assert len(ours) > 30
    families = ("SFLOW_BACKEND_", "SFLOW_TASK_", "HPCRUN_CLUSTER", "HPCRUN_HOME")
    assert [name for name in ours if f"`{name}`" not in text and not name.startswith(families)] == []
