"""Adds up what the shards of the service's job left behind: python3 examples/service/merge.py RESULTS_DIR."""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from pathlib import Path

COLUMNS = ("docstrings", "words", "right")


def main(results: Path) -> None:
    parts = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("service-*.json"))]
    check(parts, results)
    packages: dict[str, Counter[str]] = defaultdict(Counter)
    for part in parts:
        for package, found in part["packages"].items():
            packages[package].update(found)

    version, files = parts[0]["library"]
    print(f"Python {version}: {files} files of {len(packages)} packages, each restored once\n")
    print(f"{'package':<18}" + "".join(f"{column:>11}" for column in (*COLUMNS, "share")))
    by_size = sorted(packages.items(), key=lambda row: (-row[1]["words"], row[0]))
    rest, total = (sum((found for _, found in rows), Counter()) for rows in (by_size[10:], by_size))
    for package, found in [*by_size[:10], (f"{len(by_size[10:])} others", rest), ("total", total)]:
        share = found["right"] / found["words"] if found["words"] else 0
        print(f"{package:<18}" + "".join(f"{found[column]:>11}" for column in COLUMNS) + f"{share:>11.1%}")


def check(parts: list[dict], results: Path) -> None:
    """End with a message unless `parts` are all shards of one run."""
    if not parts:
        sys.exit(f"found no service-*.json in {results}, wanted the results folder of a run of service.yaml")
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
