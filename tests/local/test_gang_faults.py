"""Gangs that something happens to: one clear message, the right cause, nothing left running, and never a hang."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from machine import Machine, ended, gone, number_in, text_of
from waiting import until

from hpcrun import Run
from hpcrun.node import wire

PYTHON = [sys.executable, "-I", "-S"]
STAY = """
cd "$HPCRUN_RESULTS_DIR"; echo "$$ $PPID" >$HPCRUN_ROLE.$HPCRUN_SHARD_INDEX.$HPCRUN_REPLICA_INDEX
trap 'echo told >>told.$HPCRUN_ROLE.$HPCRUN_SHARD_INDEX.$HPCRUN_REPLICA_INDEX; exit 0' TERM
until [ -e "go.$HPCRUN_ROLE.$HPCRUN_REPLICA_INDEX" ]; do sleep 0.02; done
"""
"""A program that says who it is, and leaves when it is told or let."""
LISTEN = """
import os, socket
listener = socket.create_server(("", int(os.environ["HPCRUN_PORT_HTTP"])))
while True:
    listener.accept()[0].close()
"""
JOB = ["bash", "-c", STAY]
ONCE = {"retries": {"launch_failed": 0, "node_failed": 0}}
"""Of what is lost there is to be no other attempt (tests/local/test_retries.py has those)."""


def _spec(machine: Machine, worker: dict[str, Any] | str, job: list[str] | None = None, **more: Any) -> str:
    """A spec file of a job that stays, and workers; a text is the shell code of two of them without endpoints."""
    if isinstance(worker, str):
        worker = {"command": ["bash", "-c", worker], "replicas": 2}
    return machine.write("spec.yaml", json.dumps({"command": job or JOB, "worker": worker, **more}))


def _listening(port: int | str, **more: Any) -> dict[str, Any]:
    return {"command": [*PYTHON, "-c", LISTEN], "endpoints": {"http": port}, **more}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def _pids(run: Run, role: str, replica: int = 0, shard: int = 0) -> tuple[int, int]:
    """The process ids of a program and of what started it, as soon as it is up."""
    name = f"{role}.{shard}.{replica}"
    program, parent = until(lambda: text_of(run, name), what=f"the start of {name}").split()
    return int(program), int(parent)


def _nothing_left(machine: Machine) -> None:
    until(lambda: not machine.processes(), what="the end of every process of the run")


def _why(machine: Machine, run: Run, cause: str) -> str:
    """What is said of a run whose only shard ended for `cause`: the same in its status, as JSON too, and in its log."""
    shard = ended(run).shards[0]
    assert shard.cause == cause
    _nothing_left(machine)
    assert f"hpcrun: {shard.detail}\n" in run.logs()
    assert shard.detail in machine.hpcrun("status", run.id).stdout.decode()
    assert machine.json("status", run.id, "--json")["shards"][0]["detail"] == shard.detail
    return shard.detail


# Ports.


def test_two_replicas_with_one_fixed_port(machine: Machine) -> None:
    """On one machine they cannot both have it, which is said before anything starts."""
    done = machine.hpcrun("run", _spec(machine, _listening(_free_port(), replicas=2)))
    assert done.returncode == 2
    assert b"worker.endpoints: found a fixed port for 2 workers, each of which wants a node of its own" in done.stderr


def test_two_runs_with_one_fixed_port(machine: Machine) -> None:
    """The second is told that the port is held; the first goes on, and then the port is free again."""
    spec = _spec(machine, _listening(port := _free_port()))
    first = machine.submit(spec)
    _pids(first, "job")
    second = machine.run(spec, code=1)
    assert second.id != first.id
    assert f"port {port} " in second.shards()[0].detail
    assert second.shards()[0].cause == "launch_failed"
    Path(first.dir.results, "go.job.0").touch()
    assert ended(first).state == "succeeded"
    _nothing_left(machine)
    third = machine.submit(spec)
    _pids(third, "job")


def test_a_stranger_on_a_fixed_port(machine: Machine) -> None:
    """Whoever else listens there is not taken for the worker: an error that names the port and whose it is."""
    with socket.create_server(("", 0)) as stranger:
        port = stranger.getsockname()[1]
        run = machine.run(_spec(machine, _listening(port)), code=1)
        said = _why(machine, run, "launch_failed")
    assert f"worker 0 on 127.0.0.1: port {port} is in use on this node, by a process of uid {os.getuid()}" in said


SNATCHER = """
import os, socket, sys, time
parent = os.getpid()
if os.fork():
    os._exit(0)
