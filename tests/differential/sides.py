"""A workflow carried out by nv-sflow and by hpcrun, and what has come of it, in the same words."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from differential.workflows import Workflow
from machine import Done, Machine, alive, end_all
from ruamel.yaml import YAML
from waiting import until

from hpcrun import Run
from hpcrun.tasks import swept

Event = dict[str, Any]
Edge = tuple[str, str]
SFLOW = os.environ.get("SFLOW") or shutil.which("sflow", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
NOTE = f"{sys.executable} {Path(__file__).with_name('note.py')}"
STATES = {
    "COMPLETED": "succeeded", "READY": "succeeded", "FAILED": "failed", "CANCELLED": "cancelled", "timed_out": "failed",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Task:
    """How a task has ended."""

    state: str
    """``succeeded``, ``failed`` or ``cancelled``."""
    tries: int
    exit_code: int | None
    """Of the last try; less than 0 for a signal; None where it was not waited for."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What has come of a workflow on one side."""

    exit_code: int
    said: str
    """All that the command printed."""
    tasks: dict[str, Task]
    """None where the spec was refused."""
    edges: frozenset[Edge]
    """The dependencies among them, as this side sees them."""
    events: tuple[Event, ...]
    """What the tasks themselves have noted."""
    left: int
    """How many processes of tasks were alive afterwards."""

    @property
    def refused(self) -> bool:
        return not self.tasks

    def of(self, kind: str, name: str) -> list[Event]:
        return [event for event in self.events if event["kind"] == kind and event["name"] == name]


def by_sflow(workflow: Workflow, folder: Path) -> Outcome:
    """Carried out by nv-sflow in its local backend."""
    assert SFLOW, "found no sflow, wanted what `pip install --group dev` installs"
    machine = _prepared(workflow, folder)
    done = machine.command(SFLOW, "run", *_arguments(workflow), deadline=180)
    found = sorted((machine.cwd / "sflow_output").glob("*/sflow_summary.log"))
    summary = found[0].read_text() if found else ""
    return _outcome(machine, done, _sflow_tasks(summary), _sflow_edges(summary))


def by_hpcrun(workflow: Workflow, folder: Path) -> Outcome:
    """Carried out by hpcrun on this machine."""
    machine = _prepared(workflow, folder)
    done = machine.hpcrun("run", "--cluster", "local", *_arguments(workflow), deadline=180)
    run = machine.newest()
    return _outcome(machine, done, _hpcrun_tasks(run) if run else {}, _hpcrun_edges(run) if run else [])


def _prepared(workflow: Workflow, folder: Path) -> Machine:
    machine = Machine(folder)
    with open(machine.cwd / "workflow.yaml", "w", encoding="utf-8") as file:
        YAML(typ="safe").dump(workflow.spec, file)
    (folder / "events").touch()
    machine.environ |= {"NOTE": NOTE, "EVENTS": str(folder / "events"), "WATCHED": " ".join(workflow.variables)}
    if workflow.gpus:
        machine.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, range(workflow.gpus)))
    return machine


def _arguments(workflow: Workflow) -> list[str]:
    return [*(word for setting in workflow.settings for word in ("--set", setting)), "workflow.yaml"]


def _outcome(machine: Machine, done: Done, tasks: dict[str, Task], edges: list[Edge]) -> Outcome:
    left = _left(machine)
    events = [json.loads(line) for line in (machine.folder / "events").read_text().splitlines()]
    said = (done.stdout + done.stderr).decode(errors="replace")
    end_all(machine)
    return Outcome(done.returncode, said, tasks, frozenset(edges), tuple(events), left)


def _left(machine: Machine) -> int:
    """How many processes are alive a while after the end; they are killed."""
    with contextlib.suppress(AssertionError):  # the supervisor of a run is the last to go
        until(lambda: not _alive(machine), 10, "the end of all")
    found = _alive(machine)
    for process in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, 9)
    return len(found)


def _alive(machine: Machine) -> list[int]:
    """The processes that have been told where the events go."""
    found = []
    marker = os.fsencode(f"EVENTS={machine.folder / 'events'}")
    for process in map(int, filter(str.isdecimal, os.listdir("/proc"))):
        try:
            ours = marker in Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        found += [process] if ours and alive(process) else []
    return found


def _section(summary: str, title: str) -> list[str]:
    """The lines of a section of sflow's summary."""
    found = re.search(rf"^{title}\n-+\n(.*?)(?:\n\n|\Z)", summary.strip(), re.MULTILINE | re.DOTALL)
    return found[1].splitlines() if found else []


def _sflow_tasks(summary: str) -> dict[str, Task]:
    rows = [re.fullmatch(r"(.*?) *\|[#.]*\| [\d.]+s (\w+)", line) for line in _section(summary, "Task Duration Chart")]
    timeline = "\n".join(_section(summary, "Timeline"))
    return {row[1]: _sflow_task(row[1], row[2], timeline) for row in rows if row}


def _sflow_task(name: str, state: str, timeline: str) -> Task:
    events = re.findall(rf"^[\d:]+ +\+[\d.]+s +{re.escape(name)} +(\w+) +(.*)$", timeline, re.MULTILINE)
    codes = [found[1] for _, text in events if (found := re.match(r"exit=(-?\d+)", text))]
    tries = sum(kind == "SUBMITTED" for kind, _ in events)
    return Task(STATES[state], tries, int(codes[-1]) if codes else None)


def _sflow_edges(summary: str) -> list[Edge]:
    rows = [line.partition(" -> ") for line in _section(summary, "Dependencies")]
    return [(first, later) for firsts, _, later in rows for first in firsts.split(", ") if first != "START"]


def _hpcrun_tasks(run: Run) -> dict[str, Task]:
    status = run.status()
    if run.plan.tasks:
        return {
            task.name: Task(STATES.get(task.state, task.state), task.tries, _code(task.exit_code, task.signal))
            for task in status.tasks
        }
    return {
        point.name: Task(STATES.get(point.state, point.state), point.attempts, _code(point.exit_code, point.signal))
        for table in swept(run.plan, status)
        for point in table.points
    }


def _code(exit_code: int | None, signal: int) -> int | None:
    return -signal if signal else exit_code


def _hpcrun_edges(run: Run) -> list[Edge]:
    return [(earlier, task.name) for task in run.plan.tasks for earlier in task.needs]
