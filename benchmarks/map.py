"""map: trivial calls of a function until all results are back, hpcrun beside submitit, interleaved.

Runs on a login node, in an environment with hpcrun and submitit that the nodes see too: python map.py [ITEMS] [ROUNDS].
It also counts the files that each leaves, and times the imports.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pairs import interleaved, table

ITEMS = int(sys.argv[1]) if len(sys.argv) > 1 else 100
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 5
FILES: dict[str, int] = {}


def work(item: int) -> int:
    return item * item


def checked(found: list[int]) -> None:
    if found != [item * item for item in range(ITEMS)]:
        raise SystemExit(f"wrong results: {found}")


def drained() -> None:
    while subprocess.run(["squeue", "--noheader", "--me"], capture_output=True, text=True, check=True).stdout:
        time.sleep(0.2)


def counted(name: str, folder: str | Path) -> None:
    FILES[name] = sum(len(files) for _, _, files in os.walk(folder))


def with_hpcrun(**fields: int) -> float:
    import hpcrun

    drained()
    began = time.time()
    results = hpcrun.map(work, range(ITEMS), **fields)
    checked(list(results))
    took = time.time() - began
    counted(f"hpcrun {fields or ''}".strip(), results.run.dir.path)
    return took


def with_submitit() -> float:
    import submitit

    drained()
    folder = tempfile.mkdtemp(dir=Path.home())
    executor = submitit.AutoExecutor(folder, cluster="slurm")
    executor.update_parameters(slurm_array_parallelism=ITEMS, timeout_min=5)
    began = time.time()
    checked([job.result() for job in executor.map_array(work, range(ITEMS))])
    took = time.time() - began
    counted("submitit", folder)
    return took


def imported(module: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return (time.perf_counter() - began) * 1000


def main() -> None:
    contenders = {
        "submitit": with_submitit,
        "hpcrun": with_hpcrun,
        "hpcrun, ten items a shard": lambda: with_hpcrun(chunksize=10),
    }
    print(f"{ITEMS} items, {ROUNDS} rounds\n")
    print(table(interleaved(contenders, ROUNDS), "submitit"))
    print("\nfiles left:", ", ".join(f"{name}: {count}" for name, count in FILES.items()))
    modules = ("sys", "hpcrun", "submitit")
    imports = {f"import {module}": (lambda module=module: imported(module)) for module in modules}
    print("\n" + table(interleaved(imports, 20), "import submitit", "ms"))


if __name__ == "__main__":
    main()