while os.getppid() == parent:
    time.sleep(0.001)
listener = socket.create_server(("", int(sys.argv[1])))
print("up", flush=True)
listener.accept()
"""
"""Not the worker's: neither in its session nor its child, and without its environment."""
SNATCH = """
import os, socket, subprocess, sys
results, port = os.environ["HPCRUN_RESULTS_DIR"], int(os.environ["HPCRUN_PORT_HTTP"])
with open(results + "/tries", "a") as file:
    print(port, file=file)
if len(open(results + "/tries").readlines()) == 1:
    argv = [sys.executable, "-c", sys.argv[1], str(port), results]
    snatcher = subprocess.Popen(argv, stdout=subprocess.PIPE, env={}, start_new_session=True)
    snatcher.stdout.readline()
listener = socket.create_server(("", port))
print("listens", flush=True)
while True:
    listener.accept()[0].close()
"""


def test_an_automatic_port_that_somebody_takes(machine: Machine) -> None:
    """A worker that cannot have its port, because another process was faster, is started again with another one."""
    worker = {"command": [*PYTHON, "-c", SNATCH, SNATCHER], "endpoints": {"http": "auto"}}
    run = machine.run(_spec(machine, worker, job=["bash", "-c", "echo $TYGER_HTTP_WORKER_ENDPOINT_ADDRESSES"]))
    first, second = text_of(run, "tries").split()
    assert first != second
    assert json.loads(run.logs()) == [f"127.0.0.1:{second}"]
    assert "Address already in use" in run.logs(role="worker")


# The start.


def test_the_start_takes_too_long(machine: Machine) -> None:
    """Which replica, which endpoint, what was tried and what it wrote last; the job has not run."""
    script = 'echo "worker $HPCRUN_REPLICA_INDEX: loading"; [ $HPCRUN_REPLICA_INDEX = 0 ] && exec "$@"; exec sleep 1000'
    worker = {**_listening("auto", replicas=3), "command": ["bash", "-c", script, "bash", *PYTHON, "-c", LISTEN]}
    run = machine.run(_spec(machine, worker, start_timeout="1s"), code=1)
    said = _why(machine, run, "failed")
    assert said.startswith("not ready within 1 s: worker 1 on 127.0.0.1: endpoint http: nothing listens on port ")
    assert "worker 2 on 127.0.0.1: endpoint http: nothing listens on port " in said
    assert "worker 0" not in said
    assert "  worker 1: loading\n" in machine.hpcrun("logs", run.id).stdout.decode()
    assert "worker 1: loading\n" in machine.hpcrun("status", run.id).stdout.decode()
    assert not text_of(run, "job.0.0")


def test_a_probe_that_never_passes(machine: Machine) -> None:
    """The message has the check and what came of it."""
    worker = {"command": JOB, "readiness": {"exec": ["sh", "-c", "echo not yet >&2; exit 3"], "timeout": "0.5s"}}
    run = machine.run(_spec(machine, worker), code=1)
    said = _why(machine, run, "failed")
    assert said.startswith("worker 0 on 127.0.0.1: its readiness probe did not pass in ")
    assert said.endswith(": sh: exit code 3: not yet")
    assert text_of(run, "told.worker.0.0") == "told\n"


def test_a_worker_that_is_not_there(machine: Machine) -> None:
    """A program that cannot be started is named, with the worker it was to be."""
    run = machine.run(_spec(machine, {"command": ["./nothing"]}), code=1)
    assert "worker 0 on 127.0.0.1: cannot start './nothing': No such file" in _why(machine, run, "failed")


ENDS = {
    "exit 0": "exited with code 0",
    "echo worn out; exit 7": "exited with code 7",
    "kill -KILL $$": "was killed by signal 9",
}


@pytest.mark.parametrize("end", ENDS)
def test_a_worker_ends_before_its_job(machine: Machine, end: str) -> None:
    """However it went, the attempt fails at once, by its name; the job and the other workers are told to end."""
    run = machine.submit(_spec(machine, STAY + end))
    processes = [*_pids(run, "job"), *_pids(run, "worker", 0), *_pids(run, "worker", 1)]
    Path(run.dir.results, "go.worker.1").touch()
    assert _why(machine, run, "failed") == f"worker 1 on 127.0.0.1 {ENDS[end]} before its job had ended"
    gone(*processes)
    assert text_of(run, "told.job.0.0") == text_of(run, "told.worker.0.0") == "told\n"
    assert machine.hpcrun("wait", run.id).returncode == 1
    assert ("  worn out\n" in run.logs()) == ("worn" in end), "the end of the worker's own log"


