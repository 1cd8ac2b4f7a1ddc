"""Puts the rows of all shards of sweep.py into one table: python3 examples/sweep/merge.py RESULTS_DIR.

A star marks the Pareto front: no other combination is at least as good in both ratio and packing speed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(results: Path) -> None:
    parts = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("sweep-*.json"))]
    check(parts, results)
    rows = [row for part in parts for row in part["rows"]]
    measured = sorted((row for row in rows if "ratio" in row), key=lambda row: (-row["ratio"], -row["pack"]))

    version, files, size = parts[0]["data"]
    print(f"Python {version}: {files} modules, {size / 1e6:.1f} MB; {len(rows)} combinations\n")
    print(f"  {'codec':<6}{'level':>6}  {'unit':<6}{'ratio':>8}{'pack MB/s':>11}{'unpack MB/s':>13}")
    for row in measured:
        star = " " if any(dominates(other, row) for other in measured) else "*"
        print(
            f"{star} {row['codec']:<6}{row['level']:>6}  {row['unit']:<6}"
            f"{row['ratio']:>8.3f}{row['pack']:>11.1f}{row['unpack']:>13.1f}"
        )
    print("\n* no other is at least as good in both ratio and packing speed")
    for codec in sorted({row["codec"] for row in rows if "ratio" not in row}):
        print(f"not measured: {codec}, which this Python came without")


def dominates(one: dict, other: dict) -> bool:
    """Whether `one` is at least as good as `other` in both respects, and better in one."""
    a, b = (one["ratio"], one["pack"]), (other["ratio"], other["pack"])
    return a != b and a[0] >= b[0] and a[1] >= b[1]


def check(parts: list[dict], results: Path) -> None:
    """End with a message unless `parts` are all shards of one run."""
    if not parts:
        sys.exit(f"found no sweep-*.json in {results}, wanted the results folder of a run of sweep.py")
    if len({(part["shards"], *part["data"]) for part in parts}) > 1:
        sys.exit(f"found parts of different runs or different Pythons in {results}, wanted those of one")
    missing = sorted(set(range(parts[0]["shards"])) - {part["shard"] for part in parts})
    if missing:
        sys.exit(f"found no part of shards {missing} in {results}, wanted all {parts[0]['shards']}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: merge.py RESULTS_DIR")
    main(Path(sys.argv[1]))
