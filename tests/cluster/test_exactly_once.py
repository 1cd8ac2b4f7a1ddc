"""Submissions that are killed, and a Slurm that goes away in the middle of them: one job for each batch, or none."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from containers import Login, User
from trouble import answers, crashed, frozen
from waiting import until

ONCE = 'echo "$HPCRUN_SHARD_INDEX" >> "$HPCRUN_RESULTS_DIR/ran"'
"""A program that leaves one line each time that a shard runs it."""
SHARDS, BATCHES = 6, 3
"""With the cluster that TOOLS make of the real one, where an array holds two elements."""

TOOLS = {
    "scontrol": r"""#!/bin/sh
{scontrol} "$@" | sed -E 's/^(MaxArraySize +=).*/\1 2/'
""",
    # Counts its calls in the folder $STATE; at call number $AT it does what $HOW says to the hpcrun that has called it.
    "sbatch": r"""#!/bin/bash
calls=$(cat "$STATE/calls" 2>/dev/null || echo 0)
echo $((calls + 1)) > "$STATE/calls"
[ "$calls" = "$AT" ] || exec {sbatch} "$@"
hold() {{ touch "$STATE/$1"; until [ -e "$STATE/go" ]; do sleep 0.05; done; }}
case $HOW in
    before) kill -KILL $PPID ;;
    after) {sbatch} "$@" >/dev/null; kill -KILL $PPID ;;
    told) {sbatch} "$@"; kill -KILL $PPID ;;
    orphan) kill -KILL $PPID; hold orphan; exec {sbatch} "$@" ;;
    held) hold held; {sbatch} "$@"; code=$?; touch "$STATE/answered"; exit $code ;;
    mute) {sbatch} "$@" >/dev/null
        echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2; exit 1 ;;
esac
""",
}
SUBMIT = """
export STATE="$PWD/state/$1" AT=$2 HOW=$3 DELAY=$4; shift 4; mkdir -p "$STATE"
export PATH="$PWD/bin:$PATH"
if [ "$DELAY" = 0 ]; then exec hpcrun submit "$@"; fi
hpcrun submit "$@" & sleep "$DELAY"; kill -KILL $!; wait
"""

ONE = 'bash submit "$@" -N 6 --name "$1" -- bash -c "$ONCE" >/dev/null 2>&1; true'
"""One submission from the words of a line; xargs is not told that it was killed."""


@pytest.fixture
def tools(user: User) -> None:
    """Slurm's commands as TOOLS have them, in the user's bin/."""
    for name, text in TOOLS.items():
        user.write(f"bin/{name}", text.format(**{tool: user.ok("which", tool).strip() for tool in TOOLS}))
    user.ok("chmod", "-R", "+x", f"{user.folder}/bin")
    user.write("submit", SUBMIT)


def listed(user: User) -> dict[str, dict[str, Any]]:
    """Every run that there is, by its name."""
    return {run["name"]: run for run in json.loads(user.hpcrun("list", "-n", "100", "--json").stdout)}


def scripts(user: User) -> list[str]:
    """The scripts of all the user's jobs that Slurm has or had, as run and file name; one for each job."""
    rows = user.ok("squeue", "--me", "--states=all", "--noheader", "--format=%F %o").split("\n")
    jobs = {row.split(" ", 1)[0]: row.split(" ", 1)[1] for row in rows if user.home in row}
    return ["/".join(path.split("/")[-3:]) for path in jobs.values()]


def ran(user: User, run_id: str) -> list[int]:
    """The shards whose program has run, once for each time."""
    text = user.sh('cat "$HPCRUN_HOME/runs/$1/results/ran" 2>/dev/null', run_id).stdout
    return sorted(map(int, text.split()))


