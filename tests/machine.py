"""The local cluster as a user meets it: the real command line, real processes, one fresh folder for each test."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from waiting import until

from hpcrun import Run
from hpcrun.run import all_paths, find

Done = subprocess.CompletedProcess[bytes]
HPCRUN = os.path.join(os.path.dirname(sys.executable), "hpcrun")
GRACE = "0.4s"
_SETTINGS = {"grace": GRACE}
if "HPCRUN_TEST_NODE_PYTHON" in os.environ:  # read now: each test scrubs the environment
    _SETTINGS["node_python"] = os.environ["HPCRUN_TEST_NODE_PYTHON"]


class Machine:
    """This machine, with `home` for run folders, `cwd` to submit from and `environ` to submit with."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cwd, self.home = folder, folder / "work", folder / "runs-home"
        self.cwd.mkdir(parents=True)
        self.environ: dict[str, str] = {
            "PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", "HPCRUN_HOME": str(self.home),
            "HPCRUN_CLUSTER": "local",
        }  # fmt: skip
        self.configure()

    def configure(self, **more: str) -> None:
        """Write hpcrun.toml: a short grace, so that what is killed is killed soon, and `more`.

        With HPCRUN_TEST_NODE_PYTHON the node side runs on that Python.
        """
        settings = {**_SETTINGS, **more}
        text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())
        (self.cwd / "hpcrun.toml").write_text(text)

    def write(self, name: str, text: str) -> str:
        path = self.cwd / name
        path.write_text(text)
        return str(path)

    def start(
        self, *argv: str | bytes, environ: Mapping[str, str] | None = None, **how: Any
    ) -> subprocess.Popen[bytes]:
        given = {
            "stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": self.cwd,
            "env": self.environ if environ is None else environ, **how,
        }  # fmt: skip
        return subprocess.Popen(argv, **given)

    def command(self, *argv: str | bytes, deadline: float = 60, **how: Any) -> Done:
        """Any command, to its end."""
        with self.start(*argv, **how) as process:
            try:
                out, err = process.communicate(timeout=deadline)
            except BaseException:
                process.kill()
                raise
        assert b"Traceback" not in err, err.decode(errors="replace")
        return Done(process.args, process.returncode, out, err)

    def hpcrun(self, *argv: str | bytes, **how: Any) -> Done:
        """``hpcrun`` with these arguments, to its end."""
        return self.command(HPCRUN, *argv, **how)

    def submit(self, *argv: str | bytes, **how: Any) -> Run:
        done = self.hpcrun("submit", *argv, **how)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return self.open(done.stdout.decode().strip())

    def run(self, *argv: str | bytes, code: int = 0, **how: Any) -> Run:
        """`hpcrun run` to its end, which must be `code`."""
        done = self.hpcrun("run", *argv, **how)
        assert done.returncode == code, done.stderr.decode(errors="replace")
        return self.open("last")

    def open(self, run_id: str) -> Run:
        return Run(find(run_id, str(self.home)))

    def newest(self) -> Run | None:
        """The one run there is, as soon as it has been submitted."""
        paths = all_paths(str(self.home))
        return Run(paths[-1]) if paths and os.path.exists(os.path.join(paths[-1], "local", "lock")) else None

    def processes(self) -> list[int]:
        """Every process whose command line or environment names a run of this machine."""
        return _of_runs(self.home)

    def json(self, *argv: str, code: int = 0) -> Any:
        done = self.hpcrun(*argv)
        assert done.returncode == code, done.stderr.decode(errors="replace")
        return json.loads(done.stdout)


def text_of(run: Run, name: str) -> str:
    """What a program left in its results folder under `name`; nothing as long as there is no whole line."""
    path = Path(run.dir.results, name)
    text = path.read_text() if path.exists() else ""
    return text if text.endswith("\n") else ""


def states(run: Run) -> dict[str, str]:
    """The state of each task of a workflow."""
    return {task.name: task.state for task in run.status().tasks}


def number_in(run: Run, name: str) -> int:
    """The process id that a program left under `name`, as soon as it is there."""
    return int(until(lambda: text_of(run, name), what=f"{name} in the results").split()[0])


def alive(process: int) -> bool:
    """Whether a process runs; one that waits to be reaped does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in (b"Z", b"X")


def gone(*processes: int) -> None:
    """Wait until none of these runs."""
    until(lambda: not [process for process in processes if alive(process)], what=f"the end of {processes}")


def ended(run: Run) -> Any:
    """The status of `run` once it has ended."""
    return until(lambda: status if (status := run.status()).done else None, what="the end of the run")


def _of_runs(home: Path) -> list[int]:
    """Every process whose command line or environment names a run below `home`."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            said = Path(f"/proc/{name}/cmdline").read_bytes() + Path(f"/proc/{name}/environ").read_bytes()
        except OSError:
            continue
        if os.fsencode(home / "runs") in said and int(name) != os.getpid():
            found.append(int(name))
    return found


def end_all(machine: Machine) -> None:
    """Kill whatever still runs for `machine` and remove its run folders."""
    for process in _of_runs(machine.home):
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            pass
    shutil.rmtree(machine.home, ignore_errors=True)