def test_a_worker_ends_before_the_job_has_begun(machine: Machine) -> None:
    """As the others are still starting: no waiting for the time of the start to be up."""
    machine.configure(grace="60s")  # which nobody is to wait for, not even on account of those that come too late
    script = "[ $HPCRUN_REPLICA_INDEX = 1 ] && exit 3; exec sleep 1000"
    worker = {"command": ["bash", "-c", script], "replicas": 20, "endpoints": {"http": "auto"}}
    run = machine.run(_spec(machine, worker), code=1)
    assert _why(machine, run, "failed") == "worker 1 on 127.0.0.1 exited with code 3 before its job had ended"
    assert "Traceback" not in Path(run.dir.local_messages).read_text()


def test_a_worker_of_a_gang_of_shards_ends(machine: Machine) -> None:
    """Its own shard has failed, the others are cancelled on its account: the run failed, nobody cancelled it."""
    run = machine.submit(_spec(machine, {"command": ["bash", "-c", STAY + "exit 3"]}, shards=3, gang=True))
    for shard in range(3):
        _pids(run, "job", shard=shard)
    os.kill(_pids(run, "worker", shard=1)[0], signal.SIGKILL)
    status = ended(run)
    assert [shard.cause for shard in status.shards] == ["cancelled", "failed", "cancelled"]
    said = "worker 0 of shard 1 on 127.0.0.1 was killed by signal 9 before its job had ended"
    assert {shard.detail for shard in status.shards} == {said}
    assert machine.hpcrun("wait", run.id).returncode == 1
    _nothing_left(machine)


def test_a_worker_that_is_always_restarted(machine: Machine) -> None:
    """With restart: always its end is none: it is started again, as the same replica, and the job goes on."""
    script = 'echo $$ >>"$HPCRUN_RESULTS_DIR/starts"; until [ -e "$HPCRUN_RESULTS_DIR/die" ]; do sleep 0.02; done; '
    script += 'rm "$HPCRUN_RESULTS_DIR/die"; exit 1'
    run = machine.submit(_spec(machine, {"command": ["bash", "-c", script], "restart": "always"}))
    _pids(run, "job")
    Path(run.dir.results, "die").touch()
    until(lambda: len(text_of(run, "starts").split()) == 2, what="the second start")
    Path(run.dir.results, "go.job.0").touch()
    assert ended(run).state == "succeeded"
    _nothing_left(machine)


# Deaths.


def test_an_agent_is_killed(machine: Machine) -> None:
    """What it started dies with it, and the attempt is lost by the worker's name."""
    run = machine.submit(_spec(machine, STAY, **ONCE))
    job, _ = _pids(run, "job")
    worker, agent = _pids(run, "worker", 1)
    os.kill(agent, signal.SIGKILL)
    assert _why(machine, run, "lost") == "worker 1 on 127.0.0.1: its supervisor was killed"
    gone(worker, job)


def test_an_agent_falls_silent(machine: Machine) -> None:
    """One that is stopped gives no sign of life: the attempt fails, and it is killed with the program it started."""
    machine.configure(lost_after="1s")
    run = machine.submit(_spec(machine, STAY, **ONCE))
    job, _ = _pids(run, "job")
    worker, agent = _pids(run, "worker", 1)
    os.kill(agent, signal.SIGSTOP)
    said = _why(machine, run, "node_failed")
    assert said == "worker 1 on 127.0.0.1: its node is silent (no sign of life for 1 s)"
    gone(worker, agent, job)


