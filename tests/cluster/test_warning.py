"""The warning before the end on a real cluster: by the runtime's clock, by Slurm's, and at a preemption."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from containers import RELEASE, Login, User
from gangs import gone
from trouble import running
from waiting import until

COUNTS = """
# Leaves a line for each warning: the signal and how old it was. A worker listens; a job may end with its warning.
import os, signal, socket, sys, time
began, env = time.time(), os.environ
who = env["HPCRUN_ROLE"] + env["HPCRUN_SHARD_INDEX"] + env["HPCRUN_REPLICA_INDEX"]
if "ranks" in sys.argv:
    who += "." + env["SLURM_PROCID"]
def told(number, frame):
    with open(env["HPCRUN_RESULTS_DIR"] + "/told." + who, "a") as file:
        file.write(f"{signal.Signals(number).name} {time.time() - began}\\n")
    if "ends" in sys.argv:
        os._exit(0)
signal.signal(signal.SIGUSR1, told)
signal.signal(signal.SIGUSR2, told)
if env["HPCRUN_ROLE"] == "worker":
    listener = socket.create_server(("", int(env["HPCRUN_PORT_RPC"])))
while True:
    time.sleep(0.05)
"""


@pytest.fixture
def counts(user: User) -> list[str]:
    """The command that counts its warnings."""
    return ["python3", user.write("counts.py", COUNTS)]


def warnings(user: User, run_id: str) -> dict[str, list[str]]:
    """The signals that each process of a run has left word of."""
    lines = user.sh('cd "$HPCRUN_HOME/runs/$1/results" && grep -s "" told.* /dev/null', run_id).stdout.splitlines()
    found: dict[str, list[str]] = {}
    for line in lines:
        who, _, said = line.removeprefix("told.").partition(":")
        found.setdefault(who, []).append(said.split()[0])
    return found


def ages(user: User, run_id: str) -> list[float]:
    """How many seconds old the processes of a run were when they were warned."""
    said = user.sh('cat "$HPCRUN_HOME/runs/$1"/results/told.*', run_id).stdout
    return [float(line.split()[1]) for line in said.splitlines()]


def ended(user: User, spec: dict[str, Any], code: int) -> str:
    """The id of a run of `spec` that has ended with `code`."""
    run_id = user.submit_spec(spec)
    waited = user.hpcrun("wait", "-q", run_id)
    assert waited.returncode == code, waited.stderr + user.hpcrun("logs", run_id).stdout
    return run_id


def test_before_the_timeout(user: User, counts: list[str]) -> None:
    """Each shard of an array is warned once; what its program does then is its own end."""
    run_id = ended(user, {"command": [*counts, "ends"], "shards": 3, "timeout": 8, "signal": "USR2@4"}, 0)
    assert warnings(user, run_id) == {f"job{shard}0": ["SIGUSR2"] for shard in range(3)}
    assert all(3 < age < 7 for age in ages(user, run_id))


@pytest.mark.parametrize("topology", ["het", "flat"])
def test_a_job_and_its_workers(user: User, counts: list[str], topology: str) -> None:
    """The workers are warned with their job, on their own nodes, and nobody twice."""
    worker = {"command": counts, "endpoints": {"rpc": "auto"}, "replicas": 2}
    spec = {"command": counts, "worker": worker, "timeout": 6, "signal": "USR2@4", "topology": topology}
    run_id = ended(user, spec, 124)
    assert warnings(user, run_id) == {who: ["SIGUSR2"] for who in ("job00", "worker00", "worker01")}
    gone(user, run_id)


def test_shards_of_a_gang(user: User, counts: list[str]) -> None:
    """All shards of a gang are warned, each once."""
    run_id = ended(user, {"command": [*counts, "ends"], "shards": 3, "gang": True, "timeout": 9, "signal": "USR1@5"}, 0)
    assert warnings(user, run_id) == {f"job{shard}0": ["SIGUSR1"] for shard in range(3)}


def test_ranks(user: User, counts: list[str]) -> None:
    """Every rank of a parallel program is warned once: srun hands the signal on."""
    spec = {"command": [*counts, "ends", "ranks"], "tasks": 4, "nodes": 2, "timeout": 10, "signal": "USR2@5"}
    run_id = ended(user, spec, 0)
    assert warnings(user, run_id) == {f"job00.{rank}": ["SIGUSR2"] for rank in range(4)}


def test_before_slurms_own_limit(user: User, counts: list[str]) -> None:
    """Where the spec gives no timeout it is Slurm that warns, in time before the limit of the job."""
    run_id = ended(user, {"command": [*counts, "ends"], "sbatch": {"time": 1}, "signal": "USR2@30"}, 0)
    assert warnings(user, run_id) == {"job00": ["SIGUSR2"]}
    assert ages(user, run_id)[0] <= 31


@pytest.fixture
def warned_of_preemption(login: Login) -> Iterator[None]:
    """Slurm sends the warning at a preemption, too, and lets half a minute pass before it ends the job."""

    def configure(script: str) -> None:
        done = login("bash", "-c", f"{script} && scontrol reconfigure", node="slurmctld", user="root")
        assert done.returncode == 0, done.stderr

    configure("echo PreemptParameters=send_user_signal >> /etc/slurm/slurm.conf")
    until(lambda: "send_user_signal" in login("scontrol", "show", "config").stdout, what="the new configuration")
    grace = ("scontrol", "update", "partition=low")
    assert login(*grace, "GraceTime=30", node="slurmctld", user="root").returncode == 0
    yield
    login(*grace, "GraceTime=0", node="slurmctld", user="root")
    configure("sed -i /send_user_signal/d /etc/slurm/slurm.conf")


@pytest.mark.skipif(RELEASE == "22.05", reason="22.05 has no PreemptParameters, with which a site asks for it")
@pytest.mark.usefixtures("warned_of_preemption")
def test_preemption(user: User, counts: list[str]) -> None:
    """A site that wants it so has Slurm warn a program as soon as its node is wanted; what it does then counts."""
    sbatch = {"partition": "low", "exclusive": True, "nodelist": "c1"}
    run_id = user.submit_spec({"command": [*counts, "ends"], "sbatch": sbatch, "signal": "USR2@30"})
    running(user, run_id)
    high = user.submit("-p", "high", "--exclusive", "--nodelist", "c1", "--", "true")
    waited = user.hpcrun("wait", "-q", run_id, timeout=120)
    assert waited.returncode == 0, waited.stderr
    assert warnings(user, run_id) == {"job00": ["SIGUSR2"]}
    assert user.status(run_id)["shards"][0]["attempts"] == 1
    assert user.hpcrun("wait", "-q", high).returncode == 0
