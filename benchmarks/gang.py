"""From submission to the start of a job with workers on Slurm: hpcrun beside a hand-written heterogeneous job.

Runs on a login node as an ordinary user, in a folder that the nodes see: python gang.py [WORKERS] [ROUNDS] [SECONDS].
Each worker listens SECONDS after its start and says when; the job's first act is to say when it is. The hand-written
script starts its workers in the background and tries each port in a shell loop, ten times a second, as people do.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pairs import interleaved, table

WORKERS = int(sys.argv[1]) if len(sys.argv) > 1 else 6
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 10
SECONDS = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
DEADLINE = 120
NODES = 3

WORKER = """
import os, pathlib, socket, sys, time
time.sleep(float(sys.argv[3]))
server = socket.create_server(("0.0.0.0", int(sys.argv[2])))
pathlib.Path(sys.argv[1], "listens." + os.environ["SLURM_PROCID"]).write_text(str(time.time()))
while True:
    server.accept()[0].close()
"""
JOB = 'date +%s.%N >"$1/job.new" && mv "$1/job.new" "$1/job"'
BY_HAND = """#!/bin/bash
#SBATCH --output={folder}/out
#SBATCH --ntasks=1
#SBATCH hetjob
#SBATCH --nodes={nodes} --ntasks={workers} --ntasks-per-node={each}
srun --het-group=1 --nodes={nodes} --ntasks={workers} bash -c \\
    'exec python3 {folder}/worker.py {folder} $((20000 + {offset} + SLURM_PROCID)) {seconds}' &
rank=0
for host in $(scontrol show hostnames "$SLURM_JOB_NODELIST_HET_GROUP_1"); do
    for _ in $(seq {each}); do
        until (exec 3<>"/dev/tcp/$host/$((20000 + {offset} + rank))") 2>/dev/null; do sleep 0.1; done
        rank=$((rank + 1))
    done
done
bash -c '{job}' bash {folder}
kill %1
wait
"""

offset = 0


def drained() -> None:
    while subprocess.run(["squeue", "--noheader", "--me"], capture_output=True, text=True, check=True).stdout:
        time.sleep(0.1)


def measured(name: str, submit: Callable[[Path], list[str]]) -> Callable[[], float]:
    def measure() -> float:
        drained()
        folder = Path(tempfile.mkdtemp(dir=Path.cwd()))
        (folder / "worker.py").write_text(WORKER)
        command = submit(folder)
        began = time.time()
        subprocess.run(command, check=True, capture_output=True)
        while not (folder / "job").exists():
            if time.time() > began + DEADLINE:
                raise SystemExit(f"{name}: no job after {DEADLINE} s in {folder}")
            time.sleep(0.02)
        job = float((folder / "job").read_text())
        last = max(float(path.read_text()) for path in folder.glob("listens.*"))
        gaps.setdefault(name, []).append((job - last) * 1000)
        return job - began

    return measure


gaps: dict[str, list[float]] = {}


def by_hand(folder: Path) -> list[str]:
    global offset
    offset = (offset + WORKERS) % 5000
    text = BY_HAND.format(
        folder=folder, workers=WORKERS, nodes=NODES, each=WORKERS // NODES, offset=offset, seconds=SECONDS,
        job=JOB,
    )  # fmt: skip
    (folder / "script.sh").write_text(text)
    return ["sbatch", str(folder / "script.sh")]


def hpcrun(folder: Path) -> list[str]:
    worker = ["python3", str(folder / "worker.py"), str(folder), "$(HPCRUN_PORT_P)", str(SECONDS)]
    spec = {
        "command": ["bash", "-c", JOB, "bash", str(folder)],
        "worker": {"command": worker, "replicas": WORKERS, "endpoints": {"p": "auto"}},
    }
    (folder / "spec.yaml").write_text(json.dumps(spec))
    return ["hpcrun", "submit", str(folder / "spec.yaml")]


def main() -> None:
    contenders = {
        "hand-written script": measured("hand-written script", by_hand),
        "hpcrun": measured("hpcrun", hpcrun),
    }
    print(f"{WORKERS} workers on {NODES} nodes, each listens {SECONDS:g} s after its start; {ROUNDS} rounds\n")
    found = interleaved(contenders, ROUNDS)
    print("From the call that submits to the job's start:\n")
    print(table(found, "hand-written script"))
    print("\nFrom the last worker's listening to the job's start:\n")
    print(table({name: values[1:] for name, values in gaps.items()}, "hand-written script", "ms"))


main()
