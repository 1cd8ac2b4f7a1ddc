"""Specs that are refused."""

from __future__ import annotations

from random import Random
from typing import Any

from differential.workflows import Workflow, family, ready_when, swept, task, with_gpus, workflow


def _refused(name: str, tasks: list[dict[str, Any]], *settings: str, gpus: int = 0, **variables: Any) -> None:
    """Put a spec on the list in which nothing is random."""

    def make(random: Random, _: str) -> Workflow:
        found = workflow(name, tasks, *settings, **variables)
        return with_gpus(found, gpus) if gpus else found

    make.__name__ = name
    family(make)


X = swept(1, 2, type="integer")
_refused("refused_count", [task("a", replicas={"count": 3, "variables": ["X"]})], X=X)
_refused("refused_no_domain", [task("a", replicas={"variables": ["X"]})], X=1)
_refused("refused_unknown_variable", [task("a", replicas={"variables": ["Y"]})], X=X)
_refused("refused_value", [task("a")], X={"value": 3, "domain": [1, 2]})
_refused("refused_setting", [task("a")], "X=9", X=X)
_refused("refused_unknown_setting", [task("a")], "Y=1", X=X)
_refused("refused_zero", [task("a", replicas={"count": "${{ X - 1 }}"})], X=X)
_refused("refused_policy", [task("a", replicas={"count": 2, "policy": "random"})])
_refused("refused_dependency", [task("a", depends_on=["b"])])
_refused("refused_replica", [task("a", replicas={"count": 2}), task("b", depends_on=["a_0"])])
_refused("refused_cycle", [task("a", depends_on=["b"]), task("b", depends_on=["a"])])
_refused("refused_names", [task("a"), task("a")])
_refused("refused_undefined", [task("a", "echo ${{ variables.Y }}")], X=X)
_refused("refused_syntax", [task("a", "echo ${{ variables. }}")], X=X)
_refused("refused_field", [task("a", dependson=["b"])])
_refused("refused_probes", [task("a", probes={"readiness": []})])
_refused("refused_logger", [task("a", probes=ready_when(log_watch={"regex_pattern": "x", "logger": "b"}))])
_refused("refused_index", [task("a", replicas={"count": 2}), task("b", "echo ${{ task.a.gpus }}", depends_on=["a"])])
_refused("refused_nodes", [task("a", resources={"nodes": {"indices": [3]}})])
_refused("refused_gpus", [task("a", replicas={"count": 3}, resources={"gpus": {"count": 3}})], gpus=8)
