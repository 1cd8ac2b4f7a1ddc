"""Each way in which a task can fail, under each policy: what becomes of the workflow, and what people are told.

docs/workflows.md shows this table.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from machine import Machine, states
from waiting import until


@dataclasses.dataclass(frozen=True)
class Failure:
    """A task that fails: its fields, its state, what is said of it, and whether it is tried again where it may be."""

    fields: dict[str, Any]
    state: str
    said: str
    tried_again: bool


LOG = {"log_watch": {"match_pattern": "up"}}
FAILURES = {
    "exit code": Failure({"script": ["exit 3"]}, "failed", "failed with exit code 3", True),
    "signal": Failure({"script": ["kill -9 $$"]}, "failed", "was killed by signal 9", True),
    "no such program": Failure({"script": ["exec /no/such"]}, "failed", "failed with exit code 127", True),
    "no such folder": Failure(
        {"script": ["true"], "working_dir": "/no/such"}, "failed",
        "cannot enter the working directory '/no/such': No such file or directory", False,
    ),
    "timeout": Failure(
        {"script": ["sleep 1000"], "timeout": "0.5s"}, "timed_out", "took longer than its timeout", True
    ),
    "exit before ready": Failure(
        {"script": ["true"], "probes": {"readiness": LOG}}, "failed", "exited before it was ready", True
    ),
    "never ready": Failure(
        {"script": ["sleep 1000"], "probes": {"readiness": {**LOG, "timeout": "0.5s"}}}, "failed",
        "its readiness probe did not pass in 0.5 s: 0 of 1 wanted matches of 'up' in the log", False,
    ),
    "failure probe": Failure(
        {"script": ["echo up", "sleep 1000"], "probes": {"failure": LOG}}, "failed",
        "its failure probe has hit: 1 of 1 wanted matches of 'up' in the log", False,
    ),
    "a service that fails": Failure(
        {"script": ["echo up", "sleep 0.3", "exit 4"], "probes": {"readiness": LOG}}, "failed",
        "failed with exit code 4", True,
    ),
}  # fmt: skip
POLICIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "fail fast": ({}, {}),
    "the others go on": ({"fail_fast": False}, {}),
    "the others of this one go on": ({}, {"fail_fast": False}),
}
"""Fields of the workflow, and of the task that fails."""


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("kind", FAILURES)
def test_what_becomes_of_the_others(machine: Machine, kind: str, policy: str) -> None:
    """The workflow has failed in any case. What needs the task is cancelled, and with fail_fast all the rest is."""
    failure = FAILURES[kind]
    of_workflow, of_task = POLICIES[policy]
    waits = 'until [ -e "$HPCRUN_RESULTS_DIR/over" ]; do sleep 0.05; done'
    tasks = [
        {"name": "bad", **failure.fields, **of_task},
        {"name": "needs_it", "depends_on": ["bad"], "script": ["sleep 1"]},
        {"name": "other", "script": [waits] if policy == "fail fast" else ["sleep 1"]},
        {"name": "next", "depends_on": ["other"], "script": ["true"]},
    ]
    path = machine.write("spec.yaml", json.dumps({"workflow": {**of_workflow, "tasks": tasks}}))
    done = machine.hpcrun("run", path)
    run = machine.open("last")
    rest = "cancelled" if policy == "fail fast" else "succeeded"
    begun = kind == "a service that fails"  # what needs it has started by then, and goes on for itself
    assert done.returncode == 1
    assert states(run) == {
        "bad": failure.state, "needs_it": rest if begun else "cancelled", "other": rest, "next": rest,
    }  # fmt: skip
    assert run.status().shards[0].detail == f"task bad: {failure.said}"
    assert failure.said in done.stderr.decode() + done.stdout.decode()
    assert machine.processes() == []


@pytest.mark.parametrize("kind", FAILURES)
def test_what_is_tried_again(machine: Machine, kind: str) -> None:
    failure = FAILURES[kind]
    tasks = [
        {"name": "bad", **failure.fields, "retries": {"count": 2, "interval": 0.1, "backoff": 2}},
        {"name": "other", "script": ["sleep 1000"]},
    ]
    machine.run(machine.write("spec.yaml", json.dumps({"workflow": {"tasks": tasks}})), code=1)
    task, _ = machine.open("last").status().tasks
    assert (task.state, task.tries) == (failure.state, 3 if failure.tried_again else 1)


def test_a_failing_replica_ends_its_chain(machine: Machine) -> None:
    """Of three that go one after another the second fails: the third and what follows are cancelled."""
    tasks: list[dict[str, Any]] = [
        {"name": "seq", "replicas": {"count": 3, "policy": "sequential"},
         "script": ["exit $((SFLOW_REPLICA_INDEX == 1))"]},
        {"name": "after", "depends_on": ["seq"], "script": ["true"]},
    ]  # fmt: skip
    run = machine.run(machine.write("spec.yaml", json.dumps({"workflow": {"tasks": tasks}})), code=1).id
    assert states(machine.open(run)) == {
        "seq_0": "succeeded", "seq_1": "failed", "seq_2": "cancelled", "after": "cancelled",
    }  # fmt: skip


def test_a_point_of_a_sweep_that_fails(machine: Machine) -> None:
    """The others go on, and the table tells; the exit code is a workflow's."""
    tasks = [{"name": "try", "replicas": {"variables": ["N"]}, "script": ["exit $((N == 2))"]}]
    spec = {"variables": {"N": {"value": 1, "domain": [1, 2, 3]}}, "workflow": {"tasks": tasks}}
    run = machine.run(machine.write("spec.yaml", json.dumps(spec)), code=1)
    assert run.status().state == "partial"
    rows = machine.hpcrun("results", run.id).stdout.decode().splitlines()
    wanted = ["try_1 1 succeeded 0 1", "try_2 2 failed 1 1", "try_3 3 succeeded 0 1"]
    assert [row.split() for row in rows[1:]] == [row.split() for row in wanted]


