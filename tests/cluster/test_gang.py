"""Jobs with workers, and gangs of shards, on the real cluster: who starts when, who is told whose address."""

from __future__ import annotations

import itertools
import json

import pytest
from containers import User
from gangs import asked, gone, with_workers
from waiting import until


def test_the_job_waits_for_the_last_worker(user: User) -> None:
    """A worker that opens its port late holds the job back until then and no longer; logs are by role and replica."""
    done = user.hpcrun("run", user.write("run.yaml", json.dumps(with_workers(user, 6, worker="late"))))
    assert (done.returncode, done.stdout.count("job has asked 6\n")) == (0, 1), done.stderr
    run_id = user.sh('ls "$HPCRUN_HOME/runs"').stdout.strip()
    found = user.results(run_id, "*")
    (job,) = [facts for name, facts in found.items() if name == "job.0.0"]
    listening = [found[f"worker.0.{replica}.0"]["listens"] for replica in range(6)]
    assert listening[0] == max(listening) > sorted(listening)[-2] + 3, "the one that is late"
    assert 0 < job["began"] - listening[0] < 2
    assert asked(job) == [f"{run_id} 0 {replica}" for replica in range(6)]
    logs = {options: user.hpcrun("logs", run_id, *options).stdout for options in LOGS}
    assert logs == LOGS
    gone(user, run_id)


LOGS = {
    (): "job has asked 6\n",
    ("--role", "worker", "--replica", "3"): "worker 3 starts\n",
    ("--role", "worker", "--replica", "0,5"): "[worker-0] worker 0 starts\n[worker-5] worker 5 starts\n",
    ("--role", "all", "--replica", "4"): "[job] job has asked 6\n[worker-4] worker 4 starts\n",
}


@pytest.mark.parametrize(("topology", "replicas", "nodes"), [("het", 24, 3), ("flat", 31, 4)])
def test_every_address_is_the_workers_own(user: User, topology: str, replicas: int, nodes: int) -> None:
    """As many workers as the cluster holds: distinct addresses in the order of the replicas, each one's own."""
    run_id = user.submit_spec(with_workers(user, replicas, topology=topology))
    assert user.hpcrun("wait", "-q", run_id).returncode == 0, user.hpcrun("logs", run_id).stdout
    job = user.results(run_id, "job.*")["job.0.0"]
    assert asked(job) == [f"{run_id} 0 {replica}" for replica in range(replicas)]
    assert [said[3] for said in job["said"]] == job["nodes"] == [address.split(":")[0] for address in job["told"]]
    assert len(set(job["told"])) == replicas
    assert [node for node, _ in itertools.groupby(job["nodes"])] == sorted(set(job["nodes"])), "block by block"
    assert len(set(job["nodes"])) == nodes
    assert (job["node"] in job["nodes"]) == (topology == "flat")
    listed = json.loads(user.read(f"{user.home}/runs/{run_id}/workers/0.0.json"))
    assert [f"{worker['node']}:{worker['endpoints']['rpc']}" for worker in listed] == job["told"]


def test_two_runs_want_one_port_on_one_node(user: User) -> None:
    """The second ends with an error that names the port, and its job never starts; the first is not disturbed."""
    place = {"sbatch": {"nodelist": "c3", "exclude": "c1,c2"}}
    spec = with_workers(user, 1, job="0.0", topology="het", codespec={"endpoints": {"rpc": 18321}}, **place)
    first = user.submit_spec(spec)
    until(lambda: user.results(first, "job.*"), what="the first run's job")
    second = user.submit_spec(spec)
    assert user.hpcrun("wait", "-q", second).returncode == 1
    (shard,) = user.status(second)["shards"]
    assert shard["cause"] == "launch_failed"
    assert shard["detail"] == "worker 0 on c4: port 18321 is held by another hpcrun worker on this node"
    assert user.results(second, "*") == {}
    user.end(first)
    assert user.hpcrun("wait", "-q", first).returncode == 0
    assert user.results(first, "job.*")["job.0.0"]["told"] == ["c4:18321"]
    gone(user, first)
    gone(user, second)


@pytest.mark.parametrize("topology", ["auto", "het"])
def test_shards_with_workers_of_their_own(user: User, topology: str) -> None:
    """Eight jobs with three workers each, three at a time, nobody following; only the last one is requeued."""
    run_id = user.submit_spec(with_workers(user, 3, shards=8, max_parallel=3, topology=topology, job="7.0"))
    until(lambda: len(user.results(run_id, "job.*")) == 8, 120, "eight jobs that have asked their workers")
    shard = user.status(run_id)["shards"][7]
    user.ok("scontrol", "requeue", shard["job"])
    user.restart(shard["job"])
    assert user.hpcrun("wait", "-q", run_id).returncode == 0
    shards = user.status(run_id)["shards"]
    assert [shard["attempts"] for shard in shards] == [*[1] * 7, 2]
    found = user.results(run_id, "job.*")
    assert len(found) == 9
    for name, job in found.items():
        assert asked(job) == [f"{run_id} {name.split('.')[1]} {replica}" for replica in range(3)]
    assert most_at_once(user, run_id) <= 3
    assert len(user.status(run_id)["jobs"]) == (8 if topology == "het" else 1)
    gone(user, run_id)


def most_at_once(user: User, run_id: str) -> int:
    """The most attempts of a run that were under way at one moment."""
    records = user.sh('cat "$HPCRUN_HOME/runs/$1"/records/*/*/*.jsonl', run_id).stdout.splitlines()
    steps = {"start": 1, "end": -1}
    events = sorted((event["at"], steps.get(event["event"], 0)) for event in map(json.loads, records))
    return max(itertools.accumulate(step for _, step in events))


