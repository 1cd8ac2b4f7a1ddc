"""The runtime that travels with a run: ``start.py``, and ``node.pyz``, a zip of `hpcrun.node`, what it imports, and
the plan.

The zip is stored, not compressed, and holds byte code beside the sources, compiled by the Python that the nodes are
to use where this machine has it: zipimport takes the byte code when its version fits and the source when not.
"""

from __future__ import annotations

import hashlib
import importlib.util
import marshal
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib import resources
from typing import Any

from hpcrun.rundir import RunDir

NODE_MODULES = (
    "__init__", "errors", "jsonline", "rundir", "events", "hostlist", "allocation", "environ", "retry", "ledger",
    "indexes", "node/__init__", "node/entry", "node/program", "node/shard", "node/batch", "node/local",
    "node/wire", "node/hub", "node/gang", "node/steps", "node/ports", "node/probe", "node/agent", "node/together",
    "node/requeue", "node/meeting", "node/memory", "node/stopping", "node/readiness", "node/waiting", "node/finish",
    "node/notice", "node/results", "results", "logtail", "sweep", "later", "tasks", "node/workflow", "node/swept",
    "node/place", "node/checkup", "address",
    # How runs stand that others wait for: only the two above load these.
    "upstream", "states", "plan", "cluster", "sent", "status", "slurm", "slurm_releases", "local", "run",
    "follow",
    "hasten", "revive", "sender", "reconcile", "inquiry", "outputs", "looking", "poller", "sharing", "whole",
)  # fmt: skip
"""Everything that a node may import, by path below the package."""

_COMPILE_DEADLINE = 60.0
_COMPILE = (
    "import sys, compileall, py_compile; compileall.compile_dir(sys.argv[1], quiet=2, legacy=True, ddir='hpcrun-node', "
    "invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)"  # no clock or time zone of a node can spoil it
)


def write(run: RunDir, plan: dict[str, Any], python: str, cache: str) -> None:
    """Write the runtime for the run of `plan` (a JSON value) into its folder.

    `python` is what the nodes start; `cache` is a folder in which the part that is the same for all runs is kept.
    """
    base = _cached({name: _source(name) for name in NODE_MODULES}, shutil.which(python), cache)
    shutil.copyfile(base, run.node)
    source = f"PLAN = {plan!a}\n"
    with zipfile.ZipFile(run.node, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr("hpcrun_plan.py", source)
        if _made_by_this_python(archive):
            archive.writestr("hpcrun_plan.pyc", _byte_code(source))
    with open(run.start, "wb") as file:
        file.write(_source("node/start"))


def _source(name: str) -> bytes:
    return resources.files("hpcrun").joinpath(*f"{name}.py".split("/")).read_bytes()


def _made_by_this_python(archive: zipfile.ZipFile) -> bool:
    """Whether the byte code in the zip is of the kind that this interpreter makes."""
    compiled = "hpcrun/__init__.pyc"
    return compiled in archive.namelist() and archive.read(compiled).startswith(importlib.util.MAGIC_NUMBER)


def _byte_code(source: str) -> bytes:
    # The format of a .pyc that is never checked against its source (PEP 552).
    head = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + importlib.util.source_hash(source.encode())
    return head + marshal.dumps(compile(source, "hpcrun_plan.py", "exec"))


def _cached(sources: dict[str, bytes], python: str | None, cache: str) -> str:
    digest = hashlib.sha256(repr((sorted(sources.items()), python, _changed(python))).encode()).hexdigest()[:20]
    path = os.path.join(cache, f"node-{digest}.pyz")
    if not os.path.exists(path):
        os.makedirs(cache, mode=0o700, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            _build(sources, python, os.path.join(folder, "tree"), os.path.join(folder, "zip"))
            os.replace(os.path.join(folder, "zip"), path)
    return path


def _changed(python: str | None) -> float:
    return os.stat(os.path.realpath(python)).st_mtime if python else 0.0


def _build(sources: dict[str, bytes], python: str | None, tree: str, path: str) -> None:
    for name, source in sources.items():
        target = os.path.join(tree, "hpcrun", f"{name}.py")
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as file:
            file.write(source)
    _compile(python or sys.executable, tree)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for folder, _, names in sorted(os.walk(tree)):
            for name in sorted(names):
                full = os.path.join(folder, name)
                archive.write(full, os.path.relpath(full, tree))


def _compile(python: str, tree: str) -> None:
    # Only for speed: nodes whose Python is another one compile the sources at each start.
    try:
        subprocess.run(
            [python, "-I", "-S", "-c", _COMPILE, tree], check=False, timeout=_COMPILE_DEADLINE, capture_output=True
        )
    except (OSError, subprocess.TimeoutExpired):
        return
