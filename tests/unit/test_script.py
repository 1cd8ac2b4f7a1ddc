"""The sbatch script: whole, through a real shell, and as sbatch splits its directives."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.made import plan, settings

from hpcrun import script
from hpcrun.config import NodePool
from hpcrun.errors import TemplateError
from hpcrun.plan import Plan
from hpcrun.rundir import RunDir

GOLDEN = Path(__file__).parent / "golden"
SHELLCHECK = shutil.which("shellcheck", path=os.path.dirname(sys.executable)) or "shellcheck"

HOSTILE = [
    "with space", "quote'", 'double"', "$(touch x)", "`touch x`", "# no comment", "back\\slash", "ünïcode ☃", "-rf",
    "%j 100%", "a'; touch x; '", 'a"; touch x; "', "${HOME}", "!!", "*", "~", "a\\", "a b # \"c' \\d",
]  # fmt: skip


def split(text: str) -> dict[str, str | None]:
    """The options in the #SBATCH lines of a script, split as sbatch's opt.c splits them.

    Quotes and backslashes work as in a shell (within quotes too, for a backslash), a # that no backslash precedes
    ends the line even within quotes, nothing is expanded.
    """
    found: dict[str, str | None] = {}
    for line in text.splitlines():
        if line.startswith("#SBATCH "):
            words = _words(line.removeprefix("#SBATCH "))
            assert len(words) == 1, words
            name, equals, value = words[0].partition("=")
            found[name.removeprefix("--")] = value if equals else None
    return found


def _words(line: str) -> list[str]:
    words, word, quote = [], "", ""
    chars = iter(line)
    for char in chars:
        if char == "\\":
            word += next(chars, "")
        elif char == "#":
            break
        elif quote and char == quote:
            quote = ""
        elif not quote and char in "\"'":
            quote = char
        elif not quote and char.isspace():
            words += [word] if word else []
            word = ""
        else:
            word += char
    assert not quote, line
    return [*words, word] if word else words


def render(made: Plan, home: str = "/home/me/.hpcrun/runs/abc", folder: str | None = None, batch: int = 0) -> str:
    return script.render(made, RunDir(home), made.batches[batch], *script.template(folder))


def test_golden() -> None:
    """A whole script, with everything in it that a script can have."""
    made = plan(
        shards=2000, max_parallel=10, cpus=2, memory="8G", gpus="a100:1", timeout="1h", name="my run",
        sbatch={"partition": "gpu", "exclusive": True, "comment": "it's #1"},
        prologue="set -u", config=settings(prologue="module load cuda"),
    )  # fmt: skip
    assert render(made, batch=1) == (GOLDEN / "batch.sh").read_text(encoding="utf-8")


def test_golden_het(tmp_path: Path) -> None:
    """A whole heterogeneous job: the workers' component with its pool, its amounts, and nothing of the job's own."""
    worker = {
        "command": ["serve"], "replicas": 3, "node_pool": "gpu pool", "cpus": 4, "memory": "6G", "gpus": "a100:2",
        "endpoints": {"http": 8080},
    }  # fmt: skip
    made = plan(
        worker=worker, shards=5, max_parallel=2, tasks=4, nodes=2, memory="1G", timeout="1h", name="my run",
        sbatch={"exclude": "bad[1-2]", "exclusive": True, "comment": "it's #1"}, prologue="set -u",
        config=settings(node_pools={"gpu pool": NodePool(partition="gpu", constraint="a100&nvlink")}),
    )  # fmt: skip
    rendered = render(made, batch=3)
    assert rendered == (GOLDEN / "het.sh").read_text(encoding="utf-8")
    checked(rendered, tmp_path)
    assert argv(rendered, tmp_path) == ["-I", "-S", "/home/me/.hpcrun/runs/abc/start.py", "shard", "3"]


def test_golden_flat(tmp_path: Path) -> None:
    """A whole array whose elements hold job and workers: one component, with a task for each of them."""
    worker = {"command": ["serve"], "replicas": 2, "cpus": 2, "memory": "4G", "endpoints": {"http": "auto"}}
    made = plan(worker=worker, shards=8, max_parallel=3, cpus=2, memory="4G", timeout="1h", node_pool="cpu",
                config=settings(node_pools={"cpu": NodePool(partition="c")}))  # fmt: skip
    rendered = render(made)
    assert rendered == (GOLDEN / "flat.sh").read_text(encoding="utf-8")
    checked(rendered, tmp_path)
    assert argv(rendered, tmp_path) == ["-I", "-S", "/home/me/.hpcrun/runs/abc/start.py", "shard", "0"]


def test_one_program() -> None:
    """A run without shards is no array, and its output is named by the job."""
    text = render(plan())
    assert "array" not in split(text)
    assert split(text)["output"] == "/home/me/.hpcrun/runs/abc/slurm/%j.out"


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_words(tmp_path: Path, text: str) -> None:
    """Directives come back as they were meant, the script is sound shell, and no word of it is run by the shell."""
    run = tmp_path / text / "runs" / "abc"
    run.mkdir(parents=True)
    made = plan(name=text, sbatch={"comment": text, "constraint": text}, shards=3)
    made = dataclasses.replace(made, components=((*made.components[0], ("account", text)),))
    rendered = render(made, str(run))
    found = split(rendered)
    assert (found["job-name"], found["comment"], found["constraint"]) == (text, f"{text} hpcrun:abc", text)
    assert (found["account"], found["array"]) == (text, "0-2")
    assert found["output"] == f"{run}/slurm".replace("%", "%%") + "/%A_%a.out"
    assert argv(rendered, tmp_path) == ["-I", "-S", str(run / "start.py"), "shard", "0"]
    assert not (tmp_path / "cwd" / "x").exists()
    checked(rendered, tmp_path)


def argv(rendered: str, folder: Path) -> list[str]:
    """What the script's python3 gets, byte for byte: it is run by a real bash, with a python3 that only tells."""
    for name in ("bin", "cwd"):
        (folder / name).mkdir()
    stub = folder / "bin" / "python3"
    stub.write_text(f'#!/bin/sh\nprintf "%s\\0" "$@" > "{folder}/argv"\n')
    stub.chmod(0o755)
    (folder / "job.sh").write_text(rendered, encoding="utf-8")
    environ = {"PATH": f"{folder}/bin:{os.defpath}", "HOME": "/nowhere"}
    subprocess.run(["bash", str(folder / "job.sh")], check=True, env=environ, cwd=folder / "cwd", timeout=60)
    return (folder / "argv").read_bytes().decode().split("\0")[:-1]