def points() -> list[tuple[str, int, str, float]]:
    """(name, call of sbatch, what happens at it, or else when it is killed, as a share of what one takes) of twenty."""
    chance = random.Random(20)
    chosen = [(f"{how}-{at}", at, how, 0.0) for how in ("before", "after", "told", "orphan") for at in range(BATCHES)]
    return chosen + [(f"late-{n}", -1, "", round(chance.uniform(0.5, 2.0), 3)) for n in range(20 - len(chosen))]


def test_killed_at_twenty_points(user: User, tools: None) -> None:
    """Each batch has one job or none, status says which, and retry brings about what is missing: all runs once."""
    began = time.monotonic()
    assert user.sh(f"export ONCE='{ONCE}'; bash -c '{ONE}' bash late-never -1 none 0").returncode == 0
    took = time.monotonic() - began
    rows = "".join(f"{name} {at} {how or 'none'} {delay * took:g}\n" for name, at, how, delay in points())
    user.sh(f"export ONCE='{ONCE}'; xargs -P 3 -L 1 bash -c '{ONE}' bash", input=rows)
    found = listed(user)
    for at in range(BATCHES):
        waits = user.status(found[f"orphan-{at}"]["run_id"])["shards"]
        assert all("is submitting it" in shard["detail"] for shard in waits[2 * at :]), "its sbatch is still there"
    user.sh('for folder in state/*; do touch "$folder/go"; done')
    found = until(lambda: _all(user, "succeeded", "failed", "partial"), what="an end of all")
    assert {name.split("-")[0] for name in found} == {"before", "after", "told", "orphan", "late"}
    submitted = scripts(user)
    assert len(submitted) == len(set(submitted)), "no script has two jobs"
    assert {path.split("/")[0] for path in submitted} <= {run["run_id"] for run in found.values()}, (
        "no job without a run"
    )
    for name, at, how, _ in points():
        if how:
            came_to = at + (how != "before")
            assert len(found[name]["jobs"]) == came_to, name
            assert found[name]["counts"].get("failed", 0) == SHARDS - 2 * came_to, name
    for run in found.values():
        assert len(run["jobs"]) == len([path for path in submitted if path.startswith(run["run_id"])])
        assert run["counts"].get("succeeded", 0) == 2 * len(run["jobs"])
    again = " ".join(run["run_id"] for run in found.values() if run["failedIndexes"])
    assert user.sh(f"echo {again} | xargs -n 1 -P 3 hpcrun retry").returncode == 0
    for run in until(lambda: _all(user, "succeeded"), what="the success of all").values():
        assert ran(user, run["run_id"]) == list(range(SHARDS)), run["name"]


def _all(user: User, *states: str) -> dict[str, dict[str, Any]] | None:
    found = listed(user)
    return found if all(run["status"] in states for run in found.values()) else None


def test_an_answer_that_is_lost(user: User, tools: None) -> None:
    """Slurm took the batch and said nothing: it is found in the queue, and the submission goes on."""
    done = user.sh('exec bash submit s 1 mute 0 -N 6 -- bash -c "$1"', ONCE)
    assert done.returncode == 0, done.stderr
    run_id = done.stdout.strip()
    assert user.hpcrun("wait", "-q", run_id).returncode == 0
    assert sorted(scripts(user)) == [f"{run_id}/scripts/{batch}.sh" for batch in range(BATCHES)]
    assert ran(user, run_id) == list(range(SHARDS))


IN_THE_BACKGROUND = """
export ONCE="$1"
submit() { setsid bash submit s 1 held 0 -N 6 --name held -- bash -c "$ONCE" </dev/null >out 2>err; echo $? >code; }
submit >/dev/null 2>&1 &
"""


def submission_that_stands_still(user: User) -> str:
    """Begin to submit a run of three batches, and wait until its second call of sbatch stands still; its id."""
    assert user.sh(IN_THE_BACKGROUND, ONCE).returncode == 0
    until(lambda: _is_there(user, "state/s/held"), what="the second call of sbatch")
    run_id: str = listed(user)["held"]["run_id"]
    until(lambda: ran(user, run_id) == [0, 1], what="the first batch run")
    until(lambda: user.status(run_id)["counts"].get("succeeded") == 2, what="its records")
    return run_id


