"""The differences between what nv-sflow and hpcrun have made of a workflow, and which of them are meant."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import Any

from differential.sides import Outcome
from differential.workflows import Workflow


@dataclasses.dataclass(frozen=True)
class Difference:
    """One thing that is not the same on both sides."""

    workflow: str
    what: str
    sflow: Any
    hpcrun: Any

    def __str__(self) -> str:
        return f"{self.workflow}: {self.what}: sflow {self.sflow!r}, hpcrun {self.hpcrun!r}"


MEANT = {
    "odd_collision": "two replicas of the same name are an error; sflow drops one of them without a word",
    "odd_slash": "a name is that of a folder: what does not fit in one is an error",
    "odd_nothing": "a variable without a value is an error; with sflow it is the text None",
    "odd_untyped": "a variable without a type is what YAML says, here a number; with sflow it is a text",
    "odd_shell_in_expression": "only ${{ }} is an expression: ${# stays the shell's, also where both are on one line",
    "odd_task_in_sweep": "a replica has its own values also where a line asks for a task; with sflow the default ones",
    "odd_sweep_fails": "a sweep alone is an array: its shards know nothing of each other, and 3 is the code for some",
    "odd_timeout": "the timeout of a task is kept to; sflow ignores it",
    "odd_yes": "a spec is YAML 1.2, where yes is a text; sflow reads YAML 1.1, where it is true",
    "odd_domain": "expressions count in domains too, and a derived variable has the value of its replica",
    "odd_background": "what a task leaves in the background is ended with it; sflow waits for it",
    "odd_pattern": "a regex_pattern is a regular expression; with sflow it is a plain text, unless it begins with re:",
    "odd_line_start": "^ is where what the program wrote begins; sflow reads its log with the time before each line",
}
"""Workflows in which differences are meant, and why."""
REFUSED = 2
"""hpcrun's exit code for a spec that it refuses; sflow's is 1, as for a workflow that has failed."""
EVERYWHERE = {
    "SFLOW_TASK_ASSIGNED_NODE_NAMES": "the machine has its own name, with sflow it is localhost",
}
"""The same, for what every task has: what `Difference.what` begins with."""


def differences(workflow: Workflow, sflow: Outcome, hpcrun: Outcome) -> list[Difference]:
    """All of them that are not meant; with one that says so where none is seen that is meant in this workflow."""
    found = list(_found(workflow, sflow, hpcrun))
    if workflow.name in MEANT and all(one.what.startswith(tuple(EVERYWHERE)) for one in found):
        return [Difference(workflow.name, "none is left", MEANT[workflow.name], "the same")]
    return [one for one in found if not reason(one)]


def reason(found: Difference) -> str:
    """Why a difference is meant; empty where it is not."""
    if found.workflow in MEANT:
        return MEANT[found.workflow]
    return next((why for what, why in EVERYWHERE.items() if found.what.startswith(what)), "")


def _found(workflow: Workflow, sflow: Outcome, hpcrun: Outcome) -> Iterator[Difference]:
    def told(what: str, theirs: Any, ours: Any) -> Iterator[Difference]:
        if theirs != ours:
            yield Difference(workflow.name, what, theirs, ours)

    if sflow.refused or hpcrun.refused:
        if not (sflow.refused and hpcrun.refused and hpcrun.exit_code == REFUSED):
            yield Difference(workflow.name, "refused", _refusal(sflow), _refusal(hpcrun))
        return
    yield from told("exit code", sflow.exit_code, hpcrun.exit_code)
    yield from told("names", sorted(sflow.tasks), sorted(hpcrun.tasks))
    yield from told("dependencies", sorted(sflow.edges - hpcrun.edges), sorted(hpcrun.edges - sflow.edges))
    for name in sorted(sflow.tasks.keys() & hpcrun.tasks):
        for field in ("state", "tries", "exit_code"):
            theirs, ours = getattr(sflow.tasks[name], field), getattr(hpcrun.tasks[name], field)
            if field != "exit_code" or None not in (theirs, ours):
                yield from told(f"{field} of {name}", theirs, ours)
        yield from told(f"what {name} said", _said(sflow, name), _said(hpcrun, name))
        theirs, ours = _environment(sflow, name), _environment(hpcrun, name)
        yield from told(f"the start of {name}", bool(theirs), bool(ours))
        for variable in sorted(theirs if ours else ()):
            yield from told(f"{variable} of {name}", theirs[variable], ours.get(variable))
    yield from told("began too early", _too_early(sflow), _too_early(hpcrun))
    yield from told("left running", 0, hpcrun.left)


def _refusal(outcome: Outcome) -> str:
    """What was said to it, or that it ran."""
    said = " ".join(outcome.said.rpartition("✗")[2].split())
    return f"exit code {outcome.exit_code}: {said}" if outcome.refused else "it ran"


def _said(outcome: Outcome, name: str) -> list[str]:
    return [event["text"] for event in outcome.of("say", name)]


def _environment(outcome: Outcome, name: str) -> dict[str, str]:
    """What a task has seen, if it began: variables as they are, folders by how they lie to each other."""
    started = outcome.of("start", name)
    if not started:
        return {}
    seen: dict[str, str] = started[-1]["env"]
    folder = seen.get("SFLOW_TASK_OUTPUT_DIR", "?")
    above = seen.get("SFLOW_WORKFLOW_OUTPUT_DIR", "?")
    relative = {
        "SFLOW_TASK_OUTPUT_DIR": folder.replace(above, "(workflow's)"),
        "SFLOW_TASK_RESULT_FILE": seen.get("SFLOW_TASK_RESULT_FILE", "?").replace(folder, "(task's)"),
        "SFLOW_WORKFLOW_RESULT_FILE": seen.get("SFLOW_WORKFLOW_RESULT_FILE", "?").replace(above, "(workflow's)"),
        "SFLOW_WORKSPACE_DIR": os.path.basename(seen.get("SFLOW_WORKSPACE_DIR", "?")),
    }
    absolute = {
        variable: str(os.path.isabs(seen.get(variable, "")))
        for variable in ("SFLOW_OUTPUT_DIR", "SFLOW_WORKFLOW_OUTPUT_DIR")
    }
    return {**seen, **relative, **absolute, "what is a folder": " ".join(sorted(started[-1]["folders"]))}


def _too_early(outcome: Outcome) -> list[tuple[str, str]]:
    """The dependencies that were not kept to, by what the tasks have noted."""
    return sorted(
        (earlier, later)
        for earlier, later in outcome.edges
        if (began := outcome.of("start", later)) and not _met(outcome, earlier, began[0]["at"])
    )


def _met(outcome: Outcome, name: str, at: float) -> bool:
    """Whether a task had ended well, or was ready, at a time."""
    return any(event["at"] <= at for event in outcome.of("end", name) + outcome.of("up", name))