def checked(rendered: str, folder: Path) -> None:
    path = folder / "checked.sh"
    path.write_text(rendered, encoding="utf-8")
    assert subprocess.run(["bash", "-n", str(path)], capture_output=True, timeout=60).stderr == b""
    # SC2016 warns that nothing in single quotes is expanded: here that is the point.
    done = subprocess.run(
        [SHELLCHECK, "--norc", "--exclude=SC2016", str(path)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "")


@given(st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp"))))
def test_any_value(value: str) -> None:
    """Whatever one line of text an option has, sbatch reads just that."""
    line = script.directive("comment", value)
    assert split(f"#SBATCH {line}") == {"comment": value}


def test_surrogates() -> None:
    """A name with bytes that are no UTF-8 goes into a script and comes out as the same bytes."""
    text = render(plan(sbatch={"comment": "\udcff"}))
    assert b'--comment="\xff hpcrun:abc"\n' in text.encode("utf-8", "surrogateescape")


def test_prologue(tmp_path: Path) -> None:
    """The prologue runs first and may change what PATH finds."""
    made = plan(prologue=f"printf started > '{tmp_path}/began'\n")
    assert argv(render(made), tmp_path)[-2:] == ["shard", "0"]
    assert (tmp_path / "began").read_text() == "started"


def test_node_python(tmp_path: Path) -> None:
    """A node's python may be anywhere, also where the path needs quotes."""
    made = plan(config=settings(node_python="/opt/my python/bin/python3"))
    assert "exec '/opt/my python/bin/python3' -I -S " in render(made)


def test_site_template(tmp_path: Path) -> None:
    """A site's template replaces the package's, and errors in it are told with its path."""
    (tmp_path / "batch.sh").write_text("#!/bin/sh\n# {{ covers }}\nexec {{ launch }}\n")
    made = plan(shards=3)
    assert render(made, folder=str(tmp_path)).splitlines()[:2] == ["#!/bin/sh", "# shards 0 to 2 of 3"]
    (tmp_path / "batch.sh").write_text("#!/bin/sh\n{{ nope }}\n")
    with pytest.raises(TemplateError) as caught:
        render(made, folder=str(tmp_path))
    assert caught.value.file == str(tmp_path / "batch.sh")


def test_site_folder_without_a_template(tmp_path: Path) -> None:
    """A site's folder that has no such template leaves the package's in place."""
    assert render(plan(), folder=str(tmp_path)) == render(plan())


def test_exports(tmp_path: Path) -> None:
    """`eval "$(hpcrun env)"` sets what was meant, newlines and quotes too, and runs nothing."""
    environ = {"A": "it's $(touch x)\n`touch x`", "B": '"\\', "not a name": "x", "C": ""}
    text = script.exports(environ)
    done = subprocess.run(
        ["bash", "-c", 'eval "$1"; env -0', "bash", text],
        env={},
        cwd=tmp_path,
        capture_output=True,
        check=True,
        timeout=60,
    )
    seen = dict(entry.split("=", 1) for entry in done.stdout.decode().split("\0") if entry)
    assert {name: seen[name] for name in "ABC"} == {name: environ[name] for name in "ABC"}
    assert not (tmp_path / "x").exists()
    assert not re.search("not a name", text)
