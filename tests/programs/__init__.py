"""Programs of the systems that hpcrun learns from, as their pages have them, and what running each must give.

`stubs.py` stands in for the functions that the pages leave to the reader: each call is written down, as one line, in a
file of the shard's own in HPCRUN_RESULTS_DIR. What a run gives is all those lines, sorted.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

FOLDER = Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Program:
    """One program: how to start it from this folder, over how many shards, and the lines it must leave."""

    name: str
    shards: int
    argv: tuple[str, ...]
    expected: tuple[str, ...]


def _python(name: str, shards: int, expected: list[str]) -> Program:
    return Program(name, shards, ("python3", "stubs.py", f"{name}.py"), tuple(sorted(expected)))


PROGRAMS = (
    _python("self_selection", 3, [f"{s} /cache/scores-{i % 3}.parquet" for i, s in enumerate("ABCDEFG")]),
    _python("data_loop", 4, [f"item {i}" for i in range(10)]),
    _python("record_range", 8, [f"records {i * 125_000} {(i + 1) * 125_000}" for i in range(8)]),
    _python(
        "parameter_sweep", 10, [f"{lr} {size}" for lr in (1e-5, 1e-4, 1e-3, 1e-2, 1e-1) for size in (16, 32, 64, 128)]
    ),
    _python("file_processing", 3, [f"/data/{i}.csv" for i in range(5)]),
)
