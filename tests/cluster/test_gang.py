"""Jobs with workers, and gangs of shards, on the real cluster: who starts when, who is told whose address."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from containers import User
from waiting import until

SERVES = """
# A worker: tells whoever connects which run, shard and replica it is. Its first argument may be `late` for replica 0.
import json, os, signal, socket, sys, time
name = lambda *words: ".".join(words)
env, who = os.environ, [os.environ["HPCRUN_" + part] for part in ("RUN_ID", "SHARD_INDEX", "REPLICA_INDEX")]
print("worker", who[2], "starts", flush=True)
if "late" in sys.argv and who[2] == "0":
    began = time.time()
    while time.time() < began + 5:
        time.sleep(0.1)
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("0.0.0.0", int(env["HPCRUN_PORT_RPC"])))
server.listen(64)
facts = {"listens": time.time(), "node": env["SLURMD_NODENAME"], "gpus": env.get("CUDA_VISIBLE_DEVICES")}
with open(f"{env['HPCRUN_RESULTS_DIR']}/worker.{who[1]}.{who[2]}.{env['HPCRUN_ATTEMPT']}", "x") as file:
    json.dump(facts, file)
while True:
    caller, _ = server.accept()
    caller.sendall(json.dumps([*who, env["SLURMD_NODENAME"]]).encode())
    caller.close()
"""

ASKS = """
# A job: asks each worker at its address who it is. Waits for its end where its argument is its shard and attempt.
import time
began = time.time()
import json, os, socket, sys
env, me = os.environ, f"{os.environ['HPCRUN_SHARD_INDEX']}.{os.environ['HPCRUN_ATTEMPT']}"
told = json.loads(env["TYGER_RPC_WORKER_ENDPOINT_ADDRESSES"])
said = []
for address in told:
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), 10) as worker:
        said.append(json.loads(worker.makefile().read()))
facts = {"began": began, "told": told, "nodes": json.loads(env["TYGER_WORKER_NODES"]), "said": said,
         "node": env["SLURMD_NODENAME"], "gpus": env.get("CUDA_VISIBLE_DEVICES")}
folder = env["HPCRUN_RESULTS_DIR"]
with open(f"{folder}/.job.{me}", "x") as file:
    json.dump(facts, file)
os.rename(f"{folder}/.job.{me}", f"{folder}/job.{me}")
print("job has asked", len(said), flush=True)
while me in sys.argv and not os.path.exists(f"{folder}/end"):
    time.sleep(0.05)
"""


def with_workers(user: User, replicas: int, *, job: str = "", worker: str = "", **more: Any) -> dict[str, Any]:
    """The spec of ASKS with so many SERVES as workers; `job` and `worker` are their arguments."""
    codespec = {
        "command": ["python3", user.write("serves.py", SERVES), *worker.split()],
        "endpoints": {"rpc": "auto"},
        **more.pop("codespec", {}),
    }
    command = ["python3", user.write("asks.py", ASKS), *job.split()]
    return {"command": command, "worker": {"codespec": codespec, "replicas": replicas}, "start_timeout": "60s", **more}


def gone(user: User, in_queue: Callable[[], str], run_id: str) -> None:
    """Nothing of a run that has ended is in the queue or on any node."""
    until(lambda: in_queue() == "", 60, "an empty queue")
    until(lambda: user.left(run_id) == "", 10, "the end of the run's processes") if user.left(run_id) else None


def asked(facts: dict[str, Any]) -> list[str]:
    """Which workers have answered a job."""
    return [" ".join(said[:3]) for said in facts["said"]]


def test_the_job_waits_for_the_last_worker(user: User, in_queue: Callable[[], str]) -> None:
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
    gone(user, in_queue, run_id)


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


def test_two_runs_want_one_port_on_one_node(user: User, in_queue: Callable[[], str]) -> None:
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
    gone(user, in_queue, first)
    gone(user, in_queue, second)


@pytest.mark.parametrize("topology", ["auto", "het"])
def test_shards_with_workers_of_their_own(user: User, in_queue: Callable[[], str], topology: str) -> None:
    """Eight jobs with three workers each, three at a time, nobody following; one is requeued, the others go on."""
    run_id = user.submit_spec(with_workers(user, 3, shards=8, max_parallel=3, topology=topology, job="1.0"))
    until(lambda: len(user.results(run_id, "job.*")) == 8, 120, "eight jobs that have asked their workers")
    shard = user.status(run_id)["shards"][1]
    user.ok("scontrol", "requeue", shard["job"])
    user.restart(shard["job"])
    assert user.hpcrun("wait", "-q", run_id).returncode == 0
    shards = user.status(run_id)["shards"]
    assert [shard["attempts"] for shard in shards] == [1, 2, *[1] * 6]
    found = user.results(run_id, "job.*")
    assert len(found) == 9
    for name, job in found.items():
        assert asked(job) == [f"{run_id} {name.split('.')[1]} {replica}" for replica in range(3)]
    assert most_at_once(user, run_id) <= 3
    assert len(user.status(run_id)["jobs"]) == (8 if topology == "het" else 1)
    gone(user, in_queue, run_id)


def most_at_once(user: User, run_id: str) -> int:
    """The most attempts of a run that were under way at one moment."""
    records = user.sh('cat "$HPCRUN_HOME/runs/$1"/records/*/*/*.jsonl', run_id).stdout.splitlines()
    steps = {"start": 1, "ready": 0, "end": -1}
    events = sorted((event["at"], steps[event["event"]]) for event in map(json.loads, records))
    return max(itertools.accumulate(step for _, step in events))
