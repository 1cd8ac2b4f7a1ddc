"""`hpcrun doctor` on a real Slurm: all is well, and what is made wrong is found, with nothing left in the queue."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from containers import RELEASE, Login, User

SHARE = "export HPCRUN_HOME=/a/folder/that/nodes/share, or `home` in hpcrun.toml"
HOME = "/shared/tests/doctor"
"""For tests that change nothing of it: the runtime is built once."""
NOT_FOR_CONTAINERS = {"processes", "memory"} | ({"MPI"} if RELEASE == "26.05" else set())
"""What is always noted here: there are no cgroups, and Debian's 26.05 has no PMIx."""

OLD = """#!/bin/sh
echo 3.6.8
"""
REFUSING = """#!/bin/sh
case $1 in requeue | update) echo "slurm_requeue error: Access/permission denied" >&2 && exit 1 ;; esac
exec /usr/bin/scontrol "$@"
"""
WRAPPER = """#!/bin/bash
echo "Welcome to our cluster!"
exec /usr/bin/sbatch "$@"
"""
LATE = """
prologue = '''
export LD_PRELOAD=$(echo /usr/lib/*/faketime/libfaketime.so.1) FAKETIME=-900s FAKETIME_DONT_FAKE_MONOTONIC=1
'''
"""


@pytest.fixture
def doctor(user: User, in_queue: Callable[[], str]) -> Callable[..., dict[str, Any]]:
    """`hpcrun doctor`: its findings that are not ok, by name, with the exit code as `code`.

    Whatever it finds, its job is gone and its folder too.
    """

    def call(*args: str, before: str = "", home: str = HOME) -> dict[str, Any]:
        done = user.sh(f'{before} export HPCRUN_HOME="$1"; shift; exec hpcrun doctor --json "$@"', home, *args)
        assert done.stdout, done.stderr
        assert in_queue() == ""
        assert user.sh('ls -A "$1/runs"', home).stdout == ""
        said = re.sub(r"\bc[1-4]\b", "cN", done.stdout)  # whichever node Slurm chose
        found = [one for one in json.loads(said)["findings"] if one["state"] != "ok"]
        return {"code": done.returncode} | {one["name"]: one for one in found if one["name"] not in NOT_FOR_CONTAINERS}

    return call


def program(user: User, path: str, text: str) -> str:
    """A program in the user's folder; its path."""
    path = user.write(path, text)
    user.ok("chmod", "+x", path)
    return path


def told(one: dict[str, str]) -> tuple[str, str, str]:
    return one["state"], one["found"], one["todo"]


def test_all_is_well(user: User, in_queue: Callable[[], str]) -> None:
    """A node has reported, two have spoken with each other, and Slurm has let a job start itself again."""
    done = user.sh('HPCRUN_HOME="$1" exec hpcrun doctor', HOME)
    said = done.stdout
    assert (done.returncode, in_queue()) == (0, ""), said
    assert "python on nodes    /usr/bin/python3 is 3." in said
    assert "requeue            a job may start itself again" in said
    assert " by TCP\n" in said
    assert said.splitlines()[-1].startswith(f"{len(NOT_FOR_CONTAINERS)} notes, ")


def test_a_folder_of_this_machine_alone(doctor: Callable[..., dict[str, Any]]) -> None:
    """The job cannot report, and how it ended tells why."""
    home = f"/tmp/doctor-{uuid.uuid4().hex[:8]}"
    found = doctor(home=home)
    assert found.keys() == {"code", "shared"}
    assert told(found["shared"]) == ("problem", f"{home}/runs is another folder on cN than here, or none", SHARE)
    assert found["code"] == 1


def test_a_folder_that_nodes_cannot_write(user: User, doctor: Callable[..., dict[str, Any]]) -> None:
    """As where a file system is mounted read-only there."""
    user.write("hpcrun.toml", f"prologue = 'chmod a-w {HOME}/runs/.doctor-*'")
    found = doctor()
    assert found.keys() == {"code", "shared"}
    assert told(found["shared"]) == (
        "problem", f"{HOME}/runs cannot be written on cN", f"{SHARE}; `srun touch {HOME}/runs/try` shows why",
    )  # fmt: skip


