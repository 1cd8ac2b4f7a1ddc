"""What a program finds around it: its variables in every dialect, its descriptors, directory and signals."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

from machine import HPCRUN, Machine, ended

from hpcrun import Run


def _environment(run: Run, shard: int) -> dict[str, str]:
    block = Path(run.log_paths(shard)[0]).read_text()
    return dict(entry.split("=", 1) for entry in block.split("\0") if entry)


def test_every_dialect(machine: Machine) -> None:
    """A shard is told who it is in the words of each system that programs may have been written for."""
    run = machine.run("-N", "3", "--name", "dialects", "--", "env", "-0")
    here, folder = socket.gethostname(), run.dir.path
    found = _environment(run, 2)
    expected = {
        "HPCRUN_RUN_ID": run.id, "HPCRUN_RUN_NAME": "dialects", "HPCRUN_RUN_DIR": folder,
        "HPCRUN_RESULTS_DIR": f"{folder}/results", "HPCRUN_ROLE": "job", "HPCRUN_SHARD_INDEX": "2",
        "HPCRUN_SHARD_COUNT": "3", "HPCRUN_REPLICA_INDEX": "0", "HPCRUN_REPLICA_COUNT": "1", "HPCRUN_ATTEMPT": "0",
        "TYGER_RUN_ID": run.id, "SYLPHX_SHARD_INDEX": "2", "SYLPHX_SHARD_COUNT": "3", "VELDA_SHARD_ID": "2",
        "VELDA_TOTAL_SHARDS": "3", "JOB_COMPLETION_INDEX": "2", "SFLOW_REPLICA_INDEX": "2",
        "SFLOW_WORKSPACE_DIR": str(machine.cwd), "SFLOW_OUTPUT_DIR": folder, "SFLOW_TASK_NODE_NAME": here,
        "SKYWARD_RANK": "2", "SKYWARD_NODE_ID": "2", "SKYWARD_NUM_NODES": "3", "SKYWARD_CLUSTER": run.id,
    }  # fmt: skip
    assert {name: found.get(name) for name in expected} == expected
    pool = json.loads(found["COMPUTE_POOL"])
    assert (pool["node"], pool["total_nodes"], pool["job_id"]) == (2, 3, run.id)
    assert not [name for name in found if name in ("RANK", "WORLD_SIZE", "MASTER_ADDR")], "shards of no gang"
    assert "TYGER_WORKER_NODES" not in found


def test_one_shard_is_sharded_and_none_is_not(machine: Machine) -> None:
    """`-N 1` sets Velda's variables, a run without -N leaves them unset; the others are there in both."""
    one, none = (_environment(machine.run(*argv, "env", "-0"), 0) for argv in (["-N", "1"], []))
    assert (one["VELDA_SHARD_ID"], one["VELDA_TOTAL_SHARDS"]) == ("0", "1")
    assert not [name for name in none if name.startswith("VELDA_")]
    assert {found["SYLPHX_SHARD_COUNT"] for found in (one, none)} == {"1"}


def test_references_are_expanded_in_spec_files_alone(machine: Machine) -> None:
    """$(VAR) of a spec file is the shard's own value, $$(VAR) is literal; a command line stays as it is."""
    words = "[printf, '%s\\n', '$(HPCRUN_SHARD_INDEX) $$(HPCRUN_SHARD_INDEX) $(NOT_THERE) $(PART)']"
    spec = machine.write("spec.yaml", f"shards: 2\ncommand: {words}\nenv: {{PART: 'p$(SYLPHX_SHARD_COUNT)'}}\n")
    run = machine.run(spec)
    assert run.logs(1) == "1 $(HPCRUN_SHARD_INDEX) $(NOT_THERE) p2\n"
    assert machine.run("echo", "$(HPCRUN_SHARD_INDEX)").logs() == "$(HPCRUN_SHARD_INDEX)\n"


def test_export_none(machine: Machine) -> None:
    """Nothing of the submission's environment but what any program needs, and who it is."""
    machine.environ["SECRET"] = "x"
    found = _environment(machine.run("--export", "NONE", "env", "-0"), 0)
    assert "SECRET" not in found
    assert found["PATH"] == machine.environ["PATH"]
    assert found["HPCRUN_SHARD_INDEX"] == "0"


def test_export_of_names_and_values(machine: Machine) -> None:
    """The names are taken from the submission, the settings are set, the rest is not there."""
    machine.environ |= {"WANTED": "w", "SECRET": "x"}
    found = _environment(machine.run("--export", "WANTED,X=1", "env", "-0"), 0)
    assert (found["WANTED"], found["X"]) == ("w", "1")
    assert "SECRET" not in found
    assert "SECRET" in _environment(machine.run("--export", "ALL,X=1", "env", "-0"), 0)


def test_the_prologue_of_the_site(machine: Machine) -> None:
    """The prologue of hpcrun.toml runs before the program, which sees what it set and gets its arguments whole."""
    machine.configure(prologue='export MODULE="loaded it"\nset -- changed')
    run = machine.run("--", "sh", "-c", 'echo "$MODULE"; echo "$1"', "sh", "a  b")
    assert run.logs() == "loaded it\na  b\n"


def test_nothing_leaks_into_the_program(machine: Machine) -> None:
    """Three descriptors, an empty standard input, the submitter's umask and directory, default signals."""
    machine.environ["PWD"] = str(machine.cwd)
    # grep looks at itself: a shell blocks all signals while it starts a command.
    script = "ls /proc/$$/fd; wc -c; umask; pwd; readlink /proc/$$/fd/0; exec grep -E 'Sig(Blk|Ign)' /proc/self/status"
    done = machine.command("sh", "-c", 'umask 027; exec "$@"', "sh", HPCRUN, "submit", "--", "dash", "-c", script)
    run = machine.open(done.stdout.decode().strip())
    assert ended(run).state == "succeeded"
    *said, blocked, ignored = run.logs().splitlines()
    assert said == ["0", "1", "2", "0", "0027", str(machine.cwd), "/dev/null"]
    assert int(blocked.split()[1], 16) == 0
    assert int(ignored.split()[1], 16) & 0x7FFFFFFF == 0, "beyond are two that the C library keeps for itself"


def test_a_program_leads_its_own_session(machine: Machine) -> None:
    """No terminal and no process group of the submitter reach it."""
    run = machine.run("sh", "-c", "cut -d' ' -f1,5,6 /proc/$$/stat")
    assert len(set(run.logs().split())) == 1


def test_run_folders_are_private(machine: Machine) -> None:
    """Only their owner reads them, whatever the umask."""
    run = machine.run("true")
    assert os.stat(run.dir.path).st_mode & 0o777 == 0o700
