"""Trouble on a real cluster: daemons that are away, nodes that crash, preemption, signals, killed processes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from containers import Login, User, container, docker
from waiting import until

AFTER_COMPLETING = 2.0
"""Seconds before which an element must not restart on its node: Slurm's credentials count whole seconds."""

UNTIL_TOLD = 'until [ -e "$HPCRUN_RESULTS_DIR/end" ]; do sleep 0.1; done; echo "attempt $HPCRUN_ATTEMPT ends"'


def end(user: User, run_id: str) -> None:
    """Tell the programs of UNTIL_TOLD to end."""
    user.ok("touch", f"{user.home}/runs/{run_id}/results/end")


def ended_by_records(user: User, run_id: str) -> int:
    """How many shards of a run have recorded their end, found without a word from Slurm."""
    found = user.sh('grep -rl \'"event":"end"\' "$HPCRUN_HOME/runs/$1/records"', run_id)
    return len(found.stdout.split())


def running(user: User, run_id: str, count: int = 1) -> list[dict[str, Any]]:
    """The shards of a run, as soon as `count` of them run."""
    until(lambda: user.status(run_id)["counts"].get("running") == count, what=f"{count} running")
    found: list[dict[str, Any]] = user.status(run_id)["shards"]
    return found


@contextlib.contextmanager
def stopped(login: Login, daemon: str) -> Iterator[None]:
    """`daemon` is away; back, and answering, at the end."""
    docker("stop", container(daemon))
    try:
        yield
    finally:
        docker("start", container(daemon))
        answers = ("scontrol", "ping") if daemon == "slurmctld" else ("sacctmgr", "-n", "show", "cluster")
        until(lambda: login(*answers).returncode == 0, 90, f"{daemon} back")
        until(lambda: login("sinfo", "-h", "-t", "idle,mix,alloc", "-o", "%D").stdout.strip() == "4", 90, "four nodes")


def restart(user: User, element: str) -> None:
    """End the two minutes for which Slurm holds back what it has requeued."""
    asked = ("squeue", "--noheader", "--array", "--states=all", f"--jobs={element}", "--format=%T")
    until(lambda: user.ok(*asked).strip() == "PENDING", 120, f"{element} back in the queue")
    due = time.monotonic() + AFTER_COMPLETING
    until(lambda: time.monotonic() > due)
    user.ok("scontrol", "update", f"jobid={element}", "StartTime=now")


def test_slurmctld_is_away(user: User, login: Login) -> None:
    """Status tells what the records say, and that Slurm could not be asked (69); a submit fails and leaves nothing."""
    script = f"[ $HPCRUN_SHARD_INDEX = 0 ] || {{ {UNTIL_TOLD}; }}"
    run_id = user.submit("-N", "3", "--", "bash", "-c", script)
    until(lambda: user.status(run_id)["counts"] == {"running": 2, "succeeded": 1}, what="one done, two running")
    with stopped(login, "slurmctld"):
        asked = user.hpcrun("status", run_id)
        assert asked.returncode == 69
        assert "running" in asked.stdout
        assert "succeeded  1  0" in asked.stdout
        assert "note: the queue could not be asked" in asked.stdout
        refused = user.hpcrun("submit", "-N", "2", "--", "true")
        assert (refused.returncode, refused.stdout) == (69, "")
        assert "Traceback" not in refused.stderr
        assert user.sh('ls "$HPCRUN_HOME/runs"').stdout.split() == [run_id]
        end(user, run_id)
        until(lambda: ended_by_records(user, run_id) == 3, what="the shards' records of their ends")
        assert user.hpcrun("status", run_id).returncode == 0, "nothing is left to ask"
    assert user.hpcrun("wait", "-q", run_id).returncode == 0
    assert user.hpcrun("run", "-N", "2", "--", "true").returncode == 0, "the cluster works again"


LOSES_THE_REPLY = """#!/bin/sh
{sbatch} "$@" >/dev/null
echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2
exit 1
"""


def submit_without_reply(user: User, *options: str) -> str:
    """Submit a run of two, of which sbatch only says that it got no answer; the id that the message names."""
    sbatch = user.ok("bash", "-c", "command -v sbatch").strip()
    user.write("bin/sbatch", LOSES_THE_REPLY.format(sbatch=sbatch))
    submit = 'chmod +x bin/sbatch; PATH="$PWD/bin:$PATH" exec hpcrun submit -N 2 "$@"'
    done = user.sh(submit, *options, "--", "bash", "-c", UNTIL_TOLD)
    assert (done.returncode, done.stdout) == (69, "")
    (run_id,) = user.sh('ls "$HPCRUN_HOME/runs"').stdout.split()
    assert f"`hpcrun cancel {run_id}` ends it" in done.stderr
    return run_id


