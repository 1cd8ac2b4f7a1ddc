"""Nodes die, fall silent, and come back when their work has been given to somebody else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from containers import Login, User, container, docker
from gangs import asked, gone, with_workers
from trouble import UNTIL_TOLD, end, frozen, running
from waiting import until

SEES_ITS_SIGN = """
# Commits its attempt as the one effect of its shard when it is told to (go.ATTEMPT), or exits with 7 (fail.ATTEMPT).
cd "$HPCRUN_RESULTS_DIR"
touch "up.$HPCRUN_ATTEMPT"
until [ -e "go.$HPCRUN_ATTEMPT" ]; do [ ! -e "fail.$HPCRUN_ATTEMPT" ] || exit 7; sleep 0.02; done
echo "$HPCRUN_ATTEMPT" >"own.$HPCRUN_ATTEMPT"
ln "own.$HPCRUN_ATTEMPT" effect 2>/dev/null || true
"""


def declared_down(login: Login, node: str) -> None:
    """Have Slurm give a node up now, and not when it has been silent for long enough."""
    for state in ("drain", "down"):  # drained too: a late answer to an old question would bring it back
        command = ("scontrol", "update", f"nodename={node}", f"state={state}", "reason=silent")
        assert login(*command, user="root", node="slurmctld").returncode == 0


def nodes_back(login: Login) -> None:
    """Wait until all nodes take jobs, as after a repair."""

    resume = "for node in c1 c2 c3 c4; do scontrol update nodename=$node state=resume; done"

    def back() -> bool:
        login("bash", "-c", resume, user="root", node="slurmctld")
        return set(login("sinfo", "-hN", "-o", "%T").stdout.split()) <= {"idle", "mixed", "allocated"}

    until(back, 120, "four nodes")


@contextlib.contextmanager
def killed(login: Login, node: str) -> Iterator[None]:
    """A node is gone; back at the end."""
    docker("kill", container(node))
    try:
        yield
    finally:
        docker("start", container(node))
        nodes_back(login)


def results(user: User, run_id: str) -> set[str]:
    return set(user.sh('ls "$HPCRUN_HOME/runs/$1/results"', run_id).stdout.split())


def sign(user: User, run_id: str, name: str) -> None:
    user.ok("touch", f"{user.home}/runs/{run_id}/results/{name}")


@contextlib.contextmanager
def hung(user: User, login: Login, node: str) -> Iterator[None]:
    """Slurm's daemons on a node hang; what they have started goes on."""
    assert login("pkill", "-STOP", "-x", "slurmd|slurmstepd", node=node, user="root").returncode == 0
    try:
        yield
    finally:
        login("pkill", "-CONT", "-x", "slurmd|slurmstepd", node=node, user="root")


@contextlib.contextmanager
def silent(user: User, login: Login, node: str) -> Iterator[None]:
    """A node stands still."""
    with frozen(node):
        yield


RETURNS = [
    (silent, "fails"), (hung, "fails"), pytest.param(silent, "goes on", marks=pytest.mark.full),
    pytest.param(silent, "succeeds", marks=pytest.mark.full), pytest.param(hung, "succeeds", marks=pytest.mark.full),
]  # fmt: skip


@pytest.mark.parametrize(("lost", "old"), RETURNS, ids=lambda value: getattr(value, "__name__", value))
def test_a_node_returns_after_its_work_was_given_to_another(user: User, login: Login, lost: Any, old: str) -> None:
    """What it still runs changes nothing: one effect, the new attempt is not disturbed, the old one is gone."""
    run_id = user.submit("--retries", "1", "--", "bash", "-c", SEES_ITS_SIGN)
    first = running(user, run_id)[0]
    until(lambda: "up.0" in results(user, run_id), what="the program")
    with lost(user, login, first["node"]):
        declared_down(login, first["node"])
        follower = user.sh('setsid hpcrun wait -q "$1" >/dev/null 2>&1 & echo $!', run_id).stdout.strip()
        until(lambda: "up.1" in results(user, run_id), what="the second attempt")
        if old != "goes on":
            sign(user, run_id, {"fails": "fail.0", "succeeds": "go.0"}[old])
        if lost is hung:
            ended = f"{user.home}/runs/{run_id}/records/0/000/0.jsonl"
            until(lambda: '"event":"end"' in user.read(ended), what="the end of the old attempt")
    nodes_back(login)
    until(lambda: not old_processes(user, run_id, first["node"]), what="the end of what the node still ran")
    second = user.status(run_id)["shards"][0]
    if "own.0" not in results(user, run_id):
        assert (second["state"], second["attempts"]) == ("running", 2)
        assert second["node"] != first["node"]
        assert user.ok("squeue", "-h", "-j", first["job"], "-o", "%T").strip() == "RUNNING"
    sign(user, run_id, "go.1")
    assert user.hpcrun("wait", "-q", run_id).returncode == 0
    shard = user.status(run_id)["shards"][0]
    assert (shard["state"], shard["attempts"]) == ("succeeded", 2)
    effect = user.read(f"{user.home}/runs/{run_id}/results/effect")
    assert effect == ("0\n" if "own.0" in results(user, run_id) else "1\n")
    until(lambda: user.login("test", "-e", f"/proc/{follower}").returncode != 0, what="the end of the follower")
    gone(user, run_id)