@pytest.mark.parametrize("which", ["shard", "run", "both"])
@pytest.mark.parametrize("when", ["start", "job"])
def test_supervisors_are_killed(machine: Machine, when: str, which: str) -> None:
    """That of the shard, that of the run, or both, early or late: job and workers end, and the run has failed."""
    unready = {"readiness": {"exec": ["false"]}} if when == "start" else {}
    run = machine.submit(_spec(machine, {"command": JOB, "replicas": 2, **unready}, **ONCE))
    workers = [_pids(run, "worker", replica) for replica in range(2)]
    started = [process for pair in workers for process in pair] + ([_pids(run, "job")[0]] if when == "job" else [])
    of_run = int(Path(run.dir.local_lock).read_text().split()[0])
    of_shard = _parent(workers[0][1])
    assert _parent(of_shard) == of_run
    for process in {"shard": [of_shard], "run": [of_run], "both": [of_run, of_shard]}[which]:
        os.kill(process, signal.SIGKILL)
    gone(*started, of_shard)
    assert ended(run).shards[0].cause == "lost"
    _nothing_left(machine)


def _parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def test_an_agent_of_a_shard_is_killed(machine: Machine) -> None:
    """In a gang of shards the one is lost, the others are cancelled on its account."""
    spec = {"command": JOB, "shards": 3, "gang": True, **ONCE}
    run = machine.submit(machine.write("spec.yaml", json.dumps(spec)))
    programs = [_pids(run, "job", shard=shard) for shard in range(3)]
    os.kill(programs[1][1], signal.SIGKILL)
    assert [shard.cause for shard in ended(run).shards] == ["cancelled", "lost", "cancelled"]
    assert {shard.detail for shard in run.shards()} == {"shard 1 on 127.0.0.1: its supervisor was killed"}
    gone(*[program for program, _ in programs])


# Cancelling.


@pytest.mark.parametrize("when", ["start", "job"])
def test_cancelling(machine: Machine, when: str) -> None:
    """Early or late: the run is cancelled, exit code 130, and all were told once before they were gone."""
    unready = {"readiness": {"exec": ["false"]}} if when == "start" else {}
    run = machine.submit(_spec(machine, {"command": JOB, "replicas": 2, **unready}))
    roles = [("worker", 0), ("worker", 1)] + ([("job", 0)] if when == "job" else [])
    programs = [_pids(run, role, replica)[0] for role, replica in roles]
    assert run.status().state == ("starting" if when == "start" else "running")
    assert machine.hpcrun("cancel", run.id).returncode == 0
    assert machine.hpcrun("wait", run.id).returncode == 130
    assert [shard.cause for shard in run.shards()] == ["cancelled"]
    gone(*programs)
    _nothing_left(machine)
    assert [text_of(run, f"told.{role}.0.{replica}") for role, replica in roles] == ["told\n"] * len(roles)
    assert bool(text_of(run, "job.0.0")) == (when == "job")


def test_cancelling_a_gang_of_shards(machine: Machine) -> None:
    """All its shards are cancelled, all at once, with their workers."""
    run = machine.submit(_spec(machine, {"command": JOB}, shards=3, gang=True))
    programs = [_pids(run, role, shard=shard)[0] for shard in range(3) for role in ("job", "worker")]
    machine.hpcrun("cancel", run.id)
    assert [shard.cause for shard in ended(run).shards] == ["cancelled"] * 3
    gone(*programs)
    _nothing_left(machine)
    assert machine.hpcrun("wait", run.id).returncode == 130


# Strangers.


def test_strangers_at_the_supervisors_port(machine: Machine) -> None:
    """Garbage, too much of it, silence, and calls that are no worker's disturb neither the start nor the job."""
    late = {"readiness": {"exec": ["test", "-e", "$(HPCRUN_RESULTS_DIR)/ready"]}}
    run = machine.submit(_spec(machine, {"command": JOB, **late}))
    _pids(run, "worker")
    where = json.loads(Path(run.dir.rendezvous(0, 0)).read_text())
    address = (where["hosts"][0], where["port"])
    silent = [socket.create_connection(address) for _ in range(50)]
    for round_ in ("start", "job"):
        for said in (b"\0\xff\n", b"x" * 1_000_000, b"GET / HTTP/1.1\r\n\r\n", b"[]\n{}\n", b"[" * 4000 + b"\n"):
            with socket.create_connection(address) as stranger:
                try:
                    stranger.sendall(said)
                    stranger.shutdown(socket.SHUT_WR)
                    while stranger.recv(4096):
                        pass
                except OSError:  # hung up on
                    pass
        if round_ == "start":
            assert run.status().state == "starting"
            Path(run.dir.results, "ready").touch()
            _pids(run, "job")
    Path(run.dir.results, "go.job.0").touch()
    assert ended(run).state == "succeeded"
    for stranger in silent:
        stranger.close()


