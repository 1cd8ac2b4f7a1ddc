"""What `hpcrun doctor` makes of awful sites: each finding whole, as its user reads it."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import hpcrun
from hpcrun.cli import main
from hpcrun.cluster import Limits
from hpcrun.doctor import examine
from hpcrun.doctor.facts import Facts, Folder, Machine, Probe, Site, Trial
from hpcrun.quotas import JOBS, TIME, Limit, Place

NOW = 1_700_000_000.0
AS_OF = f"Configuration data as of {time.strftime('%Y-%m-%dT%H:%M:%S', time.localtime(NOW))}"
CONFIG = {
    AS_OF: "",
    "AccountingStorageType": "accounting_storage/slurmdbd",
    "AuthInfo": "(null)",
    "ClusterName": "big",
    "ConstrainRAMSpace": "yes",
    "GresTypes": "gpu",
    "JobRequeue": "1",
    "JobSubmitPlugins": "(null)",
    "KillWait": "30 sec",
    "MinJobAge": "300 sec",
    "PreemptMode": "REQUEUE",
    "PreemptType": "preempt/qos",
    "ProctrackType": "proctrack/cgroup",
    "RequeueExit": "(null)",
    "SLURM_VERSION": "24.11.5",
    "SchedulerParameters": "bf_hetjob_immediate",
    "SchedulerType": "sched/backfill",
    "SelectTypeParameters": "CR_CORE_MEMORY",
    "SlurmdTimeout": "300 sec",
}
RUNS = "/home/me/.hpcrun/runs"
SAID = {
    "node": "n7", "time": f"{NOW}", "link": "ok", "exclusive": "ok", "rename": "ok", "nofile": "51200",
    "scontrol": "/usr/bin/scontrol", "srun": "/usr/bin/srun", "scancel": "/usr/bin/scancel",
    "python": "/usr/bin/python3", "python_version": "3.11.2", "runtime": "ok", "peer_node": "n8", "peer": "ok",
    "requeue": "ok",
}  # fmt: skip
ENOUGH = 10_000_000_000


def site(config: dict[str, str] | None = None, *limits: Limit, **place: Any) -> Site:
    """A good one, with other settings, limits or a place of another kind."""
    places = ((Place("main", "physics", limits=limits, **place),),)
    mpi = "MPI plugin types are...\n\tnone\n\tpmix\nspecific pmix plugin versions available: pmix_v5\n"
    return Site({**CONFIG, **(config or {})}, limits=Limits(1001, True, places=places), mpi=mpi, asked=NOW)


def facts(**changed: Any) -> Facts:
    """Of a site where all is well, and something else: `machine`, `folder`, `said` and `probe` by their fields."""
    commands = {name: f"/usr/bin/{name}" for name in ("sbatch", "squeue", "scontrol", "scancel", "sacct", "srun")}
    machine = Machine("login1", "3.12.1", ("/etc/hpcrun/hpcrun.toml",), commands=commands)
    folder = Folder(RUNS, modes={"/home/me/.hpcrun": 0o755, RUNS: 0o700}, kind="nfs4", free=ENOUGH, files=ENOUGH)
    probe = Probe("reported", "12", said={**SAID, **changed.get("said", {})}, waited=1.5, between=(NOW - 0.5, NOW + 1))
    return Facts(
        dataclasses.replace(machine, **changed.get("machine", {})),
        dataclasses.replace(folder, **changed.get("folder", {})),
        changed.get("site", site()),
        dataclasses.replace(probe, **changed.get("probe", {})) if changed.get("site", ...) is not None else None,
        changed.get("trial"),
    )


def test_a_good_site() -> None:
    """Nothing is said that is not well, and every check has a name of its own."""
    found = examine(facts())
    assert [one for one in found if one.state != "ok"] == []
    assert len({(one.group, one.name) for one in found}) == len(found) > 25
    assert not any(one.meaning or one.todo for one in found)


AWFUL: list[tuple[str, dict[str, Any]]] = [
    ("settings", {"machine": {"unread": "/home/me/hpcrun.toml:3: hom: found an unknown key"}}),
    ("slurm commands", {"machine": {"commands": {"sbatch": "/usr/bin/sbatch", "scontrol": "/usr/bin/scontrol"}}}),
    ("slurm commands", {"machine": {"script": "#!/bin/bash"}}),
    ("slurm commands", {"machine": {"cluster": "local"}, "site": None}),
    ("variables", {"machine": {"environ": {"SBATCH_ACCOUNT": "physics", "SBATCH_EXPORT": "NONE"}}}),
    ("locale", {"machine": {"locale": "LC_ALL=xx_XX.UTF-8"}}),
    (
        "pyslurm",
        {
            "machine": {
                "poller": "pyslurm",
                "pyslurm": "25.11.2",
                "unfit": "found pyslurm 25.11.2 with Slurm 24.11; wanted pyslurm 24.11.*",
            }
        },
    ),
    ("a run", {"site": None, "trial": Trial("the local supervisor ended with code 1")}),
    ("place", {"folder": {"error": "Read-only file system"}}),
    ("privacy", {"folder": {"modes": {RUNS: 0o755}}}),
    ("privacy", {"folder": {"modes": {RUNS: 0o750}}}),
    ("privacy", {"folder": {"modes": {"/home/me/.hpcrun": 0o775, RUNS: 0o700}}}),
    ("privacy", {"folder": {"strangers": {"/home/me/.hpcrun": 1234}}}),
    ("file system", {"folder": {"refused": {"hard links": "Operation not permitted"}}}),
    ("space", {"folder": {"free": 5 << 20}}),
    ("space", {"folder": {"files": 5000}}),
    ("slurmctld", {"site": Site(error="`scontrol` gave no answer within 60 s")}),
    ("version", {"site": site({"SLURM_VERSION": "20.11.9"})}),
    ("version", {"site": site({"SLURM_VERSION": "27.02.0"})}),
    ("version", {"site": site({"SLURM_VERSION": "site-build"})}),
    ("slurmctld's clock", {"site": dataclasses.replace(site(), asked=NOW - 600)}),
    ("slurmctld's clock", {"site": dataclasses.replace(site(), asked=NOW + 10)}),
    ("accounting", {"site": site({"AccountingStorageType": "accounting_storage/none", "MinJobAge": "60 sec"})}),
    ("arrays", {"site": dataclasses.replace(site(), limits=Limits(1, True))}),
    ("arrays", {"site": dataclasses.replace(site(), limits=None)}),
    (
        "limits",
        {"site": site({}, closed="partition main, which takes no jobs now (State DRAIN)", closed_to="partition")},
    ),
    ("limits", {"site": site({}, Limit("running", JOBS, 0, "user me in account physics", "MaxJobs"))}),
    ("limits", {"site": site({}, Limit("queue", JOBS, 20, "user me in account physics", "MaxSubmitJobs", 20))}),
    (
        "limits",
        {
            "site": site(
                {},
                Limit("queue", JOBS, 20, "user me in account physics", "MaxSubmitJobs", 5),
                Limit("job", TIME, 3600, "partition main", "MaxTime"),
            )
        },
    ),
    ("limits", {"site": site({}, waits="partition main is down, and nothing starts there until it is up")}),
    ("submit filter", {"site": site({"JobSubmitPlugins": "job_submit/lua"})}),
    ("exit codes", {"site": site({"RequeueExit": "99"})}),
    ("scheduler", {"site": site({"SchedulerType": "sched/builtin"})}),
    ("scheduler", {"site": site({"SchedulerParameters": "defer,bf_interval=60"})}),
    ("preemption", {"site": site({"PreemptMode": "CANCEL"})}),
    ("preemption", {"site": site({"PreemptMode": "GANG,SUSPEND"})}),
    ("lost nodes", {"site": site({"SlurmdTimeout": "0 sec"})}),
    ("ends", {"site": site({"KillWait": "2 sec"})}),
    ("processes", {"site": site({"ProctrackType": "proctrack/linuxproc"})}),
    ("memory", {"site": site({"SelectTypeParameters": "CR_CORE"})}),
    ("memory", {"site": site({"ConstrainRAMSpace": "no"})}),
    ("MPI", {"site": dataclasses.replace(site(), mpi="MPI plugin types are...\n\\tnone\n\\tpmi2\n")}),
    ("MPI", {"site": dataclasses.replace(site(), mpi="")}),
    ("a small job", {"probe": {"outcome": "refused", "reason": "Invalid account", "hint": "name one with --account"}}),
    ("a small job", {"probe": {"outcome": "waits", "reason": "Priority", "waited": 60.2}}),
    ("a small job", {"probe": {"outcome": "waits", "reason": "AssocGrpCpuLimit", "waited": 60.2}}),
    ("a small job", {"probe": {"outcome": "skipped", "reason": "none was submitted (--no-job)"}}),
    ("a small job", {"probe": {"outcome": "silent", "reason": "NonZeroExitCode", "state": "FAILED", "code": 1}}),
    ("a small job", {"probe": {"outcome": "silent", "state": "RUNNING", "waited": 120.4}}),
    ("shared", {"probe": {"outcome": "silent", "state": "FAILED", "code": 71}}),
    ("shared", {"probe": {"outcome": "silent", "state": "FAILED", "code": 72}}),
    ("shared", {"probe": {"outcome": "silent", "state": "COMPLETED", "code": 0}}),
    ("shared", {"said": {"link": "ln: Operation not permitted"}}),
    ("python on nodes", {"said": {"python": ""}}),
    (
        "python on nodes",
        {"said": {"python_version": "3.6.8", "pythons": "/usr/bin/python3.11", "pythons_version": "3.11.2"}},
    ),
    ("python on nodes", {"said": {"python_version": "Illegal instruction"}}),
    ("python on nodes", {"said": {"runtime": "ModuleNotFoundError: No module named 'ctypes'"}}),
    ("clock", {"said": {"time": f"{NOW - 90}"}}),
    ("clock", {"said": {"time": "N"}}),
    ("slurm on nodes", {"said": {"scontrol": ""}}),
    ("requeue", {"said": {"requeue": "slurm_requeue error: Access/permission denied"}}),
    ("requeue", {"said": {"requeue": ""}}),
    ("containers", {"said": {"apptainer": "/usr/bin/apptainer"}}),
    ("containers", {"machine": {"containers": "apptainer"}}),
    ("containers", {"machine": {"containers": "pyxis"}}),
    ("node to node", {"said": {"peer": "n7:41234: [Errno 113] No route to host"}}),
    ("node to node", {"said": {"peer": ""}}),
    ("open files", {"said": {"nofile": "256"}}),
]
"""The name of a check, and the one thing that is wrong."""
GOLDEN = Path(__file__).parent / "golden" / "doctor.txt"


def test_awful_sites() -> None:
    """Each finding whole: what was found, what follows from it, and what to do."""
    said = []
    for name, changed in AWFUL:
        (one,) = (one for one in examine(facts(**changed)) if one.name == name)
        parts = [
            f"{one.state}: {one.name}: {one.found}",
            one.meaning,
            *(f"-> {line}" for line in one.todo.splitlines()),
        ]
        said.append("\n   ".join(filter(None, parts)))
    assert "\n".join(said) == GOLDEN.read_text(encoding="utf-8").rstrip("\n")


def test_every_check_is_documented() -> None:
    """docs/doctor.md has each of them by its name."""
    page = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text(encoding="utf-8")
    names = {one.name for one in examine(facts())} | {name for name, _ in AWFUL}
    assert [name for name in sorted(names) if f"`{name}`" not in page] == []


PROBE = Path(hpcrun.__path__[0]) / "node" / "checkup.sh"


def probe(folder: Path, python: str, path: str) -> dict[str, str]:
    """What the probe reports of this machine, which is no node of Slurm's, with the programs of `path` alone."""
    (folder / "start.py").write_text("print('runtime=ok')")
    environ = {"PATH": path, "SLURM_JOB_ID": "12"}
    done = subprocess.run(["/bin/sh", PROBE, folder, python], env=environ, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    text = (folder / "report").read_text() + (folder / "requeue").read_text()
    return dict(line.split("=", 1) for line in text.splitlines())  # type: ignore[misc]


def test_the_probe_on_this_machine(tmp_path: Path) -> None:
    """It finds what is there, in a folder with a blank and a quote in its name."""
    folder = tmp_path / "it's a folder"
    folder.mkdir()
    said = probe(folder, sys.executable, "/usr/bin:/bin")
    assert [said[name] for name in ("link", "exclusive", "rename", "runtime")] == ["ok"] * 4
    assert said["python"] == sys.executable
    assert said["python_version"] == ".".join(map(str, sys.version_info[:3]))
    assert abs(float(said["time"]) - time.time()) < 60
    assert said["requeue"] != "ok"


def test_the_probe_without_a_python(tmp_path: Path) -> None:
    """A node that has none says so all the same."""
    said = probe(tmp_path, "no-such-python", "/usr/bin:/bin")
    assert said["python"] == ""
    assert "runtime" not in said


def test_the_probe_where_the_folder_is_another_one(tmp_path: Path) -> None:
    """The exit code tells, for nothing else can."""
    assert subprocess.run(["/bin/sh", PROBE, tmp_path, "python3"], timeout=60).returncode == 71


def test_the_probe_that_was_requeued(tmp_path: Path) -> None:
    """Started again, because nobody was left to cancel it, it ends at once."""
    done = subprocess.run(["/bin/sh", PROBE, tmp_path, "python3"], env={"SLURM_RESTART_COUNT": "1"}, timeout=60)
    assert (done.returncode, [name for name in os.listdir(tmp_path) if name != "home"]) == (0, [])


def doctor(*args: str) -> tuple[int, str]:
    """Exit code and output of `hpcrun doctor`, with no Slurm in PATH."""
    done = CliRunner().invoke(main, ["doctor", *args])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


@pytest.fixture
def no_slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without Slurm, and a home on it."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs-home"


def test_without_slurm(no_slurm: Path) -> None:
    """It says so, tries a run, and leaves nothing behind."""
    code, said = doctor()
    assert code == 0, said
    assert "no sbatch in PATH: there is no Slurm here" in said
    assert "one shard ran here in" in said
    assert os.listdir(no_slurm / "runs") == []
    assert stat.S_IMODE(os.stat(no_slurm / "runs").st_mode) == 0o700


def test_without_slurm_and_with_what_is_wrong(no_slurm: Path) -> None:
    """A problem makes the exit code 1, as text and as JSON."""
    (no_slurm / "runs").mkdir(parents=True)
    os.chmod(no_slurm / "runs", 0o755)
    code, said = doctor()
    assert (code, said.splitlines()[-1]) == (1, "1 problem (privacy), 7 ok")
    assert f"-> chmod 700 {no_slurm}/runs" in said
    code, said = doctor("--json")
    found = json.loads(said)
    assert (code, found["counts"]["problem"]) == (1, 1)
    assert [one["name"] for one in found["findings"] if one["state"] == "problem"] == ["privacy"]


def test_settings_that_cannot_be_read(no_slurm: Path) -> None:
    """The rest is checked all the same."""
    (no_slurm.parent / "hpcrun.toml").write_text("hom = 3")
    code, said = doctor()
    assert code == 1
    assert "hpcrun.toml:1: hom: found an unknown key. Did you mean `home`?" in said
    assert "one shard ran here in" in said


def test_options_that_are_none(no_slurm: Path) -> None:
    """They are refused as a run's are."""
    assert "wanted a time such as 60, 90s or 10m" in doctor("--timeout", "soon")[1]
