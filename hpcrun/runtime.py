"""The runtime that travels with a run: ``node.pyz``, a zip of `hpcrun.node` and what it imports, and the plan.

The zip is stored, not compressed, and holds byte code beside the sources, compiled by the Python that the nodes are
to use where this machine has it: zipimport takes the byte code when its version fits and the source when not.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib import resources
from typing import Any

NODE_MODULES = (
    "__init__", "errors", "states", "jsonline", "rundir", "events", "hostlist", "indexes", "allocation", "environ",
    "node/__init__", "node/__main__", "node/entry", "node/program", "node/shard", "node/local",
)  # fmt: skip
"""Everything that a node may import, by path below the package."""

_COMPILE_DEADLINE = 60.0
_COMPILE = (
    "import sys, compileall, py_compile; compileall.compile_dir(sys.argv[1], quiet=2, legacy=True, ddir='hpcrun-node', "
    "invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)"  # no clock or time zone of a node can spoil it
)


def write(path: str, plan: dict[str, Any], python: str, cache: str) -> None:
    """Write the runtime for the run of `plan` (a JSON value) to `path`.

    `python` is what the nodes start; `cache` is a folder in which the part that is the same for all runs is kept.
    """
    sources = {name: resources.files("hpcrun").joinpath(*f"{name}.py".split("/")).read_bytes() for name in NODE_MODULES}
    base = _cached(sources, shutil.which(python), cache)
    shutil.copyfile(base, path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr("hpcrun_plan.py", f"PLAN = {plan!a}\n")


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
        target = os.path.join(tree, "__main__.py" if name == "node/__main__" else os.path.join("hpcrun", f"{name}.py"))
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
