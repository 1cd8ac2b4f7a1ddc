"""What the small job says of its node, and what it means that it says nothing. Pure.

The names are those that node/checkup.sh and `hpcrun.node.checkup` write.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from hpcrun.doctor.facts import FOLDER, NODES, Facts, Finding, Probe, State
from hpcrun.doctor.site import clock
from hpcrun.slurm_releases import release

PYTHON = (3, 9)
"""The oldest Python that runs the runtime."""
NO_FOLDER, NOT_WRITABLE = 71, 72
"""Exit codes of node/checkup.sh where it can leave no report."""
_SHARED = "export HPCRUN_HOME=/a/folder/that/nodes/share, or `home` in hpcrun.toml"
_OPERATIONS = ("link", "exclusive", "rename")


def examine(facts: Facts) -> Iterator[Finding]:
    """Every finding on a node."""
    probe = facts.probe
    if facts.site is None or probe is None:
        return
    if probe.outcome == "skipped":
        yield _finding("a small job", "not checked", probe.reason)
    elif probe.outcome == "refused":
        yield _finding(
            "a small job",
            "problem",
            f"sbatch refused it: {probe.reason}",
            "So it would refuse every run that goes there.",
            probe.hint or "hpcrun doctor --partition … --account …, and what works as [defaults] in hpcrun.toml",
        )
    elif probe.outcome == "waits":
        why = f" ({probe.reason})" if probe.reason not in ("", "None") else ""
        yield _finding(
            "a small job",
            "not checked",
            f"job {probe.job} still waits after {probe.waited:.0f} s{why}; it was cancelled",
            "The nodes, and whether they see the run folder, are not checked.",
            _what_of_waiting(probe.reason),
        )
    elif probe.outcome == "silent":
        yield _silent(facts, probe)
    else:
        yield from _reported(facts, probe)


def _what_of_waiting(reason: str) -> str:
    """What to do where the job waits for `reason`, as squeue has it."""
    if reason.startswith(("Assoc", "QOS")):
        return "`sacctmgr show assoc user=$USER` and `sacctmgr show qos` show the limits"
    return "hpcrun doctor --timeout 600, or --partition with one that has idle nodes (`sinfo`)"


def _finding(name: str, state: State, found: str, meaning: str = "", todo: str = "") -> Finding:
    return Finding(NODES, name, state, found, meaning, todo)


def _silent(facts: Facts, probe: Probe) -> Finding:
    path, on = facts.folder.path, f" on {probe.said['node']}" if probe.said.get("node") else " on its node"
    nothing = "No run works: its scripts, records and logs are in that folder."
    if probe.code == NO_FOLDER:
        return Finding(
            FOLDER, "shared", "problem", f"{path} is another folder{on} than here, or none", nothing, _SHARED
        )
    if probe.code == NOT_WRITABLE:
        return Finding(
            FOLDER,
            "shared",
            "problem",
            f"{path} cannot be written{on}",
            nothing,
            f"{_SHARED}; `srun touch {path}/try` shows why",
        )
    if probe.state == "COMPLETED" and not probe.code:
        return Finding(
            FOLDER,
            "shared",
            "problem",
            f"what is written in {path}{on} is not seen here",
            "A run is followed by what its nodes write there; where that shows late, so does the end of the run.",
            f"{_SHARED}; or ask for a shorter time that the file system caches names (NFS: actimeo)",
        )
    if probe.state == "RUNNING":
        return _finding(
            "a small job",
            "problem",
            f"job {probe.job} ran for {probe.waited:.0f} s{on} without a report; it was cancelled",
            "Something hangs there: the prologue of the settings, a Python on a slow file system, or the network.",
            "srun --pty bash   # and try the prologue there",
        )
    code = f" with exit code {probe.code}" if probe.code else ""
    return _finding(
        "a small job",
        "problem",
        f"job {probe.job} ended{code} ({probe.state or 'unknown'}"
        f"{': ' + probe.reason if probe.reason not in ('', 'None') else ''}) and reported nothing",
        "So would a shard: the prologue of the settings, the site's template or the node ended it.",
        "srun --pty bash   # and try the prologue there",
    )


def _reported(facts: Facts, probe: Probe) -> Iterator[Finding]:
    said, node = probe.said, probe.said.get("node", "the node")
    yield _finding("a small job", "ok", f"reported from {node} within {probe.waited:.1f} s")
    yield _folder(said, node)
    yield _python(facts, said, node)
    early, late = probe.between
    there = float(said["time"]) if re.fullmatch(r"\d+(\.\d+)?", said.get("time", "")) else None
    if there is None:
        yield _finding("clock", "not checked", f"{node} did not tell its time")
    else:
        yield clock(NODES, "clock", f"{node}'s", min(0.0, there - early) or max(0.0, there - late), "at least")
    yield _commands(said, node)
    yield _requeue(facts, said)
    yield _container(facts, said, node)
    if said.get("runtime") == "ok":
        yield _peer(said, node)
    if said.get("nofile", "").isdecimal() and int(said["nofile"]) < _FEW_FILES:
        yield _finding(
            "open files",
            "note",
            f"{said['nofile']} at most on {node} (ulimit -n)",
            "The supervisor of a gang holds one for each worker.",
            "ulimit -n 4096   # in the prologue",
        )


_FEW_FILES = 1024


def _folder(said: Mapping[str, str], node: str) -> Finding:
    refused = [f"{name}: {said[name]}" for name in _OPERATIONS if said.get(name, "ok") != "ok"]
    if refused:
        return Finding(
            FOLDER,
            "shared",
            "problem",
            f"{node} can write there, but not all that is needed: {'; '.join(refused)}",
            "Claims and records of shards stand on these: a shard may run twice, or not at all.",
            _SHARED,
        )
    return Finding(FOLDER, "shared", "ok", f"{node} writes there, and it is seen here")


def _python(facts: Facts, said: Mapping[str, str], node: str) -> Finding:
    wanted, path, version = facts.machine.node_python, said.get("python", ""), said.get("python_version", "")
    others = said.get("pythons", "")
    todo = f'In hpcrun.toml: node_python = "{others or "/absolute/path/of/python3.9"}"' + (
        f"   # {said.get('pythons_version', '')}, found on {node}"
        if others
        else "   # 3.9 or newer, there on every node; `module load python` and `command -v python3` show one"
    )
    none = "No shard starts: the runtime on the nodes is Python."
    if not path:
        return _finding("python on nodes", "problem", f"no {wanted} on {node}", none, todo)
    found = release(version)
    if found is None:
        return _finding(
            "python on nodes",
            "problem",
            f"{path} on {node} does not work: {version or 'it prints nothing'}",
            none,
            todo,
        )
    if found < PYTHON:
        return _finding(
            "python on nodes", "problem", f"{path} on {node} is {version}, and hpcrun needs 3.9 or newer", none, todo
        )
    if said.get("runtime") != "ok":
        return _finding(
            "python on nodes",
            "problem",
            f"{path} ({version}) on {node} does not run hpcrun's runtime: {said.get('runtime', 'it says nothing')}",
            f"{none} A part of its standard library may be missing.",
            todo,
        )
    return _finding("python on nodes", "ok", f"{path} is {version} on {node}")


def _commands(said: Mapping[str, str], node: str) -> Finding:
    missing = [name for name in ("scontrol", "srun", "scancel") if not said.get(name)]
    if missing:
        return _finding(
            "slurm on nodes",
            "note",
            f"no {', '.join(missing)} in PATH on {node}",
            "Shards use scontrol to be tried again, scancel to stop a run, srun to start ranks and workers.",
            'In hpcrun.toml: prologue = "export PATH=$PATH:/opt/slurm/bin"   # wherever they are',
        )
    return _finding("slurm on nodes", "ok", "scontrol, srun and scancel are there")


def _requeue(facts: Facts, said: Mapping[str, str]) -> Finding:
    assert facts.site is not None
    off = facts.site.config.get("JobRequeue") == "0"
    name, answer = "requeue", said.get("requeue", "")
    if answer == "ok":
        how = ", with requeue=1, which JobRequeue=0 asks for" if said.get("update") == "ok" else ""
        return _finding(name, "ok", f"a job may start itself again{how}")
    if not answer:
        default = "off (JobRequeue=0)" if off else "on (JobRequeue=1)"
        return _finding(name, "not checked", f"by default {default}; whether you may was not answered")
    if facts.machine.retry == "in_place":
        return _finding(name, "ok", 'not allowed here, and the settings say retry = "in_place"')
    return _finding(
        name,
        "problem",
        f"not allowed here: {answer}",
        "A failed shard is tried again in the allocation that it has, whose time limit is made for one attempt; a "
        "gang that has lost a node is not tried again.",
        'In hpcrun.toml, so that the limit is made for all attempts:\n[defaults]\nretry = "in_place"',
    )


def _container(facts: Facts, said: Mapping[str, str], node: str) -> Finding:
    there = [name for name in ("apptainer", "singularity", "pyxis", "podman") if said.get(name)]
    wanted = facts.machine.containers
    if wanted in ("", "command"):
        if wanted or not there:
            return _finding(
                "containers",
                "ok",
                "by the command of the settings, which is not tried"
                if wanted
                else "no runtime found; a spec with an image is refused",
            )
        runtime = there[0] if there[0] != "podman" else "command"
        return _finding(
            "containers",
            "note",
            f"{', '.join(there)} on {node}, and the settings name none",
            "A spec with an image is refused until they do.",
            "In hpcrun.toml:\n[containers]\n"
            f'runtime = "{runtime}"' + ("   # docs/settings.md has podman's command" if runtime == "command" else ""),
        )
    if said.get(wanted):
        return _finding("containers", "ok", f"{wanted} on {node}")
    return _finding(
        "containers",
        "problem",
        f"the settings say {wanted}, and there is none on {node}",
        "Every run with an image fails there.",
        "module avail " + wanted + f'; then `prologue = "module load {wanted}"` in hpcrun.toml'
        if wanted != "pyxis"
        else "ask for Slurm's plug-in pyxis, or name another runtime in [containers] of hpcrun.toml",
    )


def _peer(said: Mapping[str, str], node: str) -> Finding:
    answer, other = said.get("peer", ""), said.get("peer_node", "another node")
    if answer == "ok":
        return _finding("node to node", "ok", f"{other} reaches {node} by TCP")
    if not answer:
        return _finding("node to node", "not checked", "the job had one node; workers on several need TCP between them")
    return _finding(
        "node to node",
        "problem",
        f"{other} does not reach {node} by TCP: {answer}",
        "Workers and gangs on several nodes do not come up.",
        "topology: flat and one node, or ask for the ports above 1024 to be open between nodes",
    )
