"""How long `hpcrun status` takes for 1,000, 10,000 and 100,000 shards, beside squeue and sacct themselves.

Runs on a login node: python status.py [ROUNDS] [REAL] [WRITTEN ...]. A run of REAL shards that call `true` is really
run; its status is asked as it is, when the records tell everything, and with one record that has no end, or is not
there at all, when the queue and accounting have to be asked too. What hpcrun calls is counted by wrappers of squeue and
sacct in PATH. For the other sizes a run is submitted and cancelled, and its records are written as the shards would
have written them.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from onslurm import drained, emptied, folder, holds, submitted, timed
from pairs import Found, interleaved, median, table

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 5
REAL = int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
WRITTEN = [int(word) for word in sys.argv[3:]] or [1_000, 10_000, 100_000]
RECORD = (
    '{{"format":1,"event":"start","at":{at},"shard":{shard},"attempt":0,"node":"c1","job":"{job}","task":{shard},'
    '"round":0,"restarts":0,"said":0}}\n'
    '{{"format":1,"event":"end","at":{at},"exit_code":0,"signal":0,"cause":null,"again":false}}\n'
)
COUNTING = """#!/bin/sh
echo {name} >>{calls}
exec {path} "$@"
"""


def counting() -> Path:
    """A file to which the wrappers of Slurm's commands, which are now the first in PATH, add a line a call."""
    here = folder()
    calls = here / "calls"
    for name in ("squeue", "sacct", "scontrol", "sinfo", "sacctmgr", "sdiag"):
        path = timed("which", name)[1]
        wrapper = here / name
        wrapper.write_text(COUNTING.format(name=name, calls=calls, path=path))
        wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR)
    os.environ["PATH"] = f"{here}:{os.environ['PATH']}"
    return calls


def timed_of(*command: str) -> Callable[[], float]:
    """How many seconds a command takes, each time it is called; how it ends is its own business."""

    def measure() -> float:
        began = time.perf_counter()
        subprocess.run(command, check=False, capture_output=True)
        return time.perf_counter() - began

    return measure


@contextlib.contextmanager
def incomplete(run: Path, *, started: bool) -> Iterator[None]:
    """Have the record of its first shard end after its start, or away, for a while: so Slurm has to be asked of it."""
    record = run / "records" / "0" / "000" / "0.jsonl"
    aside = record.with_suffix(".aside")
    record.rename(aside)
    if started:
        record.write_text(aside.read_text().splitlines(keepends=True)[0])
    yield
    aside.rename(record)


def really_run() -> Path:
    """A run of REAL shards that has ended."""
    _, run = submitted(REAL)
    drained()
    files, folders, size = holds(run)
    runtime = (run / "node.pyz").stat().st_size  # the same for every run
    print(f"{REAL:,} shards that call `true` were run. They left {files:,} files in {folders:,} folders: ", end="")
    print(f"{files / REAL:.2f} files and {(size - runtime) / REAL:.0f} bytes a shard.\n")
    return run


def written(shards: int) -> Path:
    """A run of so many shards, cancelled before it began, with records as its shards would have left them."""
    _, run = submitted(shards, "--begin=now+1hour")
    emptied()
    (run / "claims" / "0").write_text("1")
    now = time.time()
    for shard in range(shards):
        path = run / "records" / "0" / f"{shard // 500:03d}" / f"{shard}.jsonl"
        path.write_text(RECORD.format(at=now, shard=shard, job=1))
    return run


def calls_of(calls: Path, run: Path) -> str:
    """Which of Slurm's commands one status of a run calls."""
    calls.write_text("")
    timed_of("hpcrun", "status", run.name)()
    return ", ".join(calls.read_text().split()) or "none"


def compared(run: Path) -> Found:
    """The status of a run, and Slurm's commands by themselves."""
    job = json.loads(timed("hpcrun", "status", "--json", run.name)[1])["jobs"][0]
    queue = timed_of("squeue", "--noheader", "--me", "--states=all", "--format=%i|%T|%N|%r|%k|%o")
    form = "--format=JobID,State,ExitCode,NodeList"
    sacct = timed_of("sacct", "--noheader", "--parsable2", "--allocations", "--array", f"--jobs={job}", form)
    contenders = {
        "squeue and sacct": lambda: queue() + sacct(),
        "hpcrun status": timed_of("hpcrun", "status", run.name),
    }
    return interleaved(contenders, ROUNDS)


def main() -> None:
    calls = counting()
    run = really_run()
    whole, of_whole = compared(run), calls_of(calls, run)
    found_of = {}
    for started, what in ((True, "One record has no end, as of a shard whose node died"), (False, "One is taken away")):
        with incomplete(run, started=started):
            found_of[what] = compared(run), calls_of(calls, run)
    print(f"Status of these {REAL:,} shards, all of whose records are there (calls of Slurm: {of_whole}):\n")
    print(table(whole, "squeue and sacct"))
    for what, (parts, of_parts) in found_of.items():
        print(f"\n{what}, so that Slurm has to be asked about that shard (calls of Slurm: {of_parts}):\n")
        print(table(parts, "squeue and sacct"), flush=True)
    contenders: dict[str, Callable[[], float]] = {"hpcrun --version": timed_of("hpcrun", "--version")}
    contenders |= {f"status of {shards:,}": timed_of("hpcrun", "status", written(shards).name) for shards in WRITTEN}
    found = interleaved(contenders, ROUNDS)
    print("\nEnded runs whose records were written by this script, not by shards (calls of Slurm: none):\n")
    print(table(found, "hpcrun --version"))
    start = median(found["hpcrun --version"])
    each = [f"{(median(found[f'status of {one:,}']) - start) / one * 1e6:.0f} µs of {one:,}" for one in WRITTEN]
    print(f"\nBeyond the start of the command a shard costs {', '.join(each)}.")


main()