def test_a_submission_whose_reply_is_lost(user: User, in_queue: Callable[[], str]) -> None:
    """Exit code 69, and the message names the run: its shards are seen as they run, and it can be cancelled."""
    run_id = submit_without_reply(user)
    running(user, run_id, 2)
    assert user.hpcrun("cancel", run_id).returncode == 0
    until(lambda: in_queue() == "", what="an empty queue")
    assert user.status(run_id)["counts"] == {"cancelled": 2}


def test_a_submission_whose_reply_is_lost_while_it_waits(user: User, in_queue: Callable[[], str]) -> None:
    """Cancelled before Slurm has started it, it runs nothing when Slurm does."""
    run_id = submit_without_reply(user, "--hold")
    assert "cancelled" in user.hpcrun("cancel", run_id).stdout
    job = in_queue().split("_")[0].strip()
    user.ok("scontrol", "release", job)
    until(lambda: in_queue() == "", what="an empty queue")
    assert user.status(run_id)["counts"] == {"cancelled": 2}
    assert user.hpcrun("logs", run_id, "--shard", "1").stdout == ""


def test_slurmdbd_is_away(user: User, login: Login) -> None:
    """Neither the run nor its status needs accounting."""
    script = f"{UNTIL_TOLD}; exit $HPCRUN_SHARD_INDEX"
    run_id = user.submit("-N", "2", "--", "bash", "-c", script)
    running(user, run_id, 2)
    with stopped(login, "slurmdbd"):
        end(user, run_id)
        assert user.hpcrun("wait", "-q", run_id).returncode == 3
        asked = user.hpcrun("status", run_id)
        assert asked.returncode == 0
        assert "partial" in asked.stdout
        assert [shard["exit_code"] for shard in user.status(run_id)["shards"]] == [0, 1]


def test_a_node_crashes(user: User, login: Login) -> None:
    """Its shard runs again as the next attempt and succeeds; the shard on the other node is not disturbed."""
    run_id = user.submit("-N", "2", "-c", "5", "--nodelist", "c2", "--", "bash", "-c", UNTIL_TOLD)
    shards = running(user, run_id)
    assert [shard["state"] for shard in shards] == ["running", "pending"], "five of eight CPUs each"
    other = user.submit("--nodelist", "c1", "--", "bash", "-c", UNTIL_TOLD)
    running(user, other)
    until(lambda: time.time() - shards[0]["started"] > 21, what="a job of the age that is requeued at once")
    login("bash", "-c", "kill -9 -1", node="c2", user="root")
    until(lambda: user.status(run_id)["shards"][0]["state"] != "running", 90, "the crash noticed")
    end(user, run_id)
    restart(user, shards[0]["job"])
    assert user.hpcrun("wait", run_id, timeout=240).returncode == 0
    first, second = user.status(run_id)["shards"]
    assert (first["attempts"], second["attempts"]) == (2, 1)
    assert user.hpcrun("logs", run_id, "--shard", "0").stdout == "attempt 1 ends\n"
    assert user.status(other)["shards"][0]["attempts"] == 1
    assert user.status(other)["status"] == "running"
    end(user, other)
    assert user.hpcrun("wait", "-q", other).returncode == 0


def test_preemption(user: User) -> None:
    """A shard that has to make way is pending again, with the reason, and ends well in its next attempt."""
    run_id = user.submit("-N", "1", "-p", "low", "-w", "c1", "-c", "8", "--", "bash", "-c", UNTIL_TOLD)
    (shard,) = running(user, run_id)
    urgent = user.submit("-p", "high", "-w", "c1", "-c", "8", "--", "bash", "-c", UNTIL_TOLD)
    running(user, urgent)
    until(lambda: user.status(run_id)["shards"][0]["state"] == "pending", what="the preempted shard in the queue again")
    assert user.status(run_id)["status"] in ("pending", "running")
    end(user, urgent)
    end(user, run_id)
    assert user.hpcrun("wait", "-q", urgent).returncode == 0
    restart(user, shard["job"])
    assert user.hpcrun("wait", "-q", run_id, timeout=240).returncode == 0
    assert user.status(run_id)["shards"][0]["attempts"] == 2
    assert user.hpcrun("logs", run_id, "--attempt", "0").stdout == ""
    assert user.hpcrun("logs", run_id).stdout == "attempt 1 ends\n"


