"""Adds up what the shards of count.py left behind: python3 examples/count/merge.py RESULTS_DIR.

Refuses parts that do not fit together: a shard missing, a file counted twice, nodes with different Pythons.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from pathlib import Path

COLUMNS = ("files", "lines", "functions", "classes", "documented")


def main(results: Path) -> None:
    parts = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("count-*.json"))]
    check(parts, results)
    packages: dict[str, Counter[str]] = defaultdict(Counter)
    names: Counter[str] = Counter()
    skipped: dict[str, str] = {}
    for part in parts:
        for package, found in part["packages"].items():
            packages[package] += Counter(found)
        names += Counter(part["names"])
        skipped.update(part["skipped"])

    version, files = parts[0]["library"]
    print(f"Python {version}: {files} files, each counted once; {len(skipped)} skipped\n")
    print(f"{'package':<18}" + "".join(f"{column:>11}" for column in COLUMNS))
    by_size = sorted(packages.items(), key=lambda row: (-row[1]["lines"], row[0]))
    rest = sum((found for _, found in by_size[10:]), Counter())
    total = sum(packages.values(), Counter())
    for package, found in [*by_size[:10], (f"{len(by_size[10:])} others", rest), ("total", total)]:
        print(f"{package:<18}" + "".join(f"{found[column]:>11}" for column in COLUMNS))
    often = sorted(names.items(), key=lambda pair: (-pair[1], pair[0]))[:8]
    print("\nnames used most: " + ", ".join(f"{name} {times}" for name, times in often))
    for path, reason in sorted(skipped.items()):
        print(f"skipped {path}: {reason}")


def check(parts: list[dict], results: Path) -> None:
    """End with a message unless `parts` are all shards of one run."""
    if not parts:
        sys.exit(f"found no count-*.json in {results}, wanted the results folder of a run of count.py")
    if len({(part["shards"], *part["library"]) for part in parts}) > 1:
        sys.exit(f"found parts of different runs or different Pythons in {results}, wanted those of one")
    missing = sorted(set(range(parts[0]["shards"])) - {part["shard"] for part in parts})
    if missing:
        sys.exit(f"found no part of shards {missing} in {results}, wanted all {parts[0]['shards']}")
    files = Counter(path for part in parts for path in part["files"])
    if len(files) != parts[0]["library"][1] or max(files.values()) > 1:
        sys.exit(f"found {len(files)} files, some not once, wanted each of {parts[0]['library'][1]} once")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: merge.py RESULTS_DIR")
    main(Path(sys.argv[1]))
