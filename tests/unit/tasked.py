"""Plans of workflows, and run folders of them, that tests start from without compiling or running any."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from typing import Any

import pytest
from fakes import FakeCluster, Job
from unit.made import plan

from hpcrun import events, run
from hpcrun.plan import Plan, Probe, Sweep, Task
from hpcrun.rundir import RunDir

PROBE = Probe(
    kind="tcp_port", port="8000", host="127.0.0.1", url="", headers={}, pattern="", match_count=1, command=(),
    delay=0.0, interval=None, each_check_timeout=30.0, timeout=1200.0, success_threshold=1,
)  # fmt: skip


def task(name: str, *needs: str, of: str = "", service: bool = False, **changes: Any) -> Task:
    """A task of one process on the first node."""
    role = dataclasses.replace(plan().job, name=of or name)
    made = Task(
        name=name, of=of or name, replica=0, replicas=1, variables={}, role=role, needs=needs, nodes=(0,), devices=(),
        overlaps=True, readiness=(PROBE,) if service else (), failure=(), retries=0, interval=0.0, backoff=1.0,
        timeout=None, fail_fast=True,
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


def replicas(of: str, values: Sequence[int], *needs: str, chain: bool = False, **changes: Any) -> list[Task]:
    """The replicas of a task that sweeps over CONCURRENCY."""
    names = [f"{of}_{value}" for value in values]
    return [
        task(
            name, *((names[at - 1],) if chain and at else needs), of=of, replica=at, replicas=len(values),
            variables={"CONCURRENCY": str(value)}, **changes,
        )
        for at, (name, value) in enumerate(zip(names, values, strict=True))
    ]  # fmt: skip


def workflow(*tasks: Task, **changes: Any) -> Plan:
    """A workflow of these tasks, on the cluster."""
    return dataclasses.replace(plan(name="bench"), shape="workflow", tasks=tasks, **changes)


def sweep(*values: str) -> Plan:
    """An array of a task that is swept over BATCH_SIZE."""
    made = plan(name="sweep", shards=len(values))
    return dataclasses.replace(made, sweep=Sweep("train", (("BATCH_SIZE", values),), ()))


def line(name: str, state: str, at: float = 10.0, **facts: Any) -> dict[str, Any]:
    """One line of the record of tasks."""
    return {"format": 1, "event": "task", "at": at, "task": name, "state": state, "try": 0, **facts}


class Folder:
    """The folder of a run of a plan, as the submission leaves it, and a cluster on which it is pending."""

    def __init__(self, decided: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
        self.dir = RunDir(os.path.join(os.environ["HPCRUN_HOME"], "runs", decided.run_id))
        for path in self.dir.folders(decided.shards):
            os.makedirs(path)
        with open(self.dir.plan, "w", encoding="utf-8") as file:
            json.dump(decided.to_json(), file)
        events.add(self.dir.submission, "intent", {"batch": 0})
        events.add(self.dir.submission, "submitted", {"batch": 0, "job": "100"})
        self.cluster = FakeCluster()
        self.cluster.jobs["100"] = Job(decided.batches[0], None, ["PENDING"] * decided.shards)
        monkeypatch.setattr(run, "connect", lambda *_, **__: self.cluster)

    def begin(self, shard: int = 0, attempt: int = 0) -> None:
        """Let an attempt have started."""
        self.cluster.set("100", "RUNNING", shard)
        path = self.dir.record(shard, attempt)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        events.add(path, "start", {"at": 1.0, "node": "c1", "job": "100", "shard": shard, "attempt": attempt})

    def end(self, shard: int = 0, attempt: int = 0, **end: Any) -> None:
        """Let it have ended, well unless `end` says otherwise."""
        said = {"at": 60.0, "exit_code": 0, "signal": 0, "cause": None, **end}
        events.add(self.dir.record(shard, attempt), "end", said)

    def tasks(self, *lines: dict[str, Any], attempt: int = 0) -> None:
        """Let the supervisor have written these lines on its tasks."""
        os.makedirs(os.path.dirname(self.dir.tasks(attempt)), exist_ok=True)
        for one in lines:
            facts = {name: value for name, value in one.items() if name not in ("format", "event")}
            events.add(self.dir.tasks(attempt), "task", facts)

    def write(self, name: str, text: str, *, attempt: int = 0, rank: int = 0) -> str:
        """Let a task have written this; the path of its log."""
        path = self.dir.task_log(attempt, name, rank)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "a", encoding="utf-8") as file:
            file.write(text)
        return path
