"""Real limits of a partition, an association and a QOS: refused before anything is queued, or packed to fit."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from containers import Login, User, up
from waiting import until

SETUP = """
sacctmgr -iQ add qos tight set MaxWall=00:30:00 MaxTRESPerJob=cpu=4 MaxJobsPerUser=2 MaxSubmitJobsPerUser=12
sacctmgr -iQ modify user user account=users set QosLevel=normal,tight MaxSubmitJobs=20 MaxWall=01:00:00
scontrol update partition=low MaxTime=00:30:00
scontrol update partition=high State=DRAIN
"""
CLEANUP = """
scontrol update partition=low MaxTime=INFINITE
scontrol update partition=high State=UP
sacctmgr -iQ modify user user account=users set QosLevel=normal MaxSubmitJobs=-1 MaxWall=-1
sacctmgr -iQ delete qos tight
"""
KNOWN = ("MaxSubmitJobs=20(0) MaxWallPJ=60", "QOS=tight")


def ctl(login: Login, script: str) -> None:
    """Shell code of an administrator's."""
    done = login("bash", "-ec", script, user="root", node="slurmctld")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module", autouse=True)
def limits(login: Login) -> Iterator[None]:
    """Slurm enforces limits while this module's tests run: 20 jobs and an hour, and less in a QOS and a partition."""
    up("--enforce-limits")
    said = lambda: login("scontrol", "show", "assoc_mgr", "flags=assoc,qos", "users=user").stdout  # noqa: E731
    try:
        ctl(login, SETUP)
        until(lambda: all(words in said() for words in KNOWN), what="limits that slurmctld knows")
        yield
        login("scancel", "--me")
        until(lambda: not login("squeue", "--noheader", "--me").stdout, what="an empty queue")
        ctl(login, CLEANUP)
    finally:
        up()


def refused(user: User, in_queue: Callable[[], str], *args: str) -> str:
    """What `hpcrun submit` says when it refuses: exit code 2, nothing queued and nothing written."""
    done = user.hpcrun("submit", *args)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert in_queue() == ""
    assert user.sh('ls "$HPCRUN_HOME/runs" 2>/dev/null').stdout == ""
    return done.stderr.removeprefix("hpcrun: error: ").rstrip("\n")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (
            ("-p", "low", "--timeout", "1h", "true"),
            "--timeout: found a time limit of 1h2m (timeout 1h), and partition low allows 30m (MaxTime); "
            "wanted a timeout of 28m50s at most, or another partition",
        ),
        (
            ("--time", "2:00:00", "true"),
            "sbatch's options: found a time limit of 2h, and user user in account users allows 1h (MaxWall); "
            "wanted 1h at most, or another account",
        ),
        (
            ("--qos", "tight", "--time", "0-1", "true"),
            "sbatch's options: found a time limit of 1h, and QOS tight allows 30m (MaxWall); "
            "wanted 30m at most, or another QOS",
        ),
        (
            ("--qos", "tight", "--timeout", "1m", "--cpus", "5", "true"),
            "--cpus: found 5 CPUs a job, and QOS tight allows 4 CPUs (MaxTRESPerJob); "
            "wanted 4 CPUs at most, or another QOS",
        ),
        (
            ("-p", "high", "--timeout", "1m", "true"),
            "sbatch's options: found partition high, which takes no jobs now (State DRAIN); wanted another partition",
        ),
        (
            ("-N", "50", "--qos", "tight", "--timeout", "20m", "true"),
            "--shards: found 50 shards, of which an element has to run 5, for QOS tight leaves room for 12 jobs in the "
            "queue (MaxSubmitJobsPerUser 12): a time limit of 1h42m for 5 shards one after the other (timeout 20m each)"
            ", and QOS tight allows 30m (MaxWall); wanted fewer shards, a timeout of 5m38s at most, or another QOS",
        ),
    ],
)
def test_refused(user: User, in_queue: Callable[[], str], args: tuple[str, ...], said: str) -> None:
    """Before anything is queued: whose limit, the demand, and what would do. Slurm would keep most of it waiting."""
    assert refused(user, in_queue, *args) == said


def test_what_is_said_to_fit_does(user: User) -> None:
    """The timeout that the message wants is one that Slurm runs."""
    done = user.hpcrun("run", "-p", "low", "--timeout", "28m50s", "true")
    assert done.returncode == 0, done.stderr


