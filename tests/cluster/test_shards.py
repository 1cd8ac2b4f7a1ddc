"""Sharded runs on the real cluster, as the ordinary user."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from containers import MAX_ARRAY_SIZE, User
from waiting import until

MARK = """
# Says when this shard began and ended, in files that nobody else writes.
import os, pathlib, socket, time
shard, folder = os.environ["HPCRUN_SHARD_INDEX"], pathlib.Path(os.environ["HPCRUN_RESULTS_DIR"])
began = time.time()
deadline = began + 0.3
while time.time() < deadline:
    sum(range(10000))
with open(folder / f"{shard}.{os.getpid()}.{socket.gethostname()}", "x") as file:
    file.write(f"{shard} {os.environ['HPCRUN_SHARD_COUNT']} {began} {time.time()}")
print("shard", shard, "done")
"""


def most_at_once(spans: list[tuple[float, float]]) -> int:
    """The most spans that overlap at one moment."""
    events = sorted([(began, 1) for began, _ in spans] + [(ended, -1) for _, ended in spans])
    now = most = 0
    for _, step in events:
        now += step
        most = max(most, now)
    return most


def test_three_hundred_shards_over_three_arrays(user: User, in_queue: Callable[[], str]) -> None:
    """300 shards where an array holds 101: one run id, every index once, never over 16 at once, nobody following."""
    program = user.write("mark.py", MARK)
    run_id = user.submit("-N", "300", "--max-parallel", "16", "--", "python3", program)
    until(lambda: run_id and in_queue() == "", deadline=300, what="an empty queue")
    status = user.status(run_id)
    assert status["status"] == "succeeded"
    assert status["completedIndexes"] == "0-299"
    assert len(status["jobs"]) == 3
    results = user.ok(
        "bash", "-c", 'for f in "$1"/*; do cat "$f"; echo; done', "bash", f"{user.home}/runs/{run_id}/results"
    )
    rows = [line.split() for line in results.splitlines()]
    assert sorted(int(row[0]) for row in rows) == list(range(300)), "every index exactly once"
    assert {row[1] for row in rows} == {"300"}, "the count is the run's, not the array's"
    assert most_at_once([(float(row[2]), float(row[3])) for row in rows]) <= 16
    assert most_at_once([(shard["started"], shard["ended"]) for shard in status["shards"]]) <= 16
    assert user.hpcrun("logs", run_id, "--shard", "299").stdout == "shard 299 done\n"
    assert MAX_ARRAY_SIZE == 101, "three arrays only with this limit"


def test_one_failing_shard_makes_it_partial(user: User) -> None:
    """Exit code 3, the index in the table, the end of its log in the message, the others done."""
    script = """
        echo "reading part $HPCRUN_SHARD_INDEX"
        if [ $HPCRUN_SHARD_INDEX = 5 ]; then echo "disk quota exceeded" >&2; exit 9; fi
    """
    done = user.hpcrun("run", "-N", "8", "--", "bash", "-c", script)
    assert done.returncode == 3
    assert "partial" in done.stdout
    assert "succeeded  7  0-4,6,7" in done.stdout
    row = next(line for line in done.stdout.splitlines() if line.startswith("5 "))
    assert row.split()[:4] == ["5", "failed", "1", "9"]
    assert "  reading part 5\n  disk quota exceeded\n" in done.stdout


def test_exit_codes_and_signals_are_told_apart(user: User) -> None:
    """A program's code is kept exactly, a signal is no code, and a single program's code is the run's."""
    ends = ["exit 0", "exit 1", "exit 137", "kill -KILL $$", "kill -TERM $$", "exec /no/such/program"]
    script = f"case $HPCRUN_SHARD_INDEX in {' '.join(f'{i}) {end};;' for i, end in enumerate(ends))} esac"
    run_id = user.submit("-N", str(len(ends)), "--", "bash", "-c", script)
    assert user.hpcrun("wait", "-q", run_id).returncode == 3
    shards = user.status(run_id)["shards"]
    assert [(s["exit_code"], s["signal"]) for s in shards] == [
        (0, 0),
        (1, 0),
        (137, 0),
        (None, 9),
        (None, 15),
        (127, 0),
    ]
    assert [s["cause"] for s in shards] == [None, "failed", "failed", "failed", "failed", "failed"]
    assert user.hpcrun("run", "bash", "-c", "echo out; exit 77").returncode == 77