def test_the_supervisor_of_a_shard_is_killed(user: User, login: Login) -> None:
    """Its program is gone within seconds, and the shard is a failed one; the other shard goes on."""
    script = 'echo $$ $PPID >"$HPCRUN_RESULTS_DIR/of.$HPCRUN_SHARD_INDEX"; ' + UNTIL_TOLD
    run_id = user.submit("-N", "2", "--", "bash", "-c", script)
    node = running(user, run_id, 2)[1]["node"]
    program, supervisor = user.read(f"{user.home}/runs/{run_id}/results/of.1").split()
    assert login("kill", "-9", supervisor, node=node).returncode == 0
    until(lambda: login("test", "-e", f"/proc/{program}", node=node).returncode != 0, 15, "the end of the program")
    until(lambda: user.status(run_id)["shards"][1]["state"] == "failed", 30, "the shard's end")
    end(user, run_id)
    assert user.hpcrun("wait", "-q", run_id).returncode == 3
    assert [shard["state"] for shard in user.status(run_id)["shards"]] == ["succeeded", "failed"]


COUNTS_SIGNALS = """
import os, signal
awaited = (signal.SIGUSR1, signal.SIGUSR2)
signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
print("ready", flush=True)
while not os.path.exists(os.environ["HPCRUN_RESULTS_DIR"] + "/end"):
    got = signal.sigtimedwait(awaited, 0.1)
    if got:
        print(signal.Signals(got.si_signo).name, flush=True)
"""


def test_signals_reach_the_program_once(user: User) -> None:
    """Sent to the batch process alone or to every process of the job, a program gets a signal one time."""
    program = user.write("counts.py", COUNTS_SIGNALS)
    run_id = user.submit("-N", "2", "--", "python3", program)
    job = running(user, run_id, 2)[0]["job"].partition("_")[0]
    until(lambda: user.hpcrun("logs", run_id, "-s", "1").stdout == "ready\n", what="the program ready")
    user.ok("scancel", "--batch", "--signal=USR1", f"{job}_1")
    until(lambda: "SIGUSR1" in user.hpcrun("logs", run_id, "-s", "1").stdout, what="SIGUSR1")
    user.ok("scancel", "--full", "--signal=USR2", f"{job}_1")
    until(lambda: "SIGUSR2" in user.hpcrun("logs", run_id, "-s", "1").stdout, what="SIGUSR2")
    end(user, run_id)
    assert user.hpcrun("wait", "-q", run_id).returncode == 0
    assert user.hpcrun("logs", run_id, "-s", "1").stdout == "ready\nSIGUSR1\nSIGUSR2\n"
    assert user.hpcrun("logs", run_id, "-s", "0").stdout == "ready\n"


def test_nodes_without_that_python(user: User) -> None:
    """The shards have failed before their program, and the report has Slurm's own output, which names it."""
    done = user.sh("HPCRUN_NODE_PYTHON=/no/such/python exec hpcrun run -N 2 -- touch ran")
    assert done.returncode == 1
    assert "/no/such/python" in done.stdout
    assert [shard["cause"] for shard in user.status("last")["shards"]] == ["launch_failed"] * 2
    assert user.login("test", "-e", f"{user.folder}/ran").returncode == 1
    assert "/no/such/python" in user.hpcrun("status", "last").stdout


def test_the_follower_is_killed(user: User) -> None:
    """The run goes on, and anybody can wait for its outcome."""
    follow = 'setsid hpcrun run -N 2 -- bash -c "$1" >follower.out 2>&1 & echo $!'
    follower = user.sh(follow, f"{UNTIL_TOLD}; exit $HPCRUN_SHARD_INDEX").stdout.strip()
    run_id = until(lambda: user.sh('ls "$HPCRUN_HOME/runs"').stdout.strip(), what="the run")
    running(user, run_id, 2)
    user.ok("kill", "-9", follower)
    assert user.status(run_id)["counts"] == {"running": 2}
    end(user, run_id)
    assert user.hpcrun("wait", "-q", run_id).returncode == 3
    assert user.hpcrun("logs", run_id, "-s", "1").stdout == "attempt 0 ends\n"
