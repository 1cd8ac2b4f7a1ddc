"""Tells how far apart two results of train.py are: python3 examples/train/compare.py RESULTS_DIR OTHER_RESULTS_DIR.

Ends with a message unless both are of the same data and each loss and each weight differs by less than 1e-9: a loss
relative to itself, a weight relative to the largest of its tensor, for those near zero are differences of larger
numbers. Sums of doubles in another order differ by some 1e-16, and training carries that to about 1e-13.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

TOLERANCE = 1e-9


def main(first: Path, second: Path) -> None:
    ours, theirs = load(first), load(second)
    if (ours["data"], ours["torch"]) != (theirs["data"], theirs["torch"]):
        sys.exit(f"found results of different data or torches in {first} and {second}, wanted those of one")
    version, learned, held_out = ours["data"]
    print(f"Python {version}, torch {ours['torch']}: {learned} characters to learn from, {held_out} held out\n")
    print(f"{'epoch':<8}{processes(ours):>20}{processes(theirs):>20}{'told':>10}{'differ by':>12}")
    apart = []
    for epoch, (loss, other) in enumerate(zip(ours["losses"], theirs["losses"], strict=True)):
        apart.append(abs(loss - other) / max(abs(loss), abs(other)))
        print(f"{epoch:<8}{loss:>20.15f}{other:>20.15f}{ours['accuracies'][epoch]:>10.1%}{apart[-1]:>12.1e}")
    print(f"{'baseline':<48}{ours['baseline']:>10.1%}\n\n{'weights':<48}{'number':>10}{'differ by':>12}")
    for name, weights in ours["weights"].items():
        pairs = list(zip(flat(weights), flat(theirs["weights"][name]), strict=True))
        apart.append(max(abs(one - other) for one, other in pairs) / max(map(abs, chain(*pairs))))
        print(f"{name:<48}{len(pairs):>10}{apart[-1]:>12.1e}")
    if not all(one < TOLERANCE for one in apart):
        sys.exit(f"found results that differ by {max(apart):.1e}, wanted less than {TOLERANCE:.0e}")
    print(f"\nthe same within {TOLERANCE:.0e}")


def load(results: Path) -> dict:
    try:
        return json.loads((results / "train.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        sys.exit(f"found no train.json in {results}, wanted the results folder of a run of train.py")


def processes(result: dict) -> str:
    return f"loss with {result['processes']}"


def flat(weights: list | float) -> Iterator[float]:
    if isinstance(weights, list):
        for part in weights:
            yield from flat(part)
    else:
        yield weights


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: compare.py RESULTS_DIR OTHER_RESULTS_DIR")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
