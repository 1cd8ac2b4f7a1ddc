"""What runs and those who follow them ask of Slurm, hpcrun beside submitit: calls of its commands, and RPCs by sdiag.

Runs on the login node of a cluster that nobody else uses, in an environment with hpcrun and submitit that the nodes
see too: python load.py [SECONDS], for each of which runs are followed. The RPCs are those of this user, on all nodes:
what jobs ask from inside is among them.
"""

from __future__ import annotations

import collections
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

SECONDS = float(sys.argv[1]) if sys.argv[1:] and sys.argv[1][:2] != "--" else 120.0
CALLS = 100
SHARDS = 3
COMMANDS = ("squeue", "sacct", "scontrol", "sbatch", "scancel")
WRAPPER = '#!/bin/sh\necho {name} >> {log}\nexec {real} "$@"\n'

Counts = collections.Counter[str]


class Counting:
    """Commands of Slurm that note each call of theirs; put before the real ones in PATH."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "calls"
        self._log.touch()
        for name in COMMANDS:
            path = folder / name
            path.write_text(WRAPPER.format(name=name, log=self._log, real=shutil.which(name)))
            path.chmod(0o755)
        os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"

    def counts(self) -> Counts:
        """Calls of each command, and the RPCs of this user, so far."""
        said = subprocess.run(["sdiag"], capture_output=True, text=True, check=True).stdout
        mine = re.search(rf"\(\s*{os.getuid()}\) count:(\d+)", said)
        self._own = getattr(self, "_own", 0) + 1
        found = Counts(self._log.read_text().split())
        found["RPCs"] = int(mine[1]) - self._own if mine else 0
        return found


def within(counting: Counting, action: Callable[[], None]) -> Counts:
    """What was asked while `action` lasted."""
    before = counting.counts()
    action()
    after = counting.counts()
    return Counts({name: after[name] - before[name] for name in ("RPCs", *COMMANDS)})


def work(item: int) -> int:
    return item * item


def checked(found: list[int]) -> None:
    if found != [item * item for item in range(CALLS)]:
        raise SystemExit(f"wrong results: {found}")


def map_by_hpcrun() -> None:
    import hpcrun

    checked(list(hpcrun.map(work, range(CALLS))))


def map_by_submitit() -> None:
    checked([job.result() for job in in_submitit().map_array(work, range(CALLS))])


def in_submitit() -> object:
    import submitit

    executor = submitit.AutoExecutor(tempfile.mkdtemp(dir=Path.home()), cluster="slurm")
    executor.update_parameters(slurm_array_parallelism=CALLS, timeout_min=10)
    return executor


def followed_by_submitit(folder: str) -> None:
    """One process that has submitted, and waits for its results once `folder` has a file `go`."""
    jobs = in_submitit().map_array(time.sleep, [600.0] * SHARDS)
    Path(folder, f"ready.{os.getpid()}").touch()
    while not Path(folder, "go").exists():
        time.sleep(0.1)
    for job in jobs:
        job.result()


@contextlib.contextmanager
def submitit_runs(count: int) -> Iterator[Callable[[], None]]:
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, __file__, "--follow-submitit", folder]
        everybody = [subprocess.Popen(words, stderr=subprocess.DEVNULL) for _ in range(count)]
        while len(list(Path(folder).glob("ready.*"))) < count:
            time.sleep(0.2)
        all_start()

        def follow() -> None:
            Path(folder, "go").touch()
            time.sleep(SECONDS)

        yield follow
        end(everybody)


@contextlib.contextmanager
def hpcrun_runs(count: int, follow: bool = True) -> Iterator[Callable[[], None]]:
    import hpcrun

    runs = [hpcrun.submit(["sleep", "600"], shards=SHARDS) for _ in range(count)]
    all_start()
    everybody: list[subprocess.Popen[bytes]] = []

    def wait() -> None:
        words = [sys.executable, "-m", "hpcrun", "wait", "--quiet"]
        everybody.extend(subprocess.Popen([*words, run.id]) for run in runs)
        time.sleep(SECONDS)

    yield wait if follow else listed
    end(everybody)


def listed() -> None:
    subprocess.run([sys.executable, "-m", "hpcrun", "list"], check=True, stdout=subprocess.DEVNULL)


def all_start() -> None:
    """Wait until nothing of this user's waits, and then until nobody can have an answer left from that."""
    while subprocess.run(["squeue", "--noheader", "--me", "--states=PD"], capture_output=True, check=True).stdout:
        time.sleep(0.5)
    time.sleep(5.0)


def end(processes: list[subprocess.Popen[bytes]]) -> None:
    for one in processes:
        one.kill()
        one.wait()
    subprocess.run(["scancel", "--me"], check=True)
    while subprocess.run(["squeue", "--noheader", "--me"], capture_output=True, check=True).stdout:
        time.sleep(0.5)


def rows(counting: Counting) -> Iterator[tuple[str, str, Counts]]:
    what = f"map of {CALLS} functions"
    yield what, "submitit", within(counting, map_by_submitit)
    yield what, "hpcrun", within(counting, map_by_hpcrun)
    for count in (1, 10):
        what = f"{count} followed by {count} {'process' if count == 1 else 'processes'} for {SECONDS:g} s"
        for name, runs in ("submitit", submitit_runs), ("hpcrun", hpcrun_runs):
            with runs(count) as follow:
                yield what, name, within(counting, follow)
    with hpcrun_runs(10, follow=False) as action:
        yield "list of 20 runs, 10 of them running", "hpcrun", within(counting, action)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        counting = Counting(Path(folder))
        names = ("RPCs", *COMMANDS)
        print(f"| work | by | {' | '.join(names)} |\n|---|---|{'---|' * len(names)}")
        for what, name, counts in rows(counting):
            print(f"| {what} | {name} | {' | '.join(str(counts[each]) for each in names)} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--follow-submitit"]:
        followed_by_submitit(sys.argv[2])
    else:
        main()
