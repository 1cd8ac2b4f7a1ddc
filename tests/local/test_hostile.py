"""What arrives: every argument, variable and name byte for byte, and nothing invented."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from machine import Machine

from hpcrun import Run

NAMES = [
    "with space", "a'b\"c", "$(touch never) `touch never` ${HOME}", "-n", "--", "grüße-日本", "a\nb", "\\", "*;&|<>#!~",
    "%s%%", "{{ x }}",
]  # fmt: skip
OURS = ("HPCRUN_", "TYGER_", "SYLPHX_", "VELDA_", "SFLOW_", "SKYWARD_", "JOB_COMPLETION_INDEX", "COMPUTE_POOL")


def _log(run: Run) -> bytes:
    return Path(run.log_paths(0)[0]).read_bytes()


def test_arguments(machine: Machine) -> None:
    """Quotes, expansions, newlines, dashes, empty words and bytes that are no UTF-8 arrive as they are."""
    words = [*(os.fsencode(name) for name in NAMES), b"", b"\xff\xfe", b"$(HPCRUN_RUN_ID)", b" "]
    run = machine.run("--", "printf", "%s\\0", *words)
    assert _log(run).split(b"\0")[:-1] == words
    assert not (machine.cwd / "never").exists()


@pytest.mark.parametrize("name", NAMES)
def test_folders(machine: Machine, name: str) -> None:
    """A hostile HPCRUN_HOME, working directory and run name are used as they are; homes with newlines are refused."""
    machine.cwd = machine.cwd / name
    machine.cwd.mkdir()
    machine.home = machine.folder / f"home {name}"
    machine.environ["HPCRUN_HOME"] = str(machine.home)
    argv = ["--name", name, "--", "sh", "-c", 'printf "%s\n" "$PWD" "$HPCRUN_RUN_NAME" "$HPCRUN_RUN_DIR"']
    if "\n" in name:
        refused = machine.hpcrun("run", *argv)
        assert refused.returncode == 2
        assert b"control character" in refused.stderr
        return
    run = machine.run(*argv)
    assert _log(run).decode() == f"{machine.cwd}\n{name}\n{run.dir.path}\n"
    assert machine.json("status", "last", "--json")["name"] == name
    assert machine.hpcrun("list").returncode == 0


def test_a_name_with_a_newline(machine: Machine) -> None:
    """It stays the run's name and breaks no line of the tables."""
    run = machine.run("--name", "two\nlines", "true")
    assert run.plan.name == "two\nlines"
    assert len(machine.hpcrun("list").stdout.splitlines()) == 2


def test_file_names_that_are_no_text(machine: Machine) -> None:
    """A working directory and a program whose names are no UTF-8."""
    folder = os.fsencode(machine.cwd) + b"/d\xe9j\xe0"
    os.mkdir(folder)
    with open(folder + b"/pr\xf6g", "wb") as file:
        file.write(b"#!/bin/sh\npwd\n")
    os.chmod(folder + b"/pr\xf6g", 0o755)
    assert _log(machine.run("--chdir", folder, b"./pr\xf6g")) == folder + b"\n"


def _variables(block: bytes) -> dict[bytes, bytes]:
    found = dict(entry.split(b"=", 1) for entry in block.split(b"\0") if entry)
    return {name: value for name, value in found.items() if not os.fsdecode(name).startswith(OURS)}


@pytest.mark.parametrize("language", [None, "C", "C.UTF-8"])
def test_the_environment_arrives_complete(machine: Machine, language: str | None) -> None:
    """What `env -0` shows before and after differs by the run's own variables alone; no locale is invented."""
    machine.environ |= {
        "BASH_FUNC_greet%%": "() {  echo hello\n}", "EMPTY": "", "LINES_OF": "a\nb\n", "EQUALS": "a=b=c",
        "WITH-DASH": "1", "bytes": os.fsdecode(b"\xff\x80"), "quotes": "'\"`$(x)", "PYTHONPATH": "/nowhere",
        "TMPDIR": str(machine.folder),
    }  # fmt: skip
    machine.environ.pop("LANG")
    if language:
        machine.environ["LANG"] = language
    before = subprocess.run(["env", "-0"], env=machine.environ, capture_output=True, check=True).stdout
    after = _variables(_log(machine.run("env", "-0")))
    assert after == _variables(before)


def test_values_of_variables(machine: Machine) -> None:
    """`--env` takes any bytes, as NAME=VALUE and as the name of one that is set."""
    machine.environ["TAKEN"] = os.fsdecode(b"\xfe x")
    run = machine.run(
        "--env",
        b"HERE=\xff '$(x)'\n",
        "--env",
        "TAKEN",
        "--export",
        "NONE",
        "--",
        "sh",
        "-c",
        'printf "%s|%s" "$HERE" "$TAKEN"',
    )
    assert _log(run) == b"\xff '$(x)'\n|\xfe x"


def test_functions_of_the_submitting_shell(machine: Machine) -> None:
    """An exported bash function can be called by the program."""
    machine.environ["BASH_FUNC_greet%%"] = '() {  echo "hello $1"\n}'
    assert machine.run("bash", "-c", "greet you").logs() == "hello you\n"
