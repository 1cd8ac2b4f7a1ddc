"""What examples/train says of two results; that they are the same is proven on the cluster, where torch is."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from examples.test_examples import alone

RESULT = {
    "data": ["3.13.5", 4000, 500], "torch": "2.6.0", "processes": 1, "losses": [2.5, 2.0], "accuracies": [0.4, 0.5],
    "baseline": 0.36, "weights": {"hidden.weight": [[0.5, -1e-12], [0.25, 2.0]], "hidden.bias": [0.125, 0.75]},
}  # fmt: skip


def compared(tmp_path: Path, **other: Any) -> subprocess.CompletedProcess[str]:
    """What compare.py makes of RESULT and of one in which `other` stands instead."""
    for name, result in (("one", RESULT), ("other", {**RESULT, "processes": 4, **other})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.json").write_text(json.dumps(result), encoding="utf-8")
    return alone("train/compare.py", "one", "other", cwd=tmp_path)


@pytest.mark.parametrize(
    "rounded",
    [
        {},
        {"losses": [2.5, 2.0 + 1e-10]},
        {"weights": {"hidden.weight": [[0.5, 0], [0.25, 2]], "hidden.bias": [0.125, 0.75]}},
    ],
    ids=["nothing", "a loss", "a weight near zero"],
)
def test_rounding_is_no_difference(rounded: dict[str, Any], tmp_path: Path) -> None:
    """Where two results are but for the order of sums, the last line says so."""
    done = compared(tmp_path, **rounded)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "the same within 1e-09"


@pytest.mark.parametrize(
    "changed",
    [
        {"losses": [2.5, 2.0 + 1e-8]},
        {"losses": [2.5, float("nan")]},
        {"weights": {"hidden.weight": [[0.5, 1e-8], [0.25, 2]], "hidden.bias": [0.125, 0.75]}},
    ],
    ids=["a loss", "no number", "a weight"],
)
def test_a_difference_is_found(changed: dict[str, Any], tmp_path: Path) -> None:
    """A loss or a weight that is another one ends the comparison with a message and a code."""
    done = compared(tmp_path, **changed)
    assert done.returncode == 1
    assert done.stderr.startswith("found results that differ by ")
    assert "the same" not in done.stdout


def test_other_data_are_not_compared(tmp_path: Path) -> None:
    """Results of another Python's library say nothing about each other."""
    done = compared(tmp_path, data=["3.11.2", 3000, 400])
    assert (done.returncode, done.stdout) == (1, "")
    assert "different data" in done.stderr


def test_comparing_nothing(tmp_path: Path) -> None:
    done = alone("train/compare.py", ".", ".", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("found no train.json in ")
