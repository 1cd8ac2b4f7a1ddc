"""What becomes of jobs with workers when something dies, hangs, falls silent or is cancelled, on the real cluster."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from containers import Login, User
from gangs import asked, gone, with_workers
from trouble import fall_silent, frozen
from waiting import until


def under_way(user: User, **more: Any) -> tuple[str, dict[str, Any]]:
    """A run of a job with two workers that has met them and waits for its end: its id, and what they have left."""
    run_id = user.submit_spec(with_workers(user, 2, job="0.0", **more))
    until(lambda: user.results(run_id, "job.*"), what="the job")
    return run_id, user.results(run_id, "*")


def ended(user: User, run_id: str) -> dict[str, Any]:
    """The only shard of a run, as soon as it has ended."""
    user.hpcrun("wait", "-q", run_id)
    (shard,) = user.status(run_id)["shards"]
    found: dict[str, Any] = shard
    return found


KILLED = {
    "worker exits": ("worker.0.1.0", "process", "USR1", "failed", "worker 1 on c2 exited with code 3"),
    "worker": ("worker.0.1.0", "process", "KILL", "failed", "worker 1 on c2 was killed by signal 9"),
    "agent": ("worker.0.1.0", "agent", "KILL", "lost", "worker 1 on c2: its supervisor was killed"),
    "supervisor": ("job.0.0", "supervisor", "KILL", "lost", ""),
}


@pytest.mark.parametrize("whom", KILLED)
def test_one_dies(user: User, whom: str) -> None:
    """The attempt fails within seconds and says who it was; nothing of the others is left on any node."""
    leaves, which, signal, cause, text = KILLED[whom]
    run_id, found = under_way(user, retries={"launch_failed": 0})
    killed = time.time()
    victim = found[leaves]
    user.ok("kill", f"-{signal}", str(victim[which]), node=victim["node"])
    shard = ended(user, run_id)
    assert (shard["state"], shard["cause"]) == ("failed", cause)
    assert shard["detail"].startswith(text)
    assert text in user.hpcrun("logs", run_id).stdout
    assert shard["ended"] is None or shard["ended"] - killed < 15
    gone(user, run_id)


def test_one_that_was_killed_is_no_failure_of_the_program(user: User) -> None:
    """What kills an agent is not the program's doing: all of the gang starts again, from another budget."""
    run_id, found = under_way(user)
    victim = found["worker.0.1.0"]
    user.ok("kill", "-KILL", str(victim["agent"]), node=victim["node"])
    user.end(run_id)
    assert user.hpcrun("wait", "-q", run_id).returncode == 0
    (shard,) = user.status(run_id)["shards"]
    assert (shard["state"], shard["attempts"]) == ("succeeded", 2)
    gone(user, run_id)


CANCELS = {
    "leader": 'scancel "$2"',
    "component 1": 'scancel "$2+1"',
    "hpcrun": 'hpcrun cancel "$1"',
}


@pytest.mark.parametrize("how", CANCELS)
def test_cancelled_while_the_job_runs(user: User, how: str) -> None:
    """Whatever is cancelled with whichever command, the run is cancelled and nothing of it is left."""
    run_id, _ = under_way(user)
    done = user.sh(CANCELS[how], run_id, user.status(run_id)["jobs"][0])
    assert done.returncode == 0, done.stderr
    assert user.hpcrun("wait", "-q", run_id).returncode == 130
    assert user.status(run_id)["status"] == "cancelled"
    gone(user, run_id)


@pytest.mark.parametrize("how", ["leader", "hpcrun"])
def test_cancelled_while_the_workers_start(user: User, how: str) -> None:
    """The job never starts, and no worker goes on."""
    run_id = user.submit_spec(with_workers(user, 2, worker="never"))
    until(lambda: user.results(run_id, "worker.0.1.*"), what="the worker that listens")
    assert user.status(run_id)["status"] == "starting"
    user.sh(CANCELS[how], run_id, user.status(run_id)["jobs"][0])
    assert user.hpcrun("wait", "-q", run_id).returncode == 130
    assert user.results(run_id, "job.*") == {}
    gone(user, run_id)


def test_one_element_is_cancelled(user: User) -> None:
    """The workers of that shard end with it; the other shard goes on with its own."""
    run_id = user.submit_spec(with_workers(user, 2, job="0.0 1.0", shards=2))
    until(lambda: len(user.results(run_id, "job.*")) == 2, what="two jobs")
    alive = len(user.left(run_id).splitlines())
    user.ok("scancel", user.status(run_id)["shards"][1]["job"])
    until(lambda: user.status(run_id)["shards"][1]["state"] == "cancelled", what="a cancelled shard")
    until(lambda: len(user.left(run_id).splitlines()) == alive / 2, 15, "the end of half the processes")
    user.end(run_id)
    assert user.hpcrun("wait", "-q", run_id).returncode == 3
    assert user.status(run_id)["counts"] == {"succeeded": 1, "cancelled": 1}
    gone(user, run_id)


def test_a_worker_that_never_listens(user: User) -> None:
    """The run fails when the time for its start is up, and names the worker, its node, its port and its last words."""
    spec = with_workers(user, 2, worker="never", start_timeout="2s")
    done = user.hpcrun("run", user.write("run.yaml", json.dumps(spec)))
    assert done.returncode == 1
    said = "not ready within 2 s: worker 0 on c2: endpoint rpc: nothing listens on port "
    assert said in done.stdout
    assert "  worker 0 starts\n" in done.stdout, "the end of the worker's log"
    run_id = user.sh('ls "$HPCRUN_HOME/runs"').stdout.strip()
    assert user.results(run_id, "job.*") == {}
    gone(user, run_id)