@pytest.mark.parametrize("knows", [True, False], ids=["knows", "guesses"])
def test_only_who_knows_the_secret_is_let_in(machine: Machine, knows: bool) -> None:
    """A process that found the port of the supervisor, but cannot read its secret, never gets a worker's seat."""
    run = machine.submit(_spec(machine, {"command": JOB}, shards=2, max_parallel=1, **ONCE))
    _pids(run, "job")
    let = _hold_back(run)  # the worker of the second shard, so that its seat is free
    Path(run.dir.results, "go.job.0").touch()
    where = json.loads(Path(until(lambda: _meeting(run, 1), what="the supervisor of shard 1")).read_text())
    secret = where["secret"] if knows else "00" * 32
    with socket.create_connection((where["hosts"][0], where["port"])) as stranger:
        challenge = json.loads(stranger.recv(4096))["nonce"]
        proof = wire.proof(secret, "agent", challenge, "mine")
        hello = {"role": "worker", "shard": 1, "replica": 0, "node": "elsewhere", "nonce": "mine", "proof": proof}
        stranger.sendall(wire.line(hello))
        answer = stranger.recv(4096)
        let.touch()
    if not knows:
        assert answer == b""
        assert ended(run).state == "succeeded"
        return
    assert json.loads(answer.splitlines()[0])["proof"] == wire.proof(secret, "hub", "mine", challenge)
    detail = ended(run).shards[1].detail
    assert detail == "worker 0 on elsewhere: its node is lost (the connection to it was closed)"


def _meeting(run: Run, shard: int) -> str:
    path = run.dir.rendezvous(shard, 0)
    return path if os.path.exists(path) else ""


def _hold_back(run: Run) -> Path:
    """Let no further agent of `run` begin before the file that is returned is there."""
    start, let = Path(run.dir.start), Path(run.dir.results, "let")
    new = start.with_name("start.new")
    held = f"import os, time\nwhile not os.path.exists({str(let)!r}):\n    time.sleep(0.02)\n"
    new.write_text(held + start.read_text())
    new.replace(start)
    return let


TALKS = """
import json, os, pathlib, socket, sys
host, port = json.loads(os.environ["TYGER_HTTP_WORKER_ENDPOINT_ADDRESSES"])[0].rsplit(":", 1)
talk = socket.create_connection((host, int(port)))
pathlib.Path(os.environ["HPCRUN_RESULTS_DIR"], "talks").write_text("yes\\n")
sys.exit(0 if talk.recv(1) else 1)
"""
HOLDS = """
import os, pathlib, socket
server = socket.create_server(("127.0.0.1", int(os.environ["HPCRUN_PORT_HTTP"])))
pathlib.Path(os.environ["HPCRUN_RESULTS_DIR"], "worker").write_text(f"{os.getpid()}\\n")
held = []
while True:
    held.append(server.accept()[0])
"""


def test_a_job_that_notices_a_dead_worker_first(machine: Machine) -> None:
    """Whoever is the quicker to tell, the worker is named: it is why the job failed."""
    worker = {"command": [*PYTHON, "-c", HOLDS], "endpoints": {"http": "auto"}}
    run = machine.submit(_spec(machine, worker, job=[*PYTHON, "-c", TALKS]))
    until(lambda: text_of(run, "talks"), what="the job's connection")
    os.kill(number_in(run, "worker"), signal.SIGKILL)
    (shard,) = ended(run).shards
    assert (shard.state, shard.cause) == ("failed", "failed")
    assert shard.exit_code in (1, None), "the job's own, where it ended by itself"
    assert shard.detail == "worker 0 on 127.0.0.1 was killed by signal 9 before its job had ended"


def test_a_check_does_not_outlive_its_worker(machine: Machine) -> None:
    """A readiness check that hangs, and what it has started, end with the run."""
    check = 'echo $$ >"$HPCRUN_RESULTS_DIR/check"; sleep 1000 & wait'
    worker = {"command": ["sleep", "1000"], "readiness": {"exec": ["bash", "-c", check], "eachCheckTimeout": "10m"}}
    run = machine.submit(_spec(machine, worker))
    process = number_in(run, "check")
    assert machine.hpcrun("cancel", run.id).returncode == 0
    gone(process)
    until(lambda: not machine.processes(), what="the end of all processes")
