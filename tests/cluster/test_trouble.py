"""Trouble on a real cluster: daemons that are away, nodes that crash, preemption, signals, killed processes."""

from __future__ import annotations

import time

from containers import Login, User
from trouble import UNTIL_TOLD, end, ended_by_records, restart, running, stopped
from waiting import until


def test_slurmctld_is_away(user: User, login: Login) -> None:
    """Status tells what the records say, and that Slurm could not be asked (69); a submit fails and leaves nothing."""
    script = f"[ $HPCRUN_SHARD_INDEX = 0 ] || {{ {UNTIL_TOLD}; }}"
    run_id = user.submit("-N", "3", "--", "bash", "-c", script)
    until(lambda: user.status(run_id)["counts"] == {"running": 2, "succeeded": 1}, what="one done, two running")
    with stopped(login, "slurmctld"):
        # What the queue said a second ago is believed still.
        asked = until(
            lambda: done if (done := user.hpcrun("status", run_id)).returncode == 69 else None, what="exit 69"
        )
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
    until(lambda: user.status(run_id)["shards"][0]["state"] != "running", what="the crash noticed")
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
    """Its program is gone within seconds, and the shard has failed, until somebody follows; the other one goes on."""
    script = 'echo $$ $PPID >"$HPCRUN_RESULTS_DIR/of.$HPCRUN_SHARD_INDEX"; ' + UNTIL_TOLD
    run_id = user.submit("-N", "2", "--", "bash", "-c", script)
    node = running(user, run_id, 2)[1]["node"]
    program, supervisor = user.read(f"{user.home}/runs/{run_id}/results/of.1").split()
    assert login("kill", "-9", supervisor, node=node).returncode == 0
    until(lambda: login("test", "-e", f"/proc/{program}", node=node).returncode != 0, 15, "the end of the program")
    until(lambda: user.status(run_id)["shards"][1]["state"] == "failed", what="the shard's end")
    end(user, run_id)
    assert user.hpcrun("wait", "-q", run_id).returncode == 0
    shards = user.status(run_id)["shards"]
    assert [(shard["state"], shard["attempts"]) for shard in shards] == [("succeeded", 1), ("succeeded", 2)]


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
    plan = until(lambda: user.sh('ls "$HPCRUN_HOME"/runs/*/plan.json').stdout.strip(), what="the run")
    run_id = plan.split("/")[-2]
    running(user, run_id, 2)
    user.ok("kill", "-9", follower)
    assert user.status(run_id)["counts"] == {"running": 2}
    end(user, run_id)
    assert user.hpcrun("wait", "-q", run_id).returncode == 3
    assert user.hpcrun("logs", run_id, "-s", "1").stdout == "attempt 0 ends\n"