def test_several_things_are_wrong(user: User, doctor: Callable[..., dict[str, Any]]) -> None:
    """An open folder, an old Python, a wrong clock, a site that forbids requeues and wraps sbatch: each by itself."""
    program(user, "bin/scontrol", REFUSING)
    sbatch = program(user, "bin/sbatch", WRAPPER)
    old = program(user, "old/python3", OLD)
    user.write("hpcrun.toml", f'node_python = "{old}"\n{LATE}')
    user.ok("mkdir", "-p", "-m", "755", f"{user.home}/runs")
    found = doctor(before="export PATH=$PWD/bin:$PATH SBATCH_ACCOUNT=users;", home=user.home)
    assert found.keys() == {"code", "slurm commands", "variables", "privacy", "python on nodes", "clock", "requeue"}
    assert found["slurm commands"]["found"] == f"{sbatch} is a script of the site's (#!/bin/bash)"
    assert found["variables"]["todo"] == 'In hpcrun.toml:\n[defaults]\nsbatch = { account = "users" }'
    assert told(found["privacy"]) == (
        "problem", f"{user.home}/runs has mode 0755: open to everybody", f"chmod 700 {user.home}/runs",
    )  # fmt: skip
    python = found["python on nodes"]
    assert (python["state"], python["found"]) == ("problem", f"{old} on cN is 3.6.8, and hpcrun needs 3.9 or newer")
    assert python["todo"].startswith('In hpcrun.toml: node_python = "/usr/bin/python3.')
    behind = re.fullmatch(r"cN's clock is at least (\d+) s behind this machine's", found["clock"]["found"])
    assert found["clock"]["state"] == "problem"
    assert behind
    assert 600 < int(behind[1]) <= 900
    assert told(found["requeue"]) == (
        "problem", "not allowed here: slurm_requeue error: Access/permission denied",
        'In hpcrun.toml, so that the limit is made for all attempts:\n[defaults]\nretry = "in_place"',
    )  # fmt: skip
    assert found["code"] == 1


def test_no_python_on_the_node(user: User, doctor: Callable[..., dict[str, Any]]) -> None:
    """The shell that reports needs none."""
    user.write("hpcrun.toml", 'node_python = "/opt/nowhere/python3"')
    found = doctor()
    assert found.keys() == {"code", "python on nodes"}
    assert found["python on nodes"]["found"] == "no /opt/nowhere/python3 on cN"


def test_a_prologue_that_ends_the_job(user: User, doctor: Callable[..., dict[str, Any]]) -> None:
    """The settings' own shell code runs before everything else."""
    user.write("hpcrun.toml", "prologue = 'exit 3'")
    found = doctor()
    assert found.keys() == {"code", "a small job"}
    assert found["a small job"]["found"] == (
        "job {} ended with exit code 3 (FAILED: NonZeroExitCode) and reported nothing"
    ).format(found["a small job"]["found"].split()[1])


def test_a_job_that_does_not_start(doctor: Callable[..., dict[str, Any]]) -> None:
    """It is cancelled, and what only it could tell is not checked; that is no problem of the site's."""
    found = doctor("--timeout", "1", "--sbatch-option", "begin=now+1hour")
    assert found.keys() == {"code", "a small job"}
    assert found["a small job"]["state"] == "not checked"
    assert re.search(r" still waits after \d+ s \(BeginTime\); it was cancelled", found["a small job"]["found"])
    assert found["code"] == 0


def test_a_partition_for_short_jobs(doctor: Callable[..., dict[str, Any]], login: Login) -> None:
    """The job asks for no more time than it may have; else it would wait for ever."""
    try:
        login("scontrol", "update", "partition=high", "MaxTime=2", user="root", node="slurmctld")
        assert doctor("--partition", "high") == {"code": 0}
    finally:
        login("scontrol", "update", "partition=high", "MaxTime=INFINITE", user="root", node="slurmctld")


def test_a_partition_that_there_is_not(doctor: Callable[..., dict[str, Any]]) -> None:
    """sbatch's word, and how to find a better one."""
    found = doctor("--partition", "nowhere")
    assert found.keys() == {"code", "a small job"}
    assert told(found["a small job"]) == (
        "problem", "sbatch refused it: Batch job submission failed: Invalid partition name specified",
        "`sinfo` lists the partitions; name one with --partition or in a node pool of hpcrun.toml",
    )  # fmt: skip
