#!/usr/bin/env python3
"""The chaos run: hundreds of shards while nodes, daemons, programs and followers are killed; then all is counted.

    tests/faults/chaos.py                     500 shards, seed 20, some ten minutes
    tests/faults/chaos.py --seed 7            another plan of faults; the same seed is the same plan
    tests/faults/chaos.py --plan              only print the plan

Each program writes one line for its execution and leaves one committed result. Nobody follows for the first half; then
somebody does, is killed, and somebody else does. At the end each shard's effect must be there exactly once, or
accounted for with its cause; no attempt may have run twice; and nothing may be left of the run anywhere. The table says
what was done and seen; the exit code is 0 where all of it held.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import random
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from containers import User, container, docker, down, log_in, up
from waiting import until

NODES = ("c1", "c2", "c3", "c4")
AT_ONCE = 2
"""Nodes that may be away at the same time."""
QUIET = 20.0
"""Seconds before the first fault: the run is under way by then."""
OFTEN = (2.0, 9.0)
"""Seconds from one fault to the next."""

PROGRAM = """
import json, os, sys, time
env = os.environ
shard, attempt = int(env["HPCRUN_SHARD_INDEX"]), int(env["HPCRUN_ATTEMPT"])
line = json.dumps({"shard": shard, "attempt": attempt, "node": env["SLURMD_NODENAME"], "process": os.getpid()})
own = f"{sys.argv[1]}/{shard}.{attempt}"
descriptor = os.open(own, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
os.write(descriptor, (line + chr(10)).encode())
os.close(descriptor)
time.sleep(8 + shard * 7 % 17)
if shard % 10 == 3 and attempt == 0:
    sys.exit(3)
with open(os.path.join(env["HPCRUN_RESULTS_DIR"], "effect"), "a") as file:
    file.write(line + chr(10))
"""

RESUME = """
for node in $(timeout 20 sinfo --noheader --states=drain --partition=main --format=%n); do
    timeout 20 scontrol update nodename=$node state=resume
done
"""
"""Slurm itself drains nodes that it does not understand any more: "Duplicate jobid", "Kill task failed"."""

BY_ENVIRONMENT = (
    """for file in $(grep -lzsE "^HPCRUN_RUN_ID=$1$" /proc/[0-9]*/environ | sort); do echo "${file//[^0-9]/}"; done"""
)
BY_COMMAND = """for file in $(grep -lzsE "[/]runs/$1/" /proc/[0-9]*/cmdline | sort); do echo "${file//[^0-9]/}"; done"""
STRIKE = """
pids=({processes})
[ ${{#pids[@]}} -gt 0 ] || {{ echo nobody; exit; }}
kill -9 "${{pids[$(($2 % ${{#pids[@]}}))]}}" && echo killed
"""


@dataclasses.dataclass(frozen=True)
class Fault:
    """One thing to be done: when (seconds from the start of the run), what, to whom, and for how long."""

    at: float
    what: str
    whom: str = ""
    lasts: float = 0.0
    dice: int = 0


KINDS = {
    "a node is killed": 5, "a node is frozen": 5, "a node is frozen for long": 3, "a node crashes": 4,
    "slurmctld crashes": 3, "slurmctld is frozen": 2, "slurmdbd crashes": 2,
    "a program is killed": 12, "a process of the runtime is killed": 12, "an administrator requeues": 3,
}  # fmt: skip
"""What may happen, and how often compared with the others."""

LASTS = {
    "a node is killed": (5, 30), "a node is frozen": (3, 12), "a node is frozen for long": (70, 90),
    "slurmctld is frozen": (5, 15),
}  # fmt: skip


def planned(seed: int, seconds: float) -> list[Fault]:
    """What will be done within so many seconds. The same for the same arguments."""
    dice, found = random.Random(seed), []
    away: dict[str, float] = {}
    at = QUIET
    while at < seconds:
        what = dice.choices(list(KINDS), list(KINDS.values()))[0]
        lasts = round(dice.uniform(*LASTS[what]), 1) if what in LASTS else 0.0
        there = [node for node in NODES if away.get(node, 0.0) < at]
        whom = dice.choice(there)
        if what.startswith("a node is") and len(NODES) - len(there) >= AT_ONCE:
            continue
        if what.startswith("slurmctld") and away.get("slurmctld", 0.0) >= at:
            continue
        if what.startswith("slurm"):
            whom = what.split()[0]
        # A while for coming back: what has just started is not hit again.
        if what in LASTS or what == "a node crashes" or what.startswith("slurm"):
            away[whom] = at + lasts + 10.0
        found.append(Fault(round(at, 1), what, whom, lasts, dice.randrange(1000)))
        at += dice.uniform(*OFTEN)
    return sorted([*found, *followed(dice, seconds)], key=lambda fault: fault.at)


def followed(dice: random.Random, seconds: float) -> Iterator[Fault]:
    """Nobody follows for the first half; then somebody does until they are killed, and somebody else does."""
    at = seconds / 2
    while at < seconds:
        yield Fault(round(at, 1), "a follower starts")
        at += dice.uniform(15, 40)
        yield Fault(round(at, 1), "a follower is killed")
        at += dice.uniform(3, 10)


class Chaos:
    """One run under a plan of faults."""

    def __init__(self, user: User, run_id: str, faults: Sequence[Fault]) -> None:
        self.user, self.run_id, self.faults = user, run_id, faults
        self.began = time.monotonic()
        self.done: collections.Counter[str] = collections.Counter()
        self.in_vain: collections.Counter[str] = collections.Counter()
        self.followers: list[str] = []
        self.over = threading.Event()
        self._back: list[tuple[float, str, Callable[[], object]]] = []

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self.began:6.1f}  {text}", flush=True)

    def carry_out(self) -> None:
        """Do everything that is planned, when it is due, and undo what has lasted long enough."""
        for fault in self.faults:
            self._undo_until(self.began + fault.at)
            if self.over.is_set():
                break
            hit = self._do(fault)
            (self.done if hit else self.in_vain)[fault.what] += 1
            lasts = f" for {fault.lasts:g} s" if fault.lasts else ""
            self.say(f"{fault.what}: {fault.whom}{lasts}" + ("" if hit else " (nothing there)"))
        self._undo_until(float("inf"))

    def _undo_until(self, end: float) -> None:
        while self._back and min(self._back)[0] <= end:
            due, whom, undo = min(self._back, key=lambda entry: entry[:2])
            self._wait(due)
            self._back.remove((due, whom, undo))
            undo()
            self.say(f"  {whom} is back")
        if end != float("inf"):
            self._wait(end)

    def _wait(self, due: float) -> None:
        while time.monotonic() < due and not self.over.wait(min(0.2, max(0.0, due - time.monotonic()))):
            pass

    def _do(self, fault: Fault) -> bool:
        name = container(fault.whom)
        if fault.what == "a node is killed":
            docker("kill", name)
            self._later(fault, lambda: docker("start", name))
        elif fault.what.startswith(("a node is frozen", "slurmctld is frozen")):
            docker("pause", name)
            self._later(fault, lambda: docker("unpause", name))
        elif fault.what == "a node crashes":
            return log_in("bash", "-c", "kill -9 -1", node=fault.whom, user="root").returncode != 125
        elif fault.what.startswith("slurm"):
            return log_in("pkill", "-9", "-x", fault.whom, node=fault.whom, user="root").returncode == 0
        else:
            return self._strike(fault)
        return True

    def _later(self, fault: Fault, undo: Callable[[], object]) -> None:
        self._back.append((time.monotonic() + fault.lasts, fault.whom, undo))

    def _strike(self, fault: Fault) -> bool:
        """Faults of processes and jobs, whichever happen to be there."""
        if fault.what == "a follower starts":
            follow = 'setsid bash -c \'hpcrun wait "$1" >"follower.$$" 2>&1; echo "exit code $?" >>"follower.$$"\' bash'
            self.followers.append(self.user.sh(f'{follow} "$1" >/dev/null 2>&1 & echo $!', self.run_id).stdout.strip())
            return True
        if fault.what == "a follower is killed":
            return self.user.sh('pkill -9 -s "$1"', self.followers[-1]).returncode == 0
        if fault.what == "an administrator requeues":
            listed = log_in("squeue", "-h", "-r", "-t", "R", "-w", fault.whom, "-o", "%i", timeout=60).stdout.split()
            chosen = sorted(listed)[fault.dice % len(listed)] if listed else ""
            requeue = ("timeout", "60", "scontrol", "requeue", chosen)
            return bool(chosen) and log_in(*requeue, user="root").returncode == 0
        processes = BY_ENVIRONMENT if fault.what == "a program is killed" else BY_COMMAND
        script = STRIKE.format(processes=f"$({processes})")
        first = NODES.index(fault.whom)
        for node in (*NODES[first:], *NODES[:first]):  # one on another node where there is none on this one
            # As the user: without privileges root sees no environment of others in a container.
            done = log_in("bash", "-c", script, "bash", self.run_id, str(fault.dice), node=node)
            if done.stdout.strip() == "killed":
                return True
        return False

    def repair(self) -> None:
        """What an administrator does meanwhile: what Slurm has drained takes jobs again."""
        while not self.over.wait(5.0):
            log_in("bash", "-c", RESUME, user="root", timeout=60)


def watched(chaos: Chaos, faults: threading.Thread, deadline: float) -> tuple[dict[str, Any], list[str]]:
    """Look at the run until the faults are over, then wait for its end; its last status, and what went wrong."""
    wrong: list[str] = []
    seen = ""
    while faults.is_alive():
        status = looked_at(chaos, wrong)
        line = f"{status.get('status')}: {status.get('counts')}"
        if line != seen:
            chaos.say(f"  {line}")
            seen = line
        if status.get("status") == "succeeded":
            chaos.say("the run has ended before the last fault")
            return status, wrong
        faults.join(5.0)
    left = max(60.0, deadline - (time.monotonic() - chaos.began))
    chaos.say("all faults are over; waiting for the end")
    done = chaos.user.sh('exec timeout "$2" hpcrun wait "$1"', chaos.run_id, f"{left:.0f}", timeout=left + 60)
    if done.returncode not in (0, 3):
        wrong.append(f"wait exited with {done.returncode}: {done.stdout[-1000:]}{done.stderr[-500:]}")
    return looked_at(chaos, wrong), wrong


def looked_at(chaos: Chaos, wrong: list[str]) -> dict[str, Any]:
    """The status of the run now; what is wrong with the answer is added to `wrong`."""
    done = chaos.user.hpcrun("status", "--json", chaos.run_id, timeout=300)
    if done.returncode not in (0, 69) or "Traceback" in done.stderr:
        wrong.append(f"status exited with {done.returncode}: {done.stderr[-500:]}")
    found: dict[str, Any] = json.loads(done.stdout or "{}")
    return found


GATHER = """
import json, os, sys
from hpcrun import ledger
from hpcrun.rundir import RunDir
from hpcrun.run import Run
run, executions, shards = Run(sys.argv[1]), sys.argv[2], int(sys.argv[3])
def lines(path):
    with open(path) as file:
        return file.read().splitlines()
effects = {}
for bucket, _, files in os.walk(run.dir.results):
    if "effect" in files and not os.path.basename(bucket).startswith("."):
        effects[os.path.relpath(bucket, run.dir.results)] = lines(os.path.join(bucket, "effect"))
committed = {shard: lines(os.path.join(run.dir.committed(shard), "effect"))
             for shard in range(shards) if os.path.exists(os.path.join(run.dir.committed(shard), "effect"))}
print(json.dumps({
    "executions": {name: lines(os.path.join(executions, name)) for name in os.listdir(executions)},
    "committed": committed,
    "causes": {shard: [entry.cause if entry.end is not None else "open" for entry in ledger.read(run.dir, shard)]
               for shard in range(shards)},
    "tracebacks": [name for name in os.listdir(run.dir.slurm)
                   if "Traceback" in open(os.path.join(run.dir.slurm, name), errors="replace").read()],
}))
"""


def gathered(chaos: Chaos, shards: int) -> dict[str, Any]:
    """What the programs have left, and the causes in the ledger."""
    program = chaos.user.write("gather.py", GATHER)
    folder = f"{chaos.user.home}/runs/{chaos.run_id}"
    words = ("/opt/hpcrun/bin/python", program, folder, f"{chaos.user.folder}/executions", str(shards))
    found: dict[str, Any] = json.loads(chaos.user.ok(*words, timeout=300))
    return found


def counted(status: dict[str, Any], left: dict[str, Any], shards: int) -> list[str]:
    """What is wrong with what a run has left: effects that are missing or there twice, attempts that ran twice."""
    wrong = []
    if len(status["shards"]) != shards:
        wrong.append(f"{len(status['shards'])} shards in the status")
    for shard in status["shards"]:
        index, effect = shard["index"], left["committed"].get(str(shard["index"]), [])
        if shard["state"] == "succeeded" and len(effect) != 1:
            wrong.append(f"shard {index} has succeeded, and its effect is there {len(effect)} times")
        if shard["state"] != "succeeded" and not shard["cause"]:
            wrong.append(f"shard {index} is {shard['state']} without a cause")
        if shard["state"] != "succeeded" and effect:
            wrong.append(f"shard {index} is {shard['state']}, and its effect is there")
        for line in effect:
            facts = json.loads(line)
            if facts["shard"] != index or f"{index}.{facts['attempt']}" not in left["executions"]:
                wrong.append(f"shard {index} has the effect of somebody else: {line}")
    for name, lines in left["executions"].items():
        if len(lines) != 1:
            wrong.append(f"attempt {name} has run {len(lines)} times")
    wrong += [f"slurm/{name} has a traceback" for name in left["tracebacks"]]
    return wrong


def orphans(chaos: Chaos) -> list[str]:
    """What is left of the run on any node or in the queue once some time has passed."""
    queued = ("squeue", "--me", "--noheader", "--array", "--format=%i %T %r")
    try:
        until(lambda: not chaos.user.ok(*queued).strip() and not chaos.user.left(chaos.run_id), 90)
    except AssertionError:
        return [*chaos.user.ok(*queued).splitlines(), *chaos.user.left(chaos.run_id).splitlines()]
    return []


def said_by_followers(chaos: Chaos) -> list[str]:
    """What was wrong with what the followers have said."""
    said = chaos.user.sh("grep -l Traceback follower.* /dev/null").stdout.split()
    return [f"{name} has a traceback" for name in said]


def table(chaos: Chaos, status: dict[str, Any], left: dict[str, Any], wrong: Sequence[str]) -> str:
    """What was done and what was seen, for people."""
    causes = collections.Counter(cause for causes in left["causes"].values() for cause in causes[:-1])
    attempts = collections.Counter(shard["attempts"] for shard in status["shards"])
    done = [f"| {what} | {count} |" for what, count in sorted(chaos.done.items())]
    seen = {
        "shards": len(status["shards"]),
        "succeeded": status["counts"].get("succeeded", 0),
        "ended otherwise, each with its cause": len(status["shards"]) - status["counts"].get("succeeded", 0),
        "effects": len(left["committed"]),
        "executions": len(left["executions"]),
        "attempts, by shard": ", ".join(f"{count} × {number}" for number, count in sorted(attempts.items())),
        "attempts that another one followed, by cause": ", ".join(
            f"{count} {cause or 'succeeded'}" for cause, count in causes.most_common()
        ),
        "wrong": len(wrong),
    }
    rows = [f"| {what} | {value} |" for what, value in seen.items()]
    return "\n".join(["| done | times |", "|---|---|", *done, "", "| seen | |", "|---|---|", *rows, *wrong])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--shards", type=int, default=500)
    parser.add_argument("--minutes", type=float, default=6.0, help="for how long there are faults")
    parser.add_argument("--deadline", type=float, default=40.0, help="minutes after which the run must have ended")
    parser.add_argument("--keep-cluster", action="store_true", help="leave the tests' Slurm up at the end")
    parser.add_argument("--plan", action="store_true", help="only print what would be done")
    return parser.parse_args()


def main() -> int:
    """Bring the cluster up for the chaos; 0 where everything was as it has to be."""
    asked = arguments()
    faults = planned(asked.seed, asked.minutes * 60)
    if asked.plan:
        print(*faults, sep="\n")
        return 0
    up()
    try:
        return chaos_of(asked, faults)
    finally:
        if not asked.keep_cluster:
            down()


def chaos_of(asked: argparse.Namespace, faults: Sequence[Fault]) -> int:
    """Make the run and its chaos on the cluster that is up, and count."""
    log_in("scancel", "--me")
    user = User(log_in, f"/shared/tests/chaos-{uuid.uuid4().hex[:8]}")
    executions = f"{user.folder}/executions"
    user.ok("mkdir", executions)
    program = user.write("program.py", PROGRAM)
    run_id = user.submit(
        "-N", str(asked.shards), "--retries", "10", "--results", "committed", "--set", "retries.node_failed=50",
        "--set", "retries.launch_failed=50", "--", "python3", program, executions,
    )  # fmt: skip
    print(f"run {run_id}, seed {asked.seed}: {asked.shards} shards, {len(faults)} faults in {asked.minutes:g} minutes")
    chaos = Chaos(user, run_id, faults)
    threads = [threading.Thread(target=chaos.carry_out), threading.Thread(target=chaos.repair)]
    for thread in threads:
        thread.start()
    try:
        status, wrong = watched(chaos, threads[0], asked.deadline * 60)
    finally:
        chaos.over.set()
        for thread in threads:
            thread.join()
    wrong += orphans(chaos)
    left = gathered(chaos, asked.shards)
    wrong += counted(status, left, asked.shards) + said_by_followers(chaos)
    print(table(chaos, status, left, wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
