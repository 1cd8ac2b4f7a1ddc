"""A stand-in for pyslurm, which takes Slurm's headers to build: what `hpcrun.records` asks of it, with its quirks.

As pyslurm 22.5 to 25.11 does: a task 0 and a leader's offset read None, tasks that wait are cut at 64 characters
unless SLURM_BITSTR_LEN is 0, and importing it calls slurm_init(), which ends the process where it has no configuration.
The records are those of the JSON file STANDIN_RECORDS; STANDIN_DOES says what goes wrong.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

_DOES = os.environ.get("STANDIN_DOES", "")

if _DOES == "exits at import":
    os._exit(1)
if _DOES == "exits at import as if nothing was wrong":
    os._exit(0)
if _DOES == "hangs":
    time.sleep(3600)


class RPCError(Exception):
    """slurmctld has said no."""


class Job:
    """One record; an attribute that is not there is none of pyslurm's."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self.id: int = facts["id"]
        self.user_id: int = facts.get("user_id", os.getuid())
        self.array_id: int | None = facts.get("array_id") or None
        self.array_task_id: int | None = facts.get("array_task_id") or None
        self.heterogeneous_id: int | None = facts.get("heterogeneous_id") or None
        self.heterogeneous_offset: int | None = facts.get("heterogeneous_offset") or None
        self.state: str = facts["state"]
        self.state_reason: str = facts.get("state_reason", "None")
        self.allocated_nodes: str | None = facts.get("allocated_nodes")
        self.comment: str | None = facts.get("comment")
        self.command: str | None = facts.get("command")
        self.requeue_count: int = facts.get("requeue_count", 0)
        waiting, length = facts.get("array_tasks_waiting"), int(os.environ.get("SLURM_BITSTR_LEN", "64"))
        cut = waiting and length and len(waiting) > length
        self.array_tasks_waiting: str | None = f"{waiting[: length - 4]}..." if cut else waiting


class Jobs(dict[int, Job]):
    """All jobs, by id."""

    @staticmethod
    def load() -> Jobs:
        """What slurmctld knows. Raises RPCError."""
        if _DOES == "raises":
            raise RPCError("Unable to contact slurm controller (connect failure)")
        with open(os.environ["STANDIN_RECORDS"], encoding="utf-8") as file:
            found = Jobs({facts["id"]: Job(facts) for facts in json.load(file)})
        if _DOES == "ends in the middle":
            print("12_3|RUNNING|n1|None|(null)|(null)", flush=True)
            os._exit(0)
        return found