def test_cancel_leaves_nothing(user: User, in_queue: Callable[[], str]) -> None:
    """After cancel nothing of the run is in the queue nor on any node, pending arrays and background jobs included."""
    marker = f"lasting-{user.folder.rpartition('/')[2]}"
    script = f"exec -a {marker} bash -c 'set -m; sleep 1000 & sleep 1000 & wait'"
    run_id = user.submit("-N", "250", "--max-parallel", "20", "--", "bash", "-c", script)
    until(lambda: user.status(run_id)["counts"].get("running", 0) >= 10, what="running shards")
    assert user.hpcrun("cancel", run_id).returncode == 0
    until(lambda: in_queue() == "", what="an empty queue")
    status = user.status(run_id)
    assert status["status"] == "cancelled"
    assert status["counts"] == {"cancelled": 250}
    assert user.hpcrun("wait", run_id).returncode == 130
    for node in ("c1", "c2", "c3", "c4"):
        left = user.login("pgrep", "-u", "user", "-fl", f"{marker}|sleep 1000", node=node, user="root").stdout
        assert left == "", f"left on {node}: {left}"


def test_a_bare_scancel_is_a_cancel(user: User, in_queue: Callable[[], str]) -> None:
    """scancel of one running and one waiting element ends these two, whatever the program exits with on SIGTERM."""
    script = "trap 'exit 143' TERM; if [ $HPCRUN_SHARD_INDEX -lt 2 ]; then sleep 1000 & wait $!; fi"
    run_id = user.submit("-N", "4", "--max-parallel", "2", "--", "bash", "-c", script)
    job = user.status(run_id)["jobs"][0]
    until(lambda: user.status(run_id)["counts"].get("running") == 2, what="two running shards")
    user.ok("scancel", f"{job}_0", f"{job}_3")
    until(lambda: user.status(run_id)["shards"][0]["state"] == "cancelled", what="shard 0 cancelled")
    user.ok("scancel", f"{job}_1")
    assert user.hpcrun("wait", "-q", run_id).returncode == 3
    states = [shard["state"] for shard in user.status(run_id)["shards"]]
    assert states == ["cancelled", "cancelled", "succeeded", "cancelled"]
    assert in_queue() == ""


def test_sigterm_reaches_the_program_once(user: User) -> None:
    """At a cancel the program can end in its own way, and is asked once."""
    script = (
        "trap 'echo asked' TERM; for i in $(seq 1000); do sleep 0.1; [ -e \"$HPCRUN_RESULTS_DIR/end\" ] && exit 5; done"
    )
    run_id = user.submit("--", "bash", "-c", script)
    until(lambda: user.status(run_id)["status"] == "running", what="a running program")
    assert user.hpcrun("cancel", run_id).returncode == 0
    until(lambda: "asked" in user.hpcrun("logs", run_id).stdout, what="the program's word")
    user.ok("touch", f"{user.home}/runs/{run_id}/results/end")
    assert user.hpcrun("wait", "-q", run_id).returncode == 130
    assert user.hpcrun("logs", run_id).stdout.count("asked") == 1
    assert user.status(run_id)["shards"][0]["exit_code"] == 5


def test_a_timeout_is_recorded_before_slurms_own(user: User) -> None:
    """`timeout` ends the program by its own clock, with exit code 124 for the run."""
    done = user.hpcrun("run", "--timeout", "2s", "--json", "--", "sleep", "1000")
    assert done.returncode == 124
    shard = json.loads(done.stdout)["shards"][0]
    assert (shard["state"], shard["cause"], shard["signal"]) == ("timed_out", "timed_out", 15)


