"""Workflows on one machine: what starts when, what it is told, and what is left when all is over."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import textwrap
from pathlib import Path
from typing import Any

import pytest
from machine import Machine, ended, gone, number_in, states, text_of
from page import BENCHMARK, BENCHMARKED, BLOCKS, DISAGGREGATED, GPUS, SERVER
from waiting import until

from hpcrun import Run


def spec(machine: Machine, text: str) -> str:
    return machine.write("spec.yaml", textwrap.dedent(text))


def times(run: Run, word: str) -> dict[str, float]:
    """When each task was at the line of its script that says `word`."""
    lines = (line.split() for line in text_of(run, f"{word}.txt").splitlines())
    return {name: float(at) for name, at in lines}


def at(word: str) -> str:
    return f'echo "$HPCRUN_TASK_NAME $(date +%s.%N)" >>"$HPCRUN_RESULTS_DIR/{word}.txt"'


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("", 0))
        return int(found.getsockname()[1])


def test_each_task_starts_when_all_that_it_needs_has_succeeded(machine: Machine) -> None:
    """A diamond, of which one side is itself slow, and whose bottom is asked for from above."""
    run = machine.run(spec(machine, f"""
        workflow:
          tasks:
            - {{name: last, depends_on: [left, right], script: ['{at("begin")}']}}
            - {{name: left, depends_on: [first], script: ['{at("begin")}', 'sleep 0.5', '{at("end")}']}}
            - {{name: right, depends_on: [first], script: ['{at("begin")}', '{at("end")}']}}
            - {{name: first, required_by: [left], script: ['{at("begin")}', 'sleep 0.3', '{at("end")}']}}
    """))  # fmt: skip
    began, over = times(run, "begin"), times(run, "end")
    assert set(states(run).values()) == {"succeeded"}
    assert min(began["left"], began["right"]) >= over["first"]
    assert began["last"] >= over["left"] > over["right"]
    assert machine.processes() == []


def test_a_task_is_told_who_it_is_and_every_variable(machine: Machine) -> None:
    run = machine.run(spec(machine, """
        variables:
          ODD: {value: "it's \\"$HOME\\" `date` \\\\n ${#a} {{x}} é"}
          SIZE: {value: 16, domain: [16, 32]}
        workflow:
          name: told
          tasks:
            - name: copies
              replicas: {count: 2}
              env: {MINE: "$(HPCRUN_TASK_NAME)"}
              script:
                - cd $HPCRUN_RESULTS_DIR
                - python3 -c "import json,os;print(json.dumps(dict(os.environ)))" >$HPCRUN_TASK_NAME
            - name: alone
              depends_on: [copies]
              script: ['echo "$SFLOW_REPLICA_INDEX $SIZE" >$HPCRUN_RESULTS_DIR/alone']
    """))  # fmt: skip
    told = json.loads(Path(run.dir.results, "copies_1").read_text())
    assert told["ODD"] == 'it\'s "$HOME" `date` \\n ${#a} {{x}} é'
    assert (told["SIZE"], told["SFLOW_REPLICA_INDEX"], told["HPCRUN_REPLICA_COUNT"]) == ("16", "1", "2")
    assert (told["HPCRUN_ROLE"], told["HPCRUN_TASK_NAME"], told["HPCRUN_RUN_NAME"]) == ("copies", "copies_1", "told")
    assert "VELDA_SHARD_ID" not in told
    assert text_of(run, "alone") == "0 16\n"


def test_a_service_lives_until_the_workflow_ends(machine: Machine) -> None:
    """What needs it starts as soon as it is ready, and it is ended when nothing else is left."""
    port = free_port()
    run = machine.run(spec(machine, f"""
        workflow:
          tasks:
            - name: server
              script:
                - trap 'kill $!; echo told >"$HPCRUN_RESULTS_DIR/told"; exit 0' TERM
                - sleep 0.4
                - python3 -m http.server --bind 127.0.0.1 {port} & wait
              probes: {{readiness: {{http_get: {{url: "http://127.0.0.1:{port}/"}}}}}}
            - {{name: first, depends_on: [server], script: ['exec 3<>/dev/tcp/127.0.0.1/{port}']}}
            - {{name: second, depends_on: [first], script: ['exec 3<>/dev/tcp/127.0.0.1/{port}']}}
    """))  # fmt: skip
    assert states(run) == {"server": "succeeded", "first": "succeeded", "second": "succeeded"}
    assert text_of(run, "told") == "told\n"
    assert machine.processes() == []


def test_a_sequential_sweep_goes_one_at_a_time(machine: Machine) -> None:
    """In the order of the domain, what follows after the last one; the first that fails stops the chain."""
    run = machine.run("--set", "N=[3,1,2]", spec(machine, f"""
        variables: {{N: {{value: 9, domain: [9]}}}}
        workflow:
          tasks:
            - name: bench
              replicas: {{variables: [N], policy: sequential}}
              script: ['{at("begin")}', 'sleep 0.1', '{at("end")}']
            - {{name: report, depends_on: [bench], script: ['{at("begin")}']}}
    """))  # fmt: skip
    began, over = times(run, "begin"), times(run, "end")
    assert list(began) == ["bench_3", "bench_1", "bench_2", "report"]
    assert all(over[one] <= began[two] for one, two in zip(list(over), list(began)[1:], strict=True))


LONG = """
workflow:
  tasks:
    - name: service
      script: ['echo up', 'sleep 1000']
      probes: {readiness: {log_watch: {match_pattern: up}}}
    - name: stubborn
      depends_on: [service]
      script:
        - '[ ! -e "$HPCRUN_RESULTS_DIR/end" ] || exit 0'
        - trap '' TERM
        - 'sleep 1000 & echo $! >"$HPCRUN_RESULTS_DIR/child"'
        - wait; wait
    - {name: last, depends_on: [stubborn], script: ['touch "$HPCRUN_RESULTS_DIR/last"']}
