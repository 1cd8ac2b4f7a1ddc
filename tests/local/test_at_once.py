"""How many shards run at once, and on what."""

from __future__ import annotations

import os
from pathlib import Path

from machine import Machine

# Counts, under a lock, how many run now, and notes the most there were.
COUNT = """
enter() { exec 9>"$HPCRUN_RESULTS_DIR/lock"; flock 9; }
change() { enter; n=$(($(cat "$HPCRUN_RESULTS_DIR/now" 2>/dev/null || echo 0) + $1)); echo $n >"$HPCRUN_RESULTS_DIR/now"
  if [ $1 = 1 ]; then echo $n >>"$HPCRUN_RESULTS_DIR/seen"; fi; exec 9>&-; }
change 1; sleep 0.1; change -1
"""
CPUS = len(os.sched_getaffinity(0))


def _most(machine: Machine, *options: str) -> int:
    run = machine.run("-N", "8", *options, "--", "bash", "-c", COUNT)
    return max(map(int, Path(run.dir.results, "seen").read_text().split()))


def test_max_parallel(machine: Machine) -> None:
    """No more than asked for."""
    assert _most(machine, "--max-parallel", "1") == 1


def test_as_many_as_there_are_cpus(machine: Machine) -> None:
    """The machine's CPUs bound it where nothing else does."""
    assert _most(machine) <= CPUS


def test_cpus_of_a_shard_count(machine: Machine) -> None:
    """Shards that take all CPUs run one at a time."""
    assert _most(machine, "--cpus", str(CPUS)) == 1


def test_more_cpus_than_there_are(machine: Machine) -> None:
    """An error before anything is written, with both numbers."""
    done = machine.hpcrun("run", "--cpus", str(CPUS + 1), "true")
    assert done.returncode == 2
    assert f"found {CPUS + 1} a shard, and this machine has {CPUS}" in done.stderr.decode()
    assert not machine.home.exists()


def test_gpus_are_not_shared(machine: Machine) -> None:
    """Shards that run at once hold disjoint devices, whichever they are, and give them back."""
    machine.environ["CUDA_VISIBLE_DEVICES"] = "0,1,2,3"
    script = """
        for device in ${CUDA_VISIBLE_DEVICES//,/ }; do mkdir "$HPCRUN_RESULTS_DIR/$device" || exit 1; done
        sleep 0.05; echo "$CUDA_VISIBLE_DEVICES"
        for device in ${CUDA_VISIBLE_DEVICES//,/ }; do rmdir "$HPCRUN_RESULTS_DIR/$device"; done
    """
    run = machine.run("-N", "8", "--gpus", "2", "--", "bash", "-c", script)
    assert {len(run.logs(shard).strip().split(",")) for shard in range(8)} == {2}
    assert {device for shard in range(8) for device in run.logs(shard).strip().split(",")} <= set("0123")


def test_more_gpus_than_there_are(machine: Machine) -> None:
    """Exit code 2, both numbers."""
    machine.environ["CUDA_VISIBLE_DEVICES"] = "0,1,2,3"
    done = machine.hpcrun("run", "--gpus", "5", "true")
    assert done.returncode == 2
    assert b"found 5 a shard, and this machine has 4" in done.stderr


def test_five_hundred_shards(machine: Machine) -> None:
    """All succeed; each leaves one record, and a log if it wrote anything, in folders of at most 1,000 entries."""
    run = machine.run("-N", "501", "--", "bash", "-c", "((HPCRUN_SHARD_INDEX % 500)) || echo here")
    assert run.status().folded("succeeded") == "0-500"
    files = [(folder, names) for folder, _, names in os.walk(run.dir.path)]
    assert sum(name.endswith(".jsonl") for folder, names in files for name in names if "records" in folder) == 501
    assert sum(name.endswith(".log") for folder, names in files for name in names if "/logs/" in folder) == 2
    assert (run.logs(500), run.logs(499)) == ("here\n", "")
    assert max(len(os.listdir(folder)) for folder, _ in files) <= 1000