def test_slurms_time_limit_is_told_apart_from_a_cancel(user: User) -> None:
    """A shard that Slurm's own --time ends is timed_out, although nobody but Slurm knew."""
    run_id = user.submit("--time", "1", "--", "sleep", "1000")
    job = user.status(run_id)["jobs"][0]
    until(lambda: user.status(run_id)["status"] == "running", what="a running program")
    # The shortest limit there is takes two minutes to be enforced; an administrator can set a past one.
    user.ok("scontrol", "update", f"jobid={job}", "timelimit=0:01", user="root", node="slurmctld")
    assert user.hpcrun("wait", "-q", run_id, timeout=200).returncode == 124


def test_requeued_by_an_administrator_it_runs_again(user: User) -> None:
    """The next attempt has a number, a log and a record of its own; the others are left alone."""
    script = 'echo "attempt $HPCRUN_ATTEMPT"; [ $HPCRUN_SHARD_INDEX$HPCRUN_ATTEMPT != 10 ] || exec sleep 1000'
    run_id = user.submit("-N", "3", "--", "bash", "-c", script)
    job = user.status(run_id)["jobs"][0]

    def shard() -> dict[str, Any]:
        found: dict[str, Any] = user.status(run_id)["shards"][1]
        return found

    until(lambda: shard()["state"] == "running", what="shard 1 running")
    user.ok("scontrol", "requeue", f"{job}_1")
    until(lambda: shard()["state"] == "pending", what="shard 1 back in the queue")
    user.restart(f"{job}_1")
    assert user.hpcrun("wait", "-q", run_id, timeout=240).returncode == 0
    assert [s["attempts"] for s in user.status(run_id)["shards"]] == [1, 2, 1]
    assert user.hpcrun("logs", run_id, "--shard", "1", "--attempt", "0").stdout == "attempt 0\n"
    assert user.hpcrun("logs", run_id, "--shard", "1").stdout == "attempt 1\n"


def test_a_second_submission_runs_nothing(user: User, in_queue: Callable[[], str]) -> None:
    """Whoever submits a run's script again gets a job that stands back."""
    run_id = user.submit("-N", "2", "--", "bash", "-c", "echo $SLURM_ARRAY_JOB_ID")
    assert user.hpcrun("wait", "-q", run_id).returncode == 0
    user.ok("sbatch", f"{user.home}/runs/{run_id}/scripts/0.sh")
    until(lambda: in_queue() == "", what="an empty queue")
    status = user.status(run_id)
    assert [shard["attempts"] for shard in status["shards"]] == [1, 1]
    assert user.hpcrun("logs", run_id, "--shard", "0").stdout.strip() == status["jobs"][0]


def test_gpus_are_slurms(user: User) -> None:
    """--gpus is Slurm's own allotment: two shards on a node see two different devices."""
    script = """
        echo gpu=$CUDA_VISIBLE_DEVICES
        touch "$HPCRUN_RESULTS_DIR/$HPCRUN_SHARD_INDEX"
        until [ $(ls "$HPCRUN_RESULTS_DIR" | wc -l) = 2 ]; do sleep 0.1; done
    """
    done = user.hpcrun("run", "-N", "2", "--gpus", "1", "-p", "gpu", "--nodelist", "c3", "--", "bash", "-c", script)
    assert done.returncode == 0, done.stdout + done.stderr
    seen = user.hpcrun("logs", "last").stdout.split()
    assert sorted(seen[1::2]) == ["gpu=0", "gpu=1"]


def test_the_run_folder_stays_small(user: User) -> None:
    """Nothing grows with the shards before they run; afterwards two files each, and Slurm's empty ones are gone."""
    run_id = user.submit("-N", "60", "--hold", "--", "true")
    folder = f"{user.home}/runs/{run_id}"

    def files() -> list[str]:
        return user.ok("find", folder, "-type", "f", "-printf", "%P\n").split()

    before = files()
    assert len(before) <= 6
    job = user.status(run_id)["jobs"][0]
    user.ok("scontrol", "release", job)
    assert user.hpcrun("wait", "-q", run_id).returncode == 0
    until(lambda: not [name for name in files() if name.startswith("slurm/")], what="an empty slurm/")
    assert len(files()) - len(before) <= 2 * 60 + 1
