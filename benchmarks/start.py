"""How long `import hpcrun` and `hpcrun --help` take over a bare Python: python benchmarks/start.py"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable

from pairs import interleaved, table

ROUNDS = 30


def timed(*argv: str) -> Callable[[], float]:
    def measure() -> float:
        began = time.perf_counter()
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
        return (time.perf_counter() - began) * 1000

    return measure


def main() -> None:
    hpcrun = os.path.join(os.path.dirname(sys.executable), "hpcrun")
    found = interleaved(
        {
            "python -c pass": timed(sys.executable, "-c", "pass"),
            "import hpcrun": timed(sys.executable, "-c", "import hpcrun"),
            "hpcrun --help": timed(hpcrun, "--help"),
            "hpcrun --version": timed(hpcrun, "--version"),
            "import submitit": timed(sys.executable, "-c", "import submitit"),
        },
        ROUNDS,
    )
    print(table(found, "python -c pass", "ms"))


main()