"""
"""A service, a task that ignores SIGTERM, and one whose agent waits for its turn."""


@pytest.mark.parametrize("how", ["cancel", "a signal to the supervisor"])
def test_nothing_is_left_when_it_is_ended(machine: Machine, how: str) -> None:
    run = machine.submit(spec(machine, LONG))
    child = number_in(run, "child")
    if how == "cancel":
        run.cancel()
    else:
        os.kill(_supervisor(run), signal.SIGTERM)
    status = ended(run)
    gone(child)
    until(lambda: machine.processes() == [], what="the end of everything")
    assert status.state == "cancelled"
    assert states(run)["last"] == "cancelled"
    assert not Path(run.dir.results, "last").exists()


def test_a_supervisor_that_is_killed(machine: Machine) -> None:
    """What it had started is ended, and the workflow begins anew, as any shard whose supervisor is lost."""
    run = machine.submit(spec(machine, LONG))
    child = number_in(run, "child")
    Path(run.dir.results, "end").touch()
    os.kill(_supervisor(run), signal.SIGKILL)
    status = ended(run)
    gone(child)
    assert (status.state, status.shards[0].attempts) == ("succeeded", 2)
    assert set(states(run).values()) == {"succeeded"}


def _supervisor(run: Run) -> int:
    """The process that carries the workflow out: the parent of its agents."""
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if os.fsencode(run.dir.start) in words and b"agent" in words:
            return int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1])
    raise AssertionError("no agent runs")


def test_an_agent_that_is_killed(machine: Machine) -> None:
    """Its program ends, its task has failed and is tried again where it may be."""
    run = machine.submit(spec(machine, """
        workflow:
          tasks:
            - name: one
              retries: {count: 1, interval: 0}
              script: ['cd $HPCRUN_RESULTS_DIR', 'echo $PPID >agent', '[ -e again ] || exec sleep 1000']
    """))  # fmt: skip
    agent = number_in(run, "agent")
    Path(run.dir.results, "again").touch()
    os.kill(agent, signal.SIGKILL)
    assert ended(run).state == "succeeded"
    assert [task.tries for task in run.status().tasks] == [2]


def test_the_whole_of_it_takes_too_long(machine: Machine) -> None:
    run = machine.run("--timeout", "1s", spec(machine, """
        workflow:
          tasks:
            - {name: quick, script: ["true"]}
            - {name: slow, depends_on: [quick], script: [sleep 1000]}
    """), code=124)  # fmt: skip
    assert states(run) == {"quick": "succeeded", "slow": "cancelled"}
    assert run.status().state == "timed_out"


def test_a_whole_workflow_is_tried_again(machine: Machine) -> None:
    """With `retries` of the run: all of its tasks, in another attempt with records and logs of its own."""
    run = machine.run("--retries", "1", spec(machine, """
        workflow:
          tasks:
            - {name: one, script: ['echo attempt $HPCRUN_ATTEMPT']}
            - {name: two, depends_on: [one], script: ['exit $((HPCRUN_ATTEMPT == 0))']}
    """))  # fmt: skip
    assert states(run) == {"one": "succeeded", "two": "succeeded"}
    logs = [Path(run.dir.task_log(attempt, "one")).read_text() for attempt in (0, 1)]
    assert logs == ["attempt 0\n", "attempt 1\n"]


def test_many_tasks(machine: Machine) -> None:
    """Of four layers each of which needs all of the one before."""
    tasks: list[dict[str, Any]] = [
        {"name": f"t{layer}", "replicas": {"count": 20}, "depends_on": [f"t{layer - 1}"] if layer else [],
         "script": ["true"]} for layer in range(4)
    ]  # fmt: skip
    run = machine.run(machine.write("spec.yaml", json.dumps({"workflow": {"tasks": tasks}})))
    assert len(states(run)) == 80
    assert set(states(run).values()) == {"succeeded"}
    assert machine.processes() == []


@pytest.mark.parametrize("name", BLOCKS)
def test_the_workflows_of_the_page(machine: Machine, name: str) -> None:
    """Every replica by its name and with its values, whether they are tasks of a workflow or shards of an array."""
    block = BLOCKS[name]
    run = machine.run(*block.options, spec(machine, block.text))
    told = said(machine, run)
    assert tuple(told) == block.tasks
    assert tuple(told.values()) == block.says


def said(machine: Machine, run: Run) -> dict[str, str]:
    """What each replica has said, by its name."""
    if run.plan.sweep is None:
        names = [task.name for task in run.plan.tasks]
        return {name: machine.hpcrun("logs", run.id, "--task", name).stdout.decode().strip() for name in names}
    return {
        run.plan.sweep.name(shard): text.strip() for shard, text in enumerate(map(run.logs, range(run.plan.shards)))
    }


def test_servers_for_prefill_and_decode(machine: Machine) -> None:
    """Each gets a GPU of its own, and answers the client on its own port; all are ended when the client is done."""
    machine.environ["CUDA_VISIBLE_DEVICES"] = "0,1,2,3"
    machine.write("server.py", SERVER)
    run = machine.run(spec(machine, DISAGGREGATED))
    told = machine.hpcrun("logs", run.id, "--task", "client").stdout.decode().split("\n")
    assert told[:4] == ["prefill 0 0", "prefill 1 1", "decode 0 2", "decode 1 3"]
    assert set(states(run).values()) == {"succeeded"}
    assert machine.processes() == []


def test_a_benchmark_against_a_server_that_is_late(machine: Machine) -> None:
    """One at a time, none before the server listens, the server up all along."""
    machine.write("benchmark", BENCHMARK)
    (machine.cwd / "benchmark").chmod(0o755)
    run = machine.run(spec(machine, BENCHMARKED.format(port=free_port(), late=2)))
    spans = [tuple(map(float, text_of(run, f"benchmark.{size}").split())) for size in (16, 32, 64, 128)]
    assert spans[0][0] - float(text_of(run, "began")) > 2
    assert all(one[1] <= two[0] for one, two in itertools.pairwise(spans))
    assert machine.processes() == []


def test_a_task_has_a_folder_for_its_results(machine: Machine) -> None:
    """nv-sflow's, which is there when the task begins."""
    run = machine.run(spec(machine, """
        workflow:
          tasks:
            - {name: one, script: ['echo 1 >"$SFLOW_TASK_OUTPUT_DIR/out"']}
    """))  # fmt: skip
    assert text_of(run, "tasks/one/out") == "1\n"


def test_every_replica_has_gpus_of_its_own(machine: Machine) -> None:
    """The page's four slices of eight GPUs."""
    machine.environ["CUDA_VISIBLE_DEVICES"] = "0,1,2,3,4,5,6,7"
    run = machine.run(spec(machine, GPUS.format(nodes=1, gpus=8, where="--partition=gpu")))
    assert [text.split()[-1] for text in said(machine, run).values()] == ["0,1", "2,3", "4,5", "6,7"]