def _is_there(user: User, name: str) -> bool:
    return user.login("test", "-e", f"{user.folder}/{name}").returncode == 0


def test_slurmctld_hangs_in_the_middle(user: User, tools: None) -> None:
    """Its answer does not come in time, but it has taken the batch: that is found out, and the rest is submitted."""
    run_id = submission_that_stands_still(user)
    with frozen("slurmctld"):
        user.ok("touch", f"{user.folder}/state/s/go")
        until(lambda: _is_there(user, "state/s/answered"), what="sbatch without an answer")
    code = until(lambda: user.sh("cat code").stdout, what="the submission's end")
    assert (code, user.read(f"{user.folder}/out")) == ("0\n", f"{run_id}\n"), user.read(f"{user.folder}/err")
    assert user.hpcrun("wait", "-q", run_id).returncode == 0
    assert sorted(scripts(user)) == [f"{run_id}/scripts/{batch}.sh" for batch in range(BATCHES)]
    assert ran(user, run_id) == list(range(SHARDS))


def test_killed_while_slurmctld_hangs(user: User, tools: None) -> None:
    """The batch comes into being when nobody is left who had asked for it; status finds it, and what is missing."""
    run_id = submission_that_stands_still(user)
    with frozen("slurmctld"):
        user.ok("touch", f"{user.folder}/state/s/go")
        assert user.sh('kill -KILL "$(sed -n \'s/.*"sending".*"pid":\\([0-9]*\\).*/\\1/p\' "$1")"',
                       f"{user.home}/runs/{run_id}/submission.jsonl").returncode == 0  # fmt: skip
        until(lambda: _is_there(user, "state/s/answered"), what="the end of its sbatch")
    until(lambda: user.status(run_id)["counts"] == {"succeeded": 4, "failed": 2}, what="an end of all")
    status = user.status(run_id)
    assert (len(status["jobs"]), status["failedIndexes"]) == (2, "4,5")
    assert {shard["detail"] for shard in status["shards"][4:]} == {
        "never submitted: the submission ended before its turn; hpcrun retry submits it"
    }
    assert user.hpcrun("retry", run_id).returncode == 0
    assert user.hpcrun("wait", "-q", run_id).returncode == 0
    assert ran(user, run_id) == list(range(SHARDS))


def test_slurmctld_crashes_in_the_middle(user: User, login: Login, tools: None, in_queue: Callable[[], str]) -> None:
    """What it has forgotten is submitted again once it has said so, and nothing else is."""
    run_id = submission_that_stands_still(user)
    crashed(login, "slurmctld")
    user.ok("touch", f"{user.folder}/state/s/go")
    code = until(lambda: user.sh("cat code").stdout, 120, "the submission's end")
    assert (code, user.read(f"{user.folder}/out")) == ("0\n", f"{run_id}\n"), user.read(f"{user.folder}/err")
    answers(login, "slurmctld")
    assert user.hpcrun("wait", "-q", run_id).returncode == 0
    assert ran(user, run_id) == list(range(SHARDS))
    user.ok("scancel", "--me")  # it may have forgotten the end of what ended in its last seconds, too
    until(lambda: in_queue() == "", what="an empty queue")


def test_cancelled_after_its_submission_was_killed(user: User, tools: None, in_queue: Callable[[], str]) -> None:
    """Also the batch of which nobody had written down the number is ended, before it begins."""
    user.sh("exec bash submit s 1 after 0 --hold -N 6 --name held -- sleep 1000")
    run_id = listed(user)["held"]["run_id"]
    assert user.hpcrun("cancel", run_id).returncode == 0
    until(lambda: in_queue() == "", what="an empty queue")
    assert user.status(run_id)["counts"] == {"cancelled": SHARDS}
