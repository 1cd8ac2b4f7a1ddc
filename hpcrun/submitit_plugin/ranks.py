"""The tasks of one job where there is no Slurm: ``python -m hpcrun.submitit_plugin.ranks COUNT COMMAND …``.

As under hpcrun's srun, the first task that ends badly ends the others. Signals need no handling: hpcrun gives them to
every process of a program's session.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence

from hpcrun.submitit_plugin.environment import RANK

_PATIENCE = 2.0
"""Seconds that the others have, once one has ended badly, to come to the same end and say so."""
_LOOK = 0.05


def run(count: int, command: Sequence[str]) -> int:
    """Run `count` tasks of `command`, each of which learns its rank; the exit code of the first that ended badly."""
    tasks = [subprocess.Popen(command, env={**os.environ, RANK: str(rank)}) for rank in range(count)]
    bad, end_by = 0, 0.0
    while None in (codes := [task.poll() for task in tasks]):
        if not bad and any(codes):
            bad, end_by = next(filter(None, codes)), time.monotonic() + _PATIENCE
        if bad and time.monotonic() > end_by:
            for task in tasks:
                task.kill()
        time.sleep(_LOOK)
    bad = bad or next(filter(None, codes), 0)
    return bad if bad >= 0 else 128 - bad


if __name__ == "__main__":
    sys.exit(run(int(sys.argv[1]), sys.argv[2:]))
