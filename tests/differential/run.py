#!/usr/bin/env python3
"""Run generated workflows by nv-sflow and by hpcrun, and compare names, dependencies, environment and outcome.

    python tests/differential/run.py                   all of them, one of each family, some five minutes
    python tests/differential/run.py --seed 7          others; the same seed makes the same ones
    python tests/differential/run.py diamond retried   only these

nv-sflow is what `pip install nv-sflow==0.3.1` installs; SFLOW names its program where it is not on PATH. What is
expected of hpcrun is what nv-sflow does, in its local backend, on this machine, now. The exit code is 0 where all
differences are meant.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import differential.failing
import differential.odd
import differential.refused
import differential.succeeding  # noqa: F401
from differential.compare import Difference, differences
from differential.sides import SFLOW, by_hpcrun, by_sflow
from differential.workflows import FAMILIES, Workflow, generate

AT_ONCE = 4
"""Workflows at once: sflow sleeps most of the time."""


def compared(workflow: Workflow) -> list[Difference]:
    """What is different in one workflow and not meant."""
    with tempfile.TemporaryDirectory() as folder:
        both = by_sflow(workflow, Path(folder, "sflow")), by_hpcrun(workflow, Path(folder, "hpcrun"))
    return differences(workflow, *both)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*FAMILIES, []], metavar="NAME", help=", ".join(FAMILIES))
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if not SFLOW:
        parser.error("found no sflow on PATH; wanted nv-sflow: pip install nv-sflow==0.3.1, or its program in SFLOW")
    began = time.monotonic()
    workflows = generate(arguments.seed, arguments.names)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = [difference for differences in pool.map(compared, workflows) for difference in differences]
    for difference in found:
        print(difference)
    print(
        f"{len(workflows)} workflows in {time.monotonic() - began:.0f} s, {len(found)} differences that are not meant"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