def test_fifty_shards_where_twenty_jobs_may_be_queued(user: User, in_queue: Callable[[], str]) -> None:
    """Elements run three shards each: all are in the queue at once, all run once, and nobody follows."""
    run_id = user.submit(
        "-N", "50", "--timeout", "1m", "--", "sh", "-c", 'echo once >>"$HPCRUN_RESULTS_DIR/$HPCRUN_SHARD_INDEX"'
    )
    queued = user.ok("squeue", "--noheader", "--array", "--me", "--states=all", "--format=%i").split()
    (job,) = user.status(run_id)["jobs"]
    assert len([element for element in queued if element.startswith(f"{job}_")]) == 17
    until(lambda: in_queue() == "", what="an empty queue")
    status = user.status(run_id)
    assert (status["status"], status["completedIndexes"]) == ("succeeded", "0-49")
    results = user.sh('cd "$HPCRUN_HOME/runs/$1/results" && grep -c once *', run_id).stdout.split()
    assert sorted(results) == sorted(f"{shard}:1" for shard in range(50))
    assert json.loads(user.hpcrun("compile", "--json", "-N", "50", "--timeout", "1m", "true").stdout)["plan"][
        "reason"
    ] == (
        "50 independent shards: one job array of 17 elements, which run up to 3 shards one after the other "
        "(user user in account users leaves room for 20 jobs in the queue: MaxSubmitJobs 20)"
    )


def test_what_others_have_queued_counts(user: User, in_queue: Callable[[], str]) -> None:
    """With 15 of 20 taken, elements run four of 20 shards; with all of them taken a run is refused."""
    ids = user.ok("sbatch", "--parsable", "--hold", "--array=0-14", "--time=1", "--output=/dev/null", "--wrap=true")
    done = user.hpcrun("compile", "-N", "20", "--timeout", "1m", "true")
    assert "one job array of 5 elements, each of which runs 4 shards" in done.stdout
    assert "MaxSubmitJobs 20, 15 of them taken" in done.stdout
    done = user.hpcrun("submit", "-N", "20", "--timeout", "1m", "--hold", "true")
    assert done.returncode == 0, done.stderr
    done = user.hpcrun("submit", "-N", "2", "--timeout", "1m", "true")
    assert (done.returncode, done.stderr) == (
        2, "hpcrun: error: --shards: found 2 jobs to queue, and user user in account users leaves no room for another "
        "one (MaxSubmitJobs 20, 20 of them taken); wanted to wait until some of them have ended\n",
    )  # fmt: skip
    assert user.hpcrun("cancel", "last").returncode == 0
    user.ok("scancel", ids.strip())
    until(lambda: in_queue() == "", what="an empty queue")


def test_workers_are_jobs_of_their_own(user: User, in_queue: Callable[[], str]) -> None:
    """Slurm counts each component of a heterogeneous job; shards with workers cannot be packed."""
    spec = {
        "command": ["true"],
        "shards": 15,
        "topology": "het",
        "timeout": "1m",
        "worker": {"command": ["sleep", "9"]},
    }
    said = refused(user, in_queue, user.write("run.yaml", json.dumps({**spec, "start_timeout": "1m"})))
    assert said.endswith(
        "shards: found 30 jobs to queue, and user user in account users leaves room for 20 (MaxSubmitJobs 20); "
        "wanted 10 at most: shards with workers are jobs of their own"
    )


def test_what_slurm_charged(user: User, login: Login) -> None:
    """`hpcrun usage` has the compute-seconds of each attempt, and what accounting has of every start."""
    done = user.hpcrun("run", "-N", "4", "--qos", "tight", "--cpus", "2", "--timeout", "1m", "--", "sleep", "1.5")
    assert done.returncode == 0, done.stderr
    assert "at most 2 at once (QOS tight: MaxTRESPerJob" not in done.stderr
    assert "at most 2 at once (QOS tight: MaxJobsPerUser 2)" in done.stderr

    def used() -> dict[str, float] | None:
        found = json.loads(user.hpcrun("usage", "--json").stdout)
        assert (found["units"], found["attempts"], found["lost"]["attempts"]) == (2, 4, 0)
        assert 4 * 2 * 1.5 <= found["compute_seconds"] < 4 * 2 * 10
        charged: dict[str, float] = found["slurm"]
        return charged if charged["starts"] == 4 and charged["cpu_seconds"] >= 4 * 2 else None

    charged = until(used, what="four elements in accounting")
    assert charged["cpu_seconds"] == charged["billing_seconds"] == 2 * charged["wall_seconds"]
    assert "Slurm charged: " in user.hpcrun("usage", "last").stdout