TELLS = """
# A shard of a gang: leaves its environment, and exits with the code in its argument where it is the shard named first.
import json, os, sys, time
env, folder = dict(os.environ), os.environ["HPCRUN_RESULTS_DIR"]
with open(f"{folder}/.shard.{env['RANK']}", "x") as file:
    json.dump(env, file)
os.rename(f"{folder}/.shard.{env['RANK']}", f"{folder}/shard.{env['RANK']}")
print("shard", env["RANK"], flush=True)
who, code, others = sys.argv[1:]
if env["RANK"] == who:
    sys.exit(int(code))
while others == "wait":
    time.sleep(0.05)
"""


def test_a_gang_of_shards(user: User) -> None:
    """Six shards start as one Slurm job, each with torch's variables and a log and an exit code of its own."""
    words = ("-N", "6", "--gang", "--set", "spec.fail_fast=false", "--cpus", "3", "--", "python3")
    done = user.hpcrun("run", *words, user.write("tells.py", TELLS), "4", "9", "go")
    assert done.returncode == 3, done.stdout + done.stderr
    status = user.status("last")
    assert (status["status"], len(status["jobs"])) == ("partial", 1)
    assert [shard["exit_code"] for shard in status["shards"]] == [0, 0, 0, 0, 9, 0]
    assert user.hpcrun("logs", "last").stdout == "".join(f"[{shard}] shard {shard}\n" for shard in range(6))
    found = [user.results(status["run_id"], "shard.*")[f"shard.{shard}"] for shard in range(6)]
    nodes = [env["SLURMD_NODENAME"] for env in found]
    assert nodes == [shard["node"] for shard in status["shards"]] == ["c1", "c1", "c2", "c2", "c3", "c3"]
    assert [env["NODE_RANK"] + env["LOCAL_RANK"] + env["LOCAL_WORLD_SIZE"] for env in found] == [
        "002", "012", "102", "112", "202", "212"
    ]  # fmt: skip
    assert {(env["WORLD_SIZE"], env["MASTER_ADDR"], env["SYLPHX_SHARD_COUNT"]) for env in found} == {("6", "c1", "6")}
    assert len({env["MASTER_PORT"] for env in found}) == 1
    assert {env["SLURM_JOB_ID"] for env in found} == set(status["jobs"])
    gone(user, status["run_id"])


def test_one_of_a_gang_fails(user: User) -> None:
    """The others are cancelled on its account, at once and on every node."""
    run_id = user.submit("-N", "6", "--gang", "--", "python3", user.write("tells.py", TELLS), "4", "9", "wait")
    assert user.hpcrun("wait", "-q", run_id).returncode == 1
    shards = user.status(run_id)["shards"]
    assert [shard["state"] for shard in shards] == [*["cancelled"] * 4, "failed", "cancelled"]
    assert shards[4]["exit_code"] == 9
    gone(user, run_id)


def test_gpus_of_workers(user: User) -> None:
    """Four workers have a GPU each, no two the same, and the job none."""
    spec = with_workers(user, 4, codespec={"resources": {"gpu": 1}}, sbatch={"partition": "gpu"})
    run_id = user.submit_spec(spec)
    assert user.hpcrun("wait", "-q", run_id).returncode == 0, user.hpcrun("logs", run_id).stdout
    found = user.results(run_id, "*")
    workers = [found[f"worker.0.{replica}.0"] for replica in range(4)]
    assert all(len(worker["gpus"].split(",")) == 1 for worker in workers)
    assert len({(worker["node"], worker["gpus"]) for worker in workers}) == 4
    assert not found["job.0.0"]["gpus"]


RUNTIME = """#!/bin/bash
# A container runtime that has no containers: leaves the words it was given, and runs the program.
printf '%s\\n' "$@" >"$HPCRUN_RESULTS_DIR/words.$HPCRUN_ROLE.$HPCRUN_REPLICA_INDEX"
while [ "$1" != -- ]; do shift; done
shift
exec "$@"
"""
CONTAINERS = """
[containers]
runtime = "command"
command = ["{folder}/runtime", "{{mounts}}", "{{image}}", "--"]
mount = ["--volume={{source}}:{{target}}:{{mode}}"]
"""


def test_images_of_job_and_workers(user: User) -> None:
    """The site's own command runs both, each with its image and its mounts."""
    user.ok("chmod", "+x", user.write("runtime", RUNTIME))
    user.write("hpcrun.toml", CONTAINERS.format(folder=user.folder))
    spec = with_workers(user, 2, codespec={"image": "example.org/serves:1", "mounts": ["/home:/data:ro"]})
    run_id = user.submit_spec({**spec, "image": "example.org/asks:2"})
    assert user.hpcrun("wait", "-q", run_id).returncode == 0, user.hpcrun("logs", run_id).stdout
    assert asked(user.results(run_id, "job.*")["job.0.0"]) == [f"{run_id} 0 0", f"{run_id} 0 1"]
    folder = f"{user.home}/runs/{run_id}"
    own = {f"--volume={path}:{path}:rw" for path in (user.folder, folder)}
    job = user.read(f"{folder}/results/words.job.0").splitlines()
    assert (set(job[:2]), job[2:4]) == (own, ["example.org/asks:2", "--"])
    for replica in range(2):
        worker = user.read(f"{folder}/results/words.worker.{replica}").splitlines()
        assert (set(worker[:3]), worker[3:5]) == (own | {"--volume=/home:/data:ro"}, ["example.org/serves:1", "--"])
