"""The cluster of the tests: Slurm in containers, and the ordinary user on its login node."""

from __future__ import annotations

import json
import os
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any, Protocol

from waiting import until

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "docker-slurm"
_WORKER = os.environ.get("PYTEST_XDIST_WORKER")
NAME = os.environ.get("DOCKER_SLURM_NAME", "hpcrun-tests") + (f"-{_WORKER}" if _WORKER else "")
"""The cluster's name. Tests side by side (pytest -n) have a cluster each, for some kill its daemons or make it anew."""
MAX_ARRAY_SIZE = 101
WHEEL = os.environ.get("HPCRUN_TEST_WHEEL")  # read now: each test scrubs the environment
OPTIONS = os.environ.get("HPCRUN_TEST_CLUSTER", "").split()
"""More options of docker-slurm/up, to try the tests on another cluster: ``--slurm 22.05``."""
RELEASE = OPTIONS[OPTIONS.index("--slurm") + 1] if "--slurm" in OPTIONS else "24.11"
"""The Slurm of the tests' cluster."""
ACCOUNTING = "--without-slurmdbd" not in OPTIONS

Done = subprocess.CompletedProcess[str]

LEFT = """
programs=$(grep -lzsE "^HPCRUN_RUN_ID=$1$" /proc/[0-9]*/environ)
runtime=$(grep -lzsE "[/]runs/$1/" /proc/[0-9]*/cmdline)
for file in $programs $runtime; do
    [ ! -d "${file%/*}" ] || echo "${file%/*} $(tr '\\0' ' ' <"${file%/*}/cmdline")"
done
"""
"""Lists the processes of a run on a node: its programs by their environment, and the runtime by its command line."""


def up(*options: str) -> None:
    """Bring the tests' cluster up, with this checkout's wheel on its login node."""
    command = [str(SCRIPTS / "up"), "--max-array-size", str(MAX_ARRAY_SIZE), *OPTIONS, *options]
    done = subprocess.run(
        command + (["--wheel", WHEEL] if WHEEL else []), env={**os.environ, "DOCKER_SLURM_NAME": NAME}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"docker-slurm/up failed:\n{done.stdout}"


def down() -> None:
    """Remove the tests' cluster."""
    command = [str(SCRIPTS / "down"), "--volumes"]
    subprocess.run(command, env={**os.environ, "DOCKER_SLURM_NAME": NAME}, check=True, capture_output=True)


class Login(Protocol):
    """Runs a command on the login node (or another) as the ordinary user (or another)."""

    def __call__(
        self, *argv: str, input: str | None = None, node: str = "login", user: str = "user", timeout: float = 120
    ) -> Done: ...


def log_in(*argv: str, input: str | None = None, node: str = "login", user: str = "user", timeout: float = 120) -> Done:
    """Run a command on a machine of the cluster; a `Login`."""
    command = [str(SCRIPTS / "login"), "-n", node, "-u", user, *argv]
    return subprocess.run(
        command, env={**os.environ, "DOCKER_SLURM_NAME": NAME}, input=input or "", text=True, capture_output=True,
        timeout=timeout, check=False, errors="surrogateescape",
    )  # fmt: skip


def docker(*argv: str) -> str:
    """A command of docker, on the tests' own containers; what it printed."""
    return subprocess.run(["docker", *argv], check=True, capture_output=True, text=True).stdout


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
        prologue = 'cd "$1" || exit 125; export HPCRUN_HOME="$2"; shift 2; '
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

    def submit_spec(self, spec: dict[str, Any], *options: str) -> str:
        """Submit a run described by a spec; its id."""
        return self.submit(*options, self.write(f"{uuid.uuid4().hex[:8]}.yaml", json.dumps(spec)))

    def results(self, run_id: str, pattern: str) -> dict[str, Any]:
        """What the programs of a run have left: the JSON in each file of its results that matches, by file name."""
        listed = self.sh('cd "$HPCRUN_HOME/runs/$1/results" && grep -s "" $2', run_id, f"{pattern} /dev/null").stdout
        return {name: json.loads(text) for name, _, text in (line.partition(":") for line in listed.splitlines())}

    def end(self, run_id: str) -> None:
        """Tell the programs that wait for it to end."""
        self.ok("touch", f"{self.home}/runs/{run_id}/results/end")

    def restart(self, job: str, deadline: float = 120) -> None:
        """End the two minutes for which Slurm holds back a job that it has requeued, all components of it together."""
        asked = ("squeue", "--noheader", "--array", "--states=all", f"--jobs={job}", "--format=%T")
        until(lambda: set(self.ok(*asked).split()) == {"PENDING"}, deadline, f"{job} back in the queue")
        due = time.monotonic() + 2.0  # Slurm's credentials count whole seconds
        until(lambda: time.monotonic() > due)
        self.ok("scontrol", "update", f"jobid={job}", "StartTime=now")

    def left(self, run_id: str) -> str:
        """What is left of a run's processes on the nodes; empty where nothing is."""
        found = [
            f"{node}: {line}"
            for node in ("c1", "c2", "c3", "c4")
            for line in self.login("bash", "-c", LEFT, "bash", run_id, node=node).stdout.splitlines()
        ]
        return "\n".join(found)
