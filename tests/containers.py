"""The cluster of the tests: Slurm in containers, and the ordinary user on its login node."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "docker-slurm"
NAME = os.environ.get("DOCKER_SLURM_NAME", "hpcrun-tests")
MAX_ARRAY_SIZE = 101
WHEEL = os.environ.get("HPCRUN_TEST_WHEEL")  # read now: each test scrubs the environment

Done = subprocess.CompletedProcess[str]


def up(*options: str) -> None:
    """Bring the tests' cluster up, with this checkout's wheel on its login node."""
    command = [str(SCRIPTS / "up"), "--max-array-size", str(MAX_ARRAY_SIZE), *options]
    done = subprocess.run(
        command + (["--wheel", WHEEL] if WHEEL else []), env={**os.environ, "DOCKER_SLURM_NAME": NAME}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"docker-slurm/up failed:\n{done.stdout}"


class Login(Protocol):
    """Runs a command on the login node (or another) as the ordinary user (or another)."""

    def __call__(
        self, *argv: str, input: str | None = None, node: str = "login", user: str = "user", timeout: float = 120
    ) -> Done: ...


def docker(*argv: str) -> None:
    """A command of docker, on the tests' own containers."""
    subprocess.run(["docker", *argv], check=True, capture_output=True)


def container(node: str) -> str:
    """The name of a node's container."""
    return f"{NAME}-{node}"


class User:
    """The ordinary user with a folder and a run home of their own on the cluster."""

    def __init__(self, login: Login, folder: str) -> None:
        self.login, self.folder, self.home = login, folder, f"{folder}/home"
        self.ok("mkdir", "-p", folder)

    def sh(self, script: str, *args: str, timeout: float = 120, **options: Any) -> Done:
        """Run shell code in the user's folder."""
        prologue = 'cd "$1" && export HPCRUN_HOME="$2" && shift 2 && '
        argv = ["bash", "-c", prologue + script, "bash", self.folder, self.home, *args]
        return self.login(*argv, timeout=timeout, **options)

    def ok(self, *argv: str, **options: Any) -> str:
        """Run a command that must succeed; what it printed."""
        done = self.login(*argv, **options)
        assert done.returncode == 0, f"{argv} exited {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def hpcrun(self, *args: str, timeout: float = 240) -> Done:
        """Run hpcrun as from the user's folder."""
        return self.sh('exec hpcrun "$@"', *args, timeout=timeout)

    def submit(self, *args: str) -> str:
        """Submit a run; its id."""
        done = self.hpcrun("submit", *args)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def status(self, run_id: str) -> dict[str, Any]:
        """The status of a run, as JSON."""
        done = self.hpcrun("status", "--json", run_id)
        assert done.stdout, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def write(self, name: str, text: str) -> str:
        """A file in the user's folder; its path."""
        path = f"{self.folder}/{name}"
        done = self.login("bash", "-c", 'mkdir -p "$(dirname "$1")" && cat > "$1"', "bash", path, input=text)
        assert done.returncode == 0, done.stderr
        return path

    def read(self, path: str) -> str:
        """What a file on the cluster holds."""
        return self.ok("cat", path)