def old_processes(user: User, run_id: str, node: str) -> list[str]:
    return [line for line in user.left(run_id).splitlines() if line.startswith(f"{node}:")]


@pytest.mark.full
def test_a_node_is_killed(user: User, login: Login) -> None:
    """Slurm notices by itself, and the shard runs to its end on another node."""
    run_id = user.submit("-N", "2", "--", "bash", "-c", UNTIL_TOLD)
    first = running(user, run_id, 2)[0]
    with killed(login, first["node"]):
        until(lambda: user.status(run_id)["shards"][0]["state"] == "pending", 120, "Slurm's notice")
        end(user, run_id)
        assert user.hpcrun("wait", "-q", run_id).returncode == 0
        second = user.status(run_id)["shards"][0]
        assert (second["state"], second["attempts"]) == ("succeeded", 2)
        assert second["node"] != first["node"]
    gone(user, run_id)


@pytest.mark.full
def test_a_silent_node_is_noticed_by_slurm(user: User, login: Login) -> None:
    """Nobody has to say that it is down: its shard runs elsewhere, with nobody following until then."""
    run_id = user.submit("--", "bash", "-c", SEES_ITS_SIGN)
    first = running(user, run_id)[0]
    with frozen(first["node"]):
        until(lambda: user.status(run_id)["shards"][0]["state"] == "pending", 180, "Slurm's notice")
        sign(user, run_id, "go.1")
        assert user.hpcrun("wait", "-q", run_id).returncode == 0
    nodes_back(login)
    shard = user.status(run_id)["shards"][0]
    assert (shard["state"], shard["attempts"]) == ("succeeded", 2)
    gone(user, run_id)


LOST = {
    "worker's node killed": ("worker.0.1.0", "kill"),
    "job's node killed": ("job.0.0", "kill"),
    "job's node silent": ("job.0.0", "pause"),
}


@pytest.mark.full
@pytest.mark.parametrize("how", LOST)
def test_a_node_of_a_gang_is_lost(user: User, login: Login, how: str) -> None:
    """All of it starts again together, and succeeds; whoever was left alone has ended itself."""
    user.write("hpcrun.toml", 'lost_after = "3s"\n')
    leaves, command = LOST[how]
    run_id = user.submit_spec(with_workers(user, 2, job="0.0", topology="het"))
    until(lambda: user.results(run_id, "job.*"), what="the job")
    node = user.results(run_id, "*")[leaves]["node"]
    docker(command, container(node))
    try:
        until(lambda: "job.0.1" in user.results(run_id, "job.*") or follow(user, run_id), 240, "the second attempt")
    finally:
        docker("unpause" if command == "pause" else "start", container(node))
        nodes_back(login)
    user.end(run_id)
    assert user.hpcrun("wait", "-q", run_id).returncode == 0
    (shard,) = user.status(run_id)["shards"]
    assert shard["state"] == "succeeded"
    again = user.results(run_id, "*")[f"job.0.{shard['attempts'] - 1}"]
    assert asked(again) == [f"{run_id} 0 0", f"{run_id} 0 1"]
    gone(user, run_id)


def follow(user: User, run_id: str) -> bool:
    """Follow a run for some seconds, as somebody does who waits for it."""
    user.sh('timeout 8 hpcrun wait -q "$1"', run_id)
    return False
