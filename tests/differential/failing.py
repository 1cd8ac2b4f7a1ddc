"""Workflows in which something fails.

What is to be cancelled lives long: sflow looks once a second, and what has ended in the same second as a failure has
ended for it.
"""

from __future__ import annotations

from random import Random
from typing import Any

from differential.workflows import (
    Workflow,
    bare,
    fails_when,
    family,
    logger,
    nap,
    ready_when,
    swept,
    task,
    workflow,
)

LONG = "sleep 60"


@family
def fails_first(random: Random, name: str) -> Workflow:
    code = random.randint(1, 100)
    return workflow(
        name,
        [bare("first", f"exit {code}"), task("second", depends_on=["first"]), task("aside", LONG)],
    )


@family
def fails_between(random: Random, name: str) -> Workflow:
    tasks = [task("top", nap(random)), task("good", LONG, depends_on=["top"])]
    bad = bare("bad", nap(random), random.choice(("kill -9 $$", "/does/not/exist", "false")), depends_on=["top"])
    return workflow(name, [*tasks, bad, task("bottom", depends_on=["good", "bad"])])


@family
def fails_last(random: Random, name: str) -> Workflow:
    return workflow(name, [task("good", nap(random)), bare("bad", "exit 9", depends_on=["good"])])


@family
def fails_in_parallel(random: Random, name: str) -> Workflow:
    bad = random.randint(0, 2)
    lines = (f"$NOTE meet many_0 many_1 many_2; test $SFLOW_REPLICA_INDEX != {bad} || exit 4", LONG)
    tasks = [task("many", *lines, replicas={"count": 3}), task("after", depends_on=["many"])]
    return workflow(name, tasks)


@family
def fails_in_turn(random: Random, name: str) -> Workflow:
    line = "test $V != b || exit 5"
    replicas = {"variables": ["V"], "policy": "sequential"}
    tasks = [task("turn", line, replicas=replicas), task("after", depends_on=["turn"])]
    return workflow(name, tasks, V=swept("a", "b", "c"))


@family
def fails_beside_service(random: Random, name: str) -> Workflow:
    service = logger("service", 0.2, probes=ready_when(log_watch={"regex_pattern": "listening"}))
    return workflow(name, [service, bare("bad", nap(random), "exit 3", depends_on=["service"])])


@family
def fails_at_once(random: Random, name: str) -> Workflow:
    """`fail_fast: true` of a task is `set -e`."""
    strict = bare("strict", "false", "$NOTE say on", fail_fast=True, depends_on=["lax"])
    return workflow(name, [bare("lax", "false", "$NOTE end"), strict])


@family
def service_dies(random: Random, name: str) -> Workflow:
    """A service that fails after it was ready fails the workflow."""
    lines = ("$NOTE up", "echo listening", "sleep 3", "exit 6")
    service = bare("service", *lines, probes=ready_when(log_watch={"regex_pattern": "listening"}))
    return workflow(name, [service, task("client", LONG, depends_on=["service"])])


@family
def exits_before_ready(random: Random, name: str) -> Workflow:
    service = bare("service", f"exit {random.choice((0, 2))}", probes=ready_when(log_watch={"regex_pattern": "never"}))
    return workflow(name, [service, task("client", depends_on=["service"])])


@family
def never_ready(random: Random, name: str) -> Workflow:
    """A readiness that does not come in time is no reason for another try."""
    probe: dict[str, Any] = {"log_watch": {"regex_pattern": "never"}, "timeout": random.choice((2, 3))}
    service = bare("service", LONG, retries={"count": 2, "interval": 0}, probes=ready_when(**probe))
    return workflow(name, [service, task("client", depends_on=["service"]), task("aside", LONG)])


@family
def failure_probe(random: Random, name: str) -> Workflow:
    """Nor is a failure that a probe has seen."""
    probe = {"log_watch": {"regex_pattern": "CUDA error"}, "failure_threshold": random.choice((1, 2))}
    lines = ("echo all well", "echo CUDA error: out of memory", LONG)
    return workflow(
        name,
        [
            bare("sick", *lines, retries={"count": 2, "interval": 0}, probes=fails_when(**probe)),
            task("after", depends_on=["sick"]),
        ],
    )


@family
def retries_exhausted(random: Random, name: str) -> Workflow:
    lines = ("$NOTE count counter", "exit $(cat counter | wc -c)")
    tasks = [bare("bad", *lines, retries={"count": 2, "interval": 0}), task("after", depends_on=["bad"])]
    return workflow(name, tasks)