def test_the_exit_code_is_the_jobs(user: User) -> None:
    """The run exits as its job does; its workers are ended, however long they would have served."""
    spec = {**with_workers(user, 2), "command": ["bash", "-c", "exit 9"]}
    assert user.hpcrun("run", user.write("run.yaml", json.dumps(spec))).returncode == 9
    run_id = user.sh('ls "$HPCRUN_HOME/runs"').stdout.strip()
    gone(user, run_id)


def test_the_node_of_workers_falls_silent(user: User) -> None:
    """It is noticed without Slurm's word, the job goes back into the queue, and all of it starts again together."""
    user.write("hpcrun.toml", 'lost_after = "3s"\n')
    run_id, found = under_way(user, sbatch={"nodelist": "c1"})
    node = found["worker.0.1.0"]["node"]
    assert f"on {node}: its node is silent" in fall_silent(user, run_id, node)
    assert user.hpcrun("wait", "-q", run_id).returncode == 0
    (shard,) = user.status(run_id)["shards"]
    assert (shard["state"], shard["attempts"]) == ("succeeded", 2)
    again = user.results(run_id, "*")["job.0.1"]
    assert asked(again) == [f"{run_id} 0 0", f"{run_id} 0 1"]
    gone(user, run_id)


STAYS = """
trap 'touch "$HPCRUN_RESULTS_DIR/told"' TERM
touch "$HPCRUN_RESULTS_DIR/up"
while :; do sleep 0.1; done
"""


def test_scancel_after_the_loss_of_a_node(user: User, in_queue: Callable[[], str]) -> None:
    """What was cancelled while it was being ended for a lost node does not come back into the queue."""
    user.write("hpcrun.toml", 'lost_after = "2s"\ngrace = "4s"\n')
    spec = {**with_workers(user, 1, topology="het", sbatch={"nodelist": "c1"}), "command": ["bash", "-c", STAYS]}
    run_id = user.submit_spec(spec)
    results = f"{user.home}/runs/{run_id}/results"
    until(lambda: user.sh(f"test -e {results}/up").returncode == 0, what="the job")
    job = user.status(run_id)["jobs"][0]
    node = user.results(run_id, "worker.*")["worker.0.0.0"]["node"]
    with frozen(node):
        until(lambda: user.sh(f"test -e {results}/told").returncode == 0, what="the end of the job's time")
        user.ok("scancel", job)
        until(lambda: f"{job}+0" not in user.ok("squeue", "--noheader", "--me", "--format=%i"), what="the job's end")
    until(lambda: in_queue() == "", what="an empty queue")
    assert user.sh('grep -l node_failed "$HPCRUN_HOME"/runs/*/records/*/*/*').stdout.count("jsonl") == 1
    assert user.ok("scontrol", "show", "job", job).count("Restarts=0") == 2
    gone(user, run_id)


STRANGER = """
# Tries to pass for a worker, prints what it was answered, and leaves more connections behind than a process has files.
import json, os, resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
address, seat = (sys.argv[1], int(sys.argv[2])), {"role": "worker", "shard": 0, "replica": 1, "nonce": "0" * 32}
def answer(text):
    with socket.create_connection(address, 1) as hub:
        try:
            hub.sendall(text(json.loads(hub.makefile().readline())["nonce"]).encode())
            return hub.makefile().readline()
        except OSError:
            return ""
print(json.dumps([
    answer(lambda number: json.dumps({**seat, "proof": "0" * 64}) + "\\n"),
    answer(lambda number: json.dumps({**seat, "proof": number}) + "\\n"),
    answer(lambda number: "GET / HTTP/1.1\\r\\n\\r\\n"),
    answer(lambda number: "x" * 1000000),
]))
held = [socket.create_connection(address, 1) for _ in range(1200)]
if os.fork() == 0:
    for descriptor in range(3):
        os.close(descriptor)
    for hub in held:
        hub.settimeout(30)
        while hub.recv(4096):
            pass
"""


def test_strangers_are_kept_out(user: User, login: Login) -> None:
    """Another user can read no secret of a run, has no place in it, and cannot wear it out: it goes on undisturbed."""
    spec = user.write("run.yaml", json.dumps(with_workers(user, 2, job="0.0")))
    run_id = user.sh('ulimit -n 1024; exec hpcrun submit "$1"', spec).stdout.strip()
    until(lambda: user.results(run_id, "job.*"), what="the job")
    folder = f"{user.home}/runs/{run_id}"
    where = json.loads(user.read(f"{folder}/rendezvous/0.0"))
    other = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--")
    for name in ("rendezvous/0.0", "workers/0.0.json", "plan.json"):
        assert login(*other, "cat", f"{folder}/{name}", node="c3", user="root").returncode == 1
    words = ("python3", user.write("stranger.py", STRANGER), where["hosts"][0], str(where["port"]))
    tried = login(*other, *words, node="c3", user="root")
    assert (tried.stdout, tried.stderr) == ('["", "", "", ""]\n', "")
    user.end(run_id)
    assert user.hpcrun("wait", "-q", run_id).returncode == 0
    gone(user, run_id)
