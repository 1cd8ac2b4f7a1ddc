"""What must be true of what the examples print, wherever they ran.

Each function takes the text that an example's merge.py printed, or the results that an example left, and raises
AssertionError where it is not so.
"""

from __future__ import annotations

import math
import re
import statistics
from typing import Any


def check_count(merged: str, single: str) -> None:
    """The shards' sums are those of one process, and every row adds up to the total."""
    assert merged == single
    files = int(_found(r"(\d+) files, each counted once", merged))
    skipped = int(_found(r"(\d+) skipped", merged))
    rows = re.findall(r"^(\S.*?) +(\d+) +(\d+) +(\d+) +(\d+) +(\d+)$", merged, re.MULTILINE)
    *packages, total = [[int(number) for number in row[1:]] for row in rows]
    assert rows[-1][0] == "total"
    assert [sum(column) for column in zip(*packages, strict=True)] == total
    counted, lines, functions, classes, documented = total
    assert counted == files - skipped
    assert counted > 100
    assert lines > functions > classes > 0
    assert 0 < documented <= functions + classes
    assert "names used most: self " in merged


def check_sweep(merged: str) -> None:
    """Every combination is there once, the best ratio first, and stars where nothing else is better in both ways."""
    number = r"(\d+\.\d+)"
    pattern = rf"^([* ]) (zlib|bz2|lzma) +(\d) +(whole|each) +{number} +{number} +{number}$"
    rows = re.findall(pattern, merged, re.MULTILINE)
    wanted = {
        (codec, level, unit) for codec in ("zlib", "bz2", "lzma") for level in "136" for unit in ("whole", "each")
    }
    assert len(rows) == len(wanted) == int(_found(r"(\d+) combinations", merged))
    assert {row[1:4] for row in rows} == wanted
    figures = [(float(ratio), float(pack)) for *_, ratio, pack, _ in rows]
    assert figures == sorted(figures, key=lambda pair: -pair[0])
    assert all(ratio > 1 and pack > 0 for ratio, pack in figures)
    for (star, *_), (ratio, pack) in zip(rows, figures, strict=True):
        # What is printed is rounded: only a clear difference says who dominates whom.
        clearly = any(r > ratio + 0.001 and p > pack + 0.1 for r, p in figures)
        nothing = not any(r >= ratio and p >= pack for r, p in figures if (r, p) != (ratio, pack))
        assert not (star == "*" and clearly), merged
        assert star == "*" or not nothing or figures.count((ratio, pack)) > 1, merged


def check_folds(merged: str, folds: int = 9) -> None:
    """Every function is tested once, the classifier beats the baseline in every fold, mean and sd are those of rows."""
    rows = re.findall(r"^(\d+) +(\d+) +(\d\.\d+) +(\d\.\d+)$", merged, re.MULTILINE)
    assert [int(row[0]) for row in rows] == list(range(folds))
    assert sum(int(row[1]) for row in rows) == int(_found(r"(\d+) functions in", merged))
    for column in (2, 3):
        figures = [float(row[column]) for row in rows]
        for name, figure in (("mean", statistics.mean), ("sd", statistics.stdev)):
            printed = re.search(rf"^{name} +(\S+) +(\S+)$", merged, re.MULTILINE)
            assert printed, merged
            assert math.isclose(float(printed[column - 1]), figure(figures), abs_tol=0.0011)
    assert all(float(accuracy) > float(baseline) for _, _, accuracy, baseline in rows)


def check_service(merged: str, single: str) -> None:
    """What workers and shards restored is what one process restores; every row adds up, and most words are right."""
    assert merged == single
    rows = re.findall(r"^(\S.*?) +(\d+) +(\d+) +(\d+) +(\d+\.\d)%$", merged, re.MULTILINE)
    *packages, total = [[int(number) for number in row[1:4]] for row in rows]
    assert rows[-1][0] == "total"
    assert [sum(column) for column in zip(*packages, strict=True)] == total
    docstrings, words, right = total
    assert 100 < docstrings < right < words
    assert right > 0.7 * words
    for row in rows:
        assert math.isclose(float(row[4]), 100 * int(row[3]) / max(int(row[2]), 1), abs_tol=0.06)


def check_queue(logs: str, jobs: int) -> None:
    """Every job was processed, each by one worker; `logs` are those of the run, a worker's number before each line."""
    rows = re.findall(r"^\[(\d+)\] processing \{'job': (\d+)\}$", logs, re.MULTILINE)
    assert sorted(int(job) for _, job in rows) == list(range(jobs))
    assert len({worker for worker, _ in rows}) > 1, "who is slow to start may find none left, but one alone is no queue"


def check_train(trained: dict[str, Any], single: dict[str, Any], processes: int) -> None:
    """So many processes have come to the losses and weights of a single one; it has learned, and beats the baseline."""
    assert (trained["processes"], single["processes"]) == (processes, 1)
    assert trained["data"] == single["data"]
    losses, accuracies = trained["losses"], trained["accuracies"]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.8 * losses[0]
    assert accuracies[-1] > trained["baseline"] + 0.05 > 0.3
    assert all(math.isclose(loss, other, rel_tol=1e-9) for loss, other in zip(losses, single["losses"], strict=True))
    assert trained["weights"].keys() == single["weights"].keys()
    for name, weights in trained["weights"].items():
        ours, theirs = _flat(weights), _flat(single["weights"][name])
        largest = max(map(abs, theirs))
        assert largest > 0
        apart = max(abs(one - other) for one, other in zip(ours, theirs, strict=True))
        assert apart < 1e-9 * largest, name


def _flat(weights: Any) -> list[float]:
    return [number for part in weights for number in _flat(part)] if isinstance(weights, list) else [weights]


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match, f"found no {pattern!r} in:\n{text}"
    return match[1]