def test_an_agent_that_does_not_answer(machine: Machine) -> None:
    """It is told to end, and then it is ended: the workflow does not hang on it."""
    machine.configure(lost_after="3s")
    tasks: list[dict[str, Any]] = [
        {"name": "stuck", "script": ["kill -STOP $PPID", "touch $HPCRUN_RESULTS_DIR/stuck", "sleep 1000"]},
        {"name": "bad", "script": ["until [ -e $HPCRUN_RESULTS_DIR/stuck ]; do sleep 0.1; done", "exit 1"]},
    ]
    run = machine.run(machine.write("spec.yaml", json.dumps({"workflow": {"tasks": tasks}})), code=1)
    assert states(run) == {"stuck": "cancelled", "bad": "failed"}
    until(lambda: machine.processes() == [], what="the end of what it had started")


def test_nobody_starts_against_a_service_that_is_known_to_have_failed(machine: Machine) -> None:
    """Also while it is still on its way out."""
    waits = 'until grep -q told "$HPCRUN_RUN_DIR/logs/0/tasks/service.log"; do sleep 0.02; done'
    hit = {"log_watch": {"match_pattern": "down"}, "interval": 0.1}
    tasks: list[dict[str, Any]] = [
        {"name": "service", "fail_fast": False, "probes": {"readiness": LOG, "failure": hit},
         "script": ["trap 'echo told' TERM", "echo up", "sleep 0.3", "echo down", "while :; do sleep 0.1; done"]},
        {"name": "slow", "script": [waits]},
        {"name": "needs_it", "depends_on": ["service", "slow"], "script": ["true"]},
    ]  # fmt: skip
    run = machine.run(machine.write("spec.yaml", json.dumps({"workflow": {"tasks": tasks}})), code=1)
    assert states(run) == {"service": "failed", "slow": "succeeded", "needs_it": "cancelled"}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"script": []}, "script: found an empty script"),
        ({"script": ["true"], "retries": {"count": 1, "backoff": 1e300}}, "backoff: found 1e+300, wanted 1000"),
        ({"script": ["true"], "resources": {"gpus": {"indices": [1, 1]}}}, "indices: found 1 a second time"),
        ({"script": ["true"], "replicas": {"count": 10**9}}, "replicas: found 1000000000 replicas of a task"),
    ],
)  # fmt: skip
def test_what_cannot_be_carried_out_is_refused(machine: Machine, fields: dict[str, Any], said: str) -> None:
    done = machine.hpcrun(
        "run", machine.write("spec.yaml", json.dumps({"workflow": {"tasks": [{"name": "a", **fields}]}}))
    )
    assert (done.returncode, said in done.stderr.decode()) == (2, True), done.stderr.decode()
