"""The queue asked by pyslurm, a stand-in of which is really imported by a process of its own."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from contract import ClusterContract, Seam
from fakes import FakeCluster

from hpcrun import poller
from hpcrun.cluster import QueueRow
from hpcrun.indexes import fold_indexes
from hpcrun.plan import Batch
from hpcrun.poller import Poller, usable
from hpcrun.rundir import RunDir
from hpcrun.slurm import Completed, run_here

THREE = Batch(index=0, first=0, count=3, array=True, throttle=None, pack=1, after=None)
STANDIN = Path(__file__).parent.parent / "standin"


@dataclasses.dataclass
class Machine:
    """Where commands run: Slurm is `version`, squeue prints `squeue`, and a Python is really started."""

    folder: Path
    records: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    slurm: FakeCluster | None = None
    """Whose jobs the records are, where they are not given."""
    does: str = ""
    version: str = "slurm-wlm 24.11.5"
    squeue: str = ""
    called: list[str] = dataclasses.field(default_factory=list)

    def __call__(self, argv: Sequence[str], environ: Mapping[str, str], deadline: float) -> Completed:
        self.called.append("pyslurm" if argv[0] == sys.executable else argv[0])
        if argv[0] != sys.executable:
            return Completed(0, self.version if argv[0] == "scontrol" else self.squeue, "")
        path = self.folder / "records.json"
        path.write_text(json.dumps(self.records if self.slurm is None else records_of(self.slurm)))
        return run_here(argv, {**environ, "STANDIN_RECORDS": str(path), "STANDIN_DOES": self.does}, deadline)

    def asks(self) -> Poller:
        return Poller({}, self, "pyslurm")

    @property
    def run(self) -> RunDir:
        return RunDir(str(self.folder / "home" / "runs" / "abc"))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine with pyslurm 24.11.0 and Slurm 24.11."""
    return with_pyslurm("24.11.0", tmp_path, monkeypatch)


def with_pyslurm(version: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    about = folder / f"pyslurm-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: pyslurm\nVersion: {version}\n")
    (folder / "home" / "cache").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.syspath_prepend(str(STANDIN))
    return Machine(folder)


class TestPyslurm(ClusterContract):
    """The contract, with the queue read by pyslurm and everything else asked of the fake."""

    @pytest.fixture
    def seam(self, machine: Machine) -> Iterator[Seam]:  # type: ignore[override]
        fake, cluster = FakeCluster(), machine.asks()
        machine.slurm = fake
        for name in ("limits", "submit", "look_at", "accounting", "cancel", "start_now", "requeue"):
            setattr(cluster, name, getattr(fake, name))

        def staying() -> tuple[RunDir, str]:
            return machine.run, fake.submit(machine.run, THREE, None)

        def ending() -> tuple[RunDir, str]:
            run, job = staying()
            fake.set(job, "COMPLETED")
            return run, job

        yield Seam(cluster, staying, ending)
        assert "squeue" not in machine.called


def records_of(fake: FakeCluster) -> list[dict[str, Any]]:
    """The jobs of the fake as slurmctld has them: tasks that wait in one record, each other one in its own."""
    found: list[dict[str, Any]] = []
    for job, one in fake.jobs.items():
        waiting = [task for task, state in enumerate(one.states) if state == "PENDING"]
        base = {"array_id": int(job), "command": one.script}
        if waiting:
            found.append({**base, "id": int(job), "state": "PENDING", "array_tasks_waiting": fold_indexes(waiting)})
        found += [
            {**base, "id": 1000 * int(job) + task, "state": state, "array_task_id": task, "allocated_nodes": "c1"}
            for task, state in enumerate(one.states)
            if task not in waiting
        ]
    return found


PRIMES = "1-2,5,7,11,13,17,19,23,29,31,37,41,43,47,53,59,61,67,71,73,79,83,89,97"


