"""Programs and specs of jobs with workers, and what must hold after their end, for the tests on a real cluster."""

from __future__ import annotations

from typing import Any

from containers import User
from waiting import until

SERVES = """
# A worker: tells whoever connects which run, shard and replica it is. Replica 0 may be `late`, or `never` listen.
import json, os, signal, socket, sys, time
env, who = os.environ, [os.environ["HPCRUN_" + part] for part in ("RUN_ID", "SHARD_INDEX", "REPLICA_INDEX")]
print("worker", who[2], "starts", flush=True)
if "late" in sys.argv and who[2] == "0":
    began = time.time()
    while time.time() < began + 5:
        time.sleep(0.1)
while "never" in sys.argv and who[2] == "0":
    time.sleep(0.1)
signal.signal(signal.SIGUSR1, lambda *_: os._exit(3))
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("0.0.0.0", int(env["HPCRUN_PORT_RPC"])))
server.listen(64)
facts = {"listens": time.time(), "node": env["SLURMD_NODENAME"], "gpus": env.get("CUDA_VISIBLE_DEVICES"),
         "process": os.getpid(), "agent": os.getppid()}
own = f"worker.{who[1]}.{who[2]}.{env['HPCRUN_ATTEMPT']}"
with open(f"{env['HPCRUN_RESULTS_DIR']}/{own}", "x") as file:
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
         "node": env["SLURMD_NODENAME"], "gpus": env.get("CUDA_VISIBLE_DEVICES"),
         "process": os.getpid(), "supervisor": os.getppid()}
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


def gone(user: User, run_id: str) -> None:
    """Nothing of a run that has ended is in the queue or on any node."""
    queued = ("squeue", "--me", "--noheader", "--format=%i %T %k")
    until(lambda: run_id not in user.ok(*queued), 60, "the end of the run's jobs")
    left = user.left(run_id)
    assert not left, left


def asked(facts: dict[str, Any]) -> list[str]:
    """Which workers have answered a job."""
    return [" ".join(said[:3]) for said in facts["said"]]
