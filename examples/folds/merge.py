"""Prints the accuracy of every fold of folds.py, their mean and spread: python3 examples/folds/merge.py RESULTS_DIR.

The baseline is to answer with the package that has most of the functions learned from.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections import Counter
from pathlib import Path


def main(results: Path) -> None:
    parts = [json.loads(path.read_text(encoding="utf-8")) for path in results.glob("fold-*.json")]
    parts.sort(key=lambda part: part["shard"])
    check(parts, results)

    version, files, functions, skipped = parts[0]["data"]
    guesses = Counter({(label, guess): 0 for part in parts for label, guess, _ in part["guesses"]})
    for part in parts:
        guesses.update({(label, guess): times for label, guess, times in part["guesses"]})
    packages = sorted({label for label, _ in guesses})
    print(f"Python {version}: {functions} functions in {files} files of {len(packages)} packages; {skipped} skipped\n")

    print(f"{'fold':<6}{'tested':>8}{'accuracy':>10}{'baseline':>10}")
    for part in parts:
        print(f"{part['shard']:<6}{part['tested']:>8}{accuracy(part):>10.3f}{baseline(part):>10.3f}")
    for name, figure in (("mean", statistics.mean), ("sd", statistics.stdev)):
        print(f"{name:<14}{figure(map(accuracy, parts)):>10.3f}{figure(map(baseline, parts)):>10.3f}")

    print(f"\n{'package':<18}{'functions':>10}{'found':>8}   most often taken for")
    for package in packages:
        own = {guess: times for (label, guess), times in guesses.items() if label == package}
        total, right = sum(own.values()), own.pop(package, 0)
        wrong = max(own, key=lambda guess: (own[guess], guess), default="")
        print(f"{package:<18}{total:>10}{right / total:>8.0%}   {wrong} {own.get(wrong, '')}".rstrip())


def accuracy(part: dict) -> float:
    return part["right"] / part["tested"]


def baseline(part: dict) -> float:
    return part["baseline"] / part["tested"]


def check(parts: list[dict], results: Path) -> None:
    """End with a message unless `parts` are all folds of one run."""
    if not parts:
        sys.exit(f"found no fold-*.json in {results}, wanted the results folder of a run of folds.py")
    if len({(part["shards"], *part["data"]) for part in parts}) > 1:
        sys.exit(f"found parts of different runs or different Pythons in {results}, wanted those of one")
    missing = sorted(set(range(parts[0]["shards"])) - {part["shard"] for part in parts})
    if missing:
        sys.exit(f"found no part of folds {missing} in {results}, wanted all {parts[0]['shards']}")
    if sum(part["tested"] for part in parts) != parts[0]["data"][2]:
        sys.exit(f"found functions that were tested twice or never in {results}, wanted each once")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: merge.py RESULTS_DIR")
    main(Path(sys.argv[1]))