@pytest.mark.parametrize(
    ("facts", "row"),
    [
        (
            {"id": 12, "state": "RUNNING", "allocated_nodes": "n[1-2]"},
            QueueRow("12", None, "RUNNING", "None", "n[1-2]"),
        ),
        ({"id": 13, "array_id": 12, "array_task_id": 3, "state": "RUNNING"}, QueueRow("12", (3,), "RUNNING", "None")),
        # Task 0 reads None; what tells it from the rest of its array is that nothing waits.
        (
            {"id": 14, "array_id": 12, "array_task_id": 0, "state": "RUNNING", "allocated_nodes": "n1"},
            QueueRow("12", (0,), "RUNNING", "None", "n1"),
        ),
        (
            {"id": 12, "array_id": 12, "array_task_id": 0, "state": "PENDING", "state_reason": "BeginTime"},
            QueueRow("12", (0,), "PENDING", "BeginTime"),
        ),
        (
            {"id": 12, "array_id": 12, "array_tasks_waiting": "1-7:3", "state": "PENDING"},
            QueueRow("12", (1, 4, 7), "PENDING", "None"),
        ),
        # What is left of elements that were cancelled together is no task 0.
        (
            {"id": 12, "array_id": 12, "state": "CANCELLED", "state_reason": "JobHeldUser"},
            QueueRow("12", None, "CANCELLED", "JobHeldUser"),
        ),
        (
            {"id": 12, "array_id": 12, "array_tasks_waiting": PRIMES, "state": "PENDING"},
            QueueRow("12", (1, 2, *map(int, PRIMES.split(",")[1:])), "PENDING", "None"),
        ),
        (
            {"id": 20, "heterogeneous_id": 20, "heterogeneous_offset": 0, "state": "COMPLETING", "comment": "a b|c"},
            QueueRow("20", None, "COMPLETING", "None|a b", comment="c"),  # as squeue's own line is read
        ),
        (
            {"id": 22, "state": "PENDING", "comment": "hpcrun:abc", "command": "/a b/runs/abc/scripts/0.sh"},
            QueueRow("22", None, "PENDING", "None", "", "/a b/runs/abc/scripts/0.sh", "hpcrun:abc"),
        ),
    ],
)
def test_records_are_read_by_their_rules(machine: Machine, facts: dict[str, Any], row: QueueRow) -> None:
    """A record becomes the row that squeue's line of the same job does."""
    machine.records.append(facts)
    assert machine.asks().queue(machine.run) == [row]
    assert machine.called == ["scontrol", "pyslurm"]


def test_only_the_users_own_jobs_count(machine: Machine) -> None:
    """Workers' components and other people's jobs are no rows."""
    machine.records += [
        {"id": 1, "state": "RUNNING", "user_id": os.getuid() + 1},
        {"id": 21, "heterogeneous_id": 20, "heterogeneous_offset": 1, "state": "RUNNING"},
    ]
    assert machine.asks().queue(machine.run) == []


@pytest.mark.parametrize(
    "does",
    ["exits at import", "exits at import as if nothing was wrong", "hangs", "raises", "ends in the middle"],
)
def test_squeue_answers_where_pyslurm_fails(machine: Machine, does: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the same poll, and pyslurm is left alone for a while, by other processes of the machine too."""
    monkeypatch.setattr(poller, "PYSLURM_DEADLINE", 2.0 if does == "hangs" else 60.0)
    machine.does, machine.squeue = does, "12|RUNNING|n1|None|(null)|(null)\n"
    asks = machine.asks()
    assert asks.queue(machine.run) == [QueueRow("12", None, "RUNNING", "None", "n1")]
    assert machine.called == ["scontrol", "pyslurm", "squeue"]
    machine.does = ""
    asks.queue(machine.run)
    poller._shared.clear()  # as another process has it
    machine.asks().queue(machine.run)
    assert machine.called == ["scontrol", "pyslurm", "squeue", "squeue", "squeue"]


@pytest.mark.parametrize("version", ["25.11.2", "18.8.1.1", "dev"])
def test_a_pyslurm_of_another_release_is_never_imported(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would read structures whose members lie elsewhere."""
    machine = with_pyslurm(version, tmp_path, monkeypatch)
    machine.asks().queue(machine.run)
    assert machine.called == ["scontrol", "squeue"]


def test_nobody_asks_for_pyslurm_unless_the_settings_say_so(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """squeue is the default."""
    Poller({}, machine).queue(machine.run)
    assert machine.called == ["squeue"]
    monkeypatch.setenv("HPCRUN_POLLER", "pyslurm")
    Poller({}, machine).queue(machine.run)
    assert machine.called == ["squeue", "scontrol", "pyslurm"]


@pytest.mark.parametrize(
    ("installed", "slurm", "says"),
    [
        ("24.11.0", "slurm-wlm 24.11.5", ""),
        ("22.5.3", "slurm 22.05.8", ""),
        ("26.5.0", "26.05.1", ""),
        (None, "slurm 24.11.5", "not installed"),
        ("25.11.2", "slurm 24.11.5", "wanted pyslurm 24.11.*"),
        ("25.11.2", "slurm 22.05.8", "found pyslurm 25.11.2 with Slurm 22.05; wanted pyslurm 22.5.*"),
        ("dev", "slurm 24.11.5", "names no release"),
        ("24.11.0", "scontrol: error", "no version of Slurm"),
    ],
)
def test_versions_are_compared_as_numbers(installed: str | None, slurm: str, says: str) -> None:
    """What fits has no reason against it; everything else has one that says what was wanted."""
    found = usable(installed, slurm)
    assert says in found if says else not found
