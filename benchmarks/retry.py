"""From a shard's failure to its next attempt's start, with somebody following; beside a job that requeues itself.

Runs on a login node as an ordinary user: python retry.py [RETRIES] [AT_ONCE]. RETRIES are measured with one shard that
fails at a time, and as many with AT_ONCE of them. Meanwhile a plain job asks Slurm once to requeue it, and waits as
long as Slurm makes it wait.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from onslurm import folder

RETRIES = int(sys.argv[1]) if len(sys.argv) > 1 else 200
AT_ONCE = int(sys.argv[2]) if len(sys.argv) > 2 else 8
MOST = 50
"""Retries that a shard may have."""
PROGRAM = "sleep $((RANDOM % 3)).$((RANDOM % 10)); exit 1"
DEADLINE = 240
BY_HAND = """#!/bin/bash
#SBATCH --requeue --output=/dev/null --open-mode=append
date +%s.%N >>{times}
[[ -n $SLURM_RESTART_COUNT ]] || {{ scontrol requeue $SLURM_JOB_ID; sleep 60; }}
"""


def submitted(shards: int, retries: int) -> str:
    command = ["hpcrun", "submit", "-N", str(shards), "--retries", str(retries), "--", "bash", "-c", PROGRAM]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def events(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def attempts(run_id: str, shard: int) -> list[list[dict[str, object]]]:
    """The records of a shard's attempts, in order; of one that never began, what somebody else said of its end."""
    home = Path(os.environ.get("HPCRUN_HOME", Path.home() / ".hpcrun"), "runs", run_id, "records")
    found = []
    while True:
        folder = home / str(len(found)) / f"{shard // 500:03d}"
        said = [events(path) for path in (folder / f"{shard}.jsonl", folder / f"{shard}.silent") if path.exists()]
        if not said:
            return found
        found.append([event for lines in said for event in lines])


def measure(shards: int, retries: int) -> tuple[list[float], Counter[str]]:
    """The seconds from each end to the next start, and why attempts ended, in a run that is followed."""
    run_id = submitted(shards, retries)
    subprocess.run(["hpcrun", "wait", "-q", run_id], check=False)
    waits, causes = [], Counter()
    for shard in range(shards):
        before = None
        for said in attempts(run_id, shard):
            began = next((event["at"] for event in said if event["event"] == "start"), None)
            if before is not None and began is not None:
                waits.append(began - before)
            ended = next(event for event in said if event["event"] == "end")
            before = ended["at"]
            causes[str(ended["cause"])] += 1
    return waits, causes


def requeued_by_itself() -> Path:
    """The file to which a plain job adds when it asks for its requeue, and when it starts again."""
    here = folder()
    (here / "script.sh").write_text(BY_HAND.format(times=here / "times"))
    subprocess.run(["sbatch", here / "script.sh"], check=True, capture_output=True)
    return here / "times"


def waited(times: Path) -> float:
    """Seconds between the two, once both are there."""
    until = time.monotonic() + DEADLINE
    while len(found := times.read_text().split() if times.exists() else []) < 2:
        if time.monotonic() > until:
            raise SystemExit(f"a job that requeued itself has not started again after {DEADLINE} s")
        time.sleep(0.5)
    return float(found[1]) - float(found[0])


def row(name: str, waits: list[float], causes: Counter[str], raw: float) -> str:
    ordered = sorted(waits)
    late = ordered[int(len(ordered) * 0.95)]
    over = sum(wait > 4 for wait in waits)
    spread = f"{statistics.median(waits):.2f} s | {ordered[0]:.2f} … {ordered[-1]:.2f} s | {late:.2f} s | {over}"
    ratio = statistics.median(waits) / raw
    return f"| {name} | {len(waits)} | {spread} | {causes['launch_failed']} | {ratio:.2f} |"


def main() -> None:
    times = requeued_by_itself()
    found = []
    for shards in (1, AT_ONCE):
        waits: list[float] = []
        causes: Counter[str] = Counter()
        while len(waits) < RETRIES:
            left = -(-(RETRIES - len(waits)) // shards)
            some, why = measure(shards, min(left, MOST))
            waits += some
            causes += why
        found.append(("hpcrun, one at a time" if shards == 1 else f"hpcrun, {shards} at once", waits, causes))
    raw = waited(times)
    print("| failing shards | retries | median | min … max | 95th of 100 | over 4 s | launch_failed | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    print(row("a plain job that requeues itself", [raw], Counter(), raw))
    for name, waits, causes in found:
        print(row(name, waits, causes, raw))


main()
