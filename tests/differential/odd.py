"""Workflows that hpcrun treats otherwise than nv-sflow, and means to: `compare.MEANT` says why."""

from __future__ import annotations

from random import Random

from differential.workflows import Workflow, bare, family, logger, nap, ready_when, swept, task, workflow


@family
def odd_collision(random: Random, name: str) -> Workflow:
    return workflow(name, [task("a", replicas={"variables": ["V"]})], V=swept("0.1", "0-1"))


@family
def odd_slash(random: Random, name: str) -> Workflow:
    return workflow(name, [task("a", replicas={"variables": ["V"]})], V=swept("a/b"))


@family
def odd_nothing(random: Random, name: str) -> Workflow:
    return workflow(name, [task("a")], V={"value": None})


@family
def odd_untyped(random: Random, name: str) -> Workflow:
    return workflow(name, [task("a", replicas={"count": "${{ X + 1 }}"})], X=2)


@family
def odd_shell_in_expression(random: Random, name: str) -> Workflow:
    return workflow(name, [task("a", "list=(1 2); $NOTE say ${#list[@]} ${{ X }}")], X=2)


@family
def odd_task_in_sweep(random: Random, name: str) -> Workflow:
    line = "$NOTE say ${{ variables.V }} ${{ task.a[0].gpus | length }}"
    replicas = {"variables": ["V"], "policy": "sequential"}
    return workflow(name, [task("a", line, replicas=replicas)], V=swept("x", "y"))


@family
def odd_sweep_fails(random: Random, name: str) -> Workflow:
    line = f"test $V != {random.choice('xyz')} || exit 3"
    return workflow(name, [task("a", line, "sleep 5", replicas={"variables": ["V"]})], V=swept("x", "y", "z"))


@family
def odd_timeout(random: Random, name: str) -> Workflow:
    return workflow(name, [task("slow", "sleep 4", timeout=1), task("after", nap(random), depends_on=["slow"])])


@family
def odd_line_start(random: Random, name: str) -> Workflow:
    probes = ready_when(log_watch={"regex_pattern": "re:^listening"}, timeout=9)
    service = bare("service", "$NOTE up", "echo listening", "sleep 60", probes=probes)
    return workflow(name, [service, task("client", depends_on=["service"])])


@family
def odd_yes(random: Random, name: str) -> Workflow:
    return workflow(name, [task("a")], V="yes")


@family
def odd_domain(random: Random, name: str) -> Workflow:
    """An expression in a domain, and a variable that is made of one that is swept over."""
    base, values = {"value": 4, "type": "integer"}, {"value": 8, "domain": [8, "${{ BASE * 4 }}"], "type": "integer"}
    replicas = {"variables": ["SIZE"], "policy": "sequential"}
    return workflow(name, [task("a", replicas=replicas)], BASE=base, SIZE=values, DERIVED="size ${{ SIZE }}")


@family
def odd_background(random: Random, name: str) -> Workflow:
    """What a task leaves in the background."""
    return workflow(name, [task("a", "(sleep 2; $NOTE say late) &"), task("after", "sleep 3", depends_on=["a"])])


@family
def odd_pattern(random: Random, name: str) -> Workflow:
    line = "[engine] ready (1/2)"
    service = logger("engine", 0.2, line=f"'{line}'", probes=ready_when(log_watch={"regex_pattern": line}, timeout=9))
    return workflow(name, [service, task("client", depends_on=["engine"])])
