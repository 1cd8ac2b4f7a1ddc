"""Counts what Python's own standard library is made of: lines, functions, docstrings, names.

Each shard takes every Nth source file and leaves its part in HPCRUN_RESULTS_DIR; merge.py adds the parts up.

    hpcrun run -N 8 -- python3 examples/count/count.py

By itself, without hpcrun, it counts everything in one process and writes to ./results.
"""

from __future__ import annotations

import ast
import json
import os
import platform
import sysconfig
import warnings
from collections import Counter, defaultdict
from pathlib import Path


def main() -> None:
    index = int(os.environ.get("HPCRUN_SHARD_INDEX", "0"))
    shards = int(os.environ.get("HPCRUN_SHARD_COUNT", "1"))
    results = Path(os.environ.get("HPCRUN_RESULTS_DIR", "results"))

    library = Path(sysconfig.get_paths()["stdlib"])
    files = source_files(library)
    packages: dict[str, Counter[str]] = defaultdict(Counter)
    names: Counter[str] = Counter()
    skipped: dict[str, str] = {}
    mine = files[index::shards]
    for path in mine:
        inside = path.relative_to(library)
        try:
            found, used = count(path.read_bytes())
        except (OSError, SyntaxError, ValueError, RecursionError) as error:
            skipped[str(inside)] = f"{type(error).__name__}: {error}"
            continue
        packages[inside.parts[0] if len(inside.parts) > 1 else "(modules)"] += found
        names += used

    part = {
        "shard": index,
        "shards": shards,
        "library": [platform.python_version(), len(files)],
        "files": [str(path.relative_to(library)) for path in mine],
        "packages": packages,
        "names": names,
        "skipped": skipped,
    }
    save(results / f"count-{index}-of-{shards}.json", part)
    lines = sum(found["lines"] for found in packages.values())
    print(f"shard {index} of {shards}: {len(mine)} of {len(files)} files, {lines} lines, {len(skipped)} skipped")


def source_files(library: Path) -> list[Path]:
    """Every source file of the standard library, in the same order on every machine."""
    others = {"site-packages", "dist-packages"}
    inside = (path.relative_to(library) for path in library.rglob("*.py"))
    return [library / path for path in sorted(inside) if not others & set(path.parts)]


def count(source: bytes) -> tuple[Counter[str], Counter[str]]:
    """What one file is made of, and how often it uses each name."""
    found = Counter(files=1, lines=len(source.splitlines()))
    used: Counter[str] = Counter()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name):
            used[node.id] += 1
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found["classes" if isinstance(node, ast.ClassDef) else "functions"] += 1
            found["documented"] += ast.get_docstring(node, clean=False) is not None
    return found, used


def save(path: Path, part: object) -> None:
    """Write the whole file or none of it: whoever reads the folder never sees half a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(part), encoding="utf-8")
    os.replace(temporary, path)


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # what ast thinks of other people's escapes
    main()
