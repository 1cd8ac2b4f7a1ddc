"""Specs: spellings, defaults, and what the values become."""

from __future__ import annotations

from typing import Any

import pytest

from hpcrun import spec
from hpcrun.errors import SpecError


def of(**values: Any) -> spec.RunSpec:
    return spec.from_source(spec.raw({"command": ["a"], **values}))


def test_defaults() -> None:
    """A spec that says nothing asks for nothing."""
    assert of().model_dump(exclude_defaults=True) == {"command": ["a"]}


@pytest.mark.parametrize(
    ("key", "value", "field", "becomes"),
    [
        ("parallelism", 4, "shards", 4),
        ("completions", 4, "shards", 4),
        ("totalShards", 4, "shards", 4),
        ("total-shards", 4, "shards", 4),
        ("maxParallel", 2, "max_parallel", 2),
        ("timeoutSeconds", 90, "timeout", 90.0),
        ("timeout", "1h30m", "timeout", 5400.0),
        ("workingDir", "/w", "working_dir", "/w"),
        ("cwd", "/w", "working_dir", "/w"),
        ("pool", "gpu", "node_pool", "gpu"),
        ("mem", "8G", "memory", 8192),
        ("memory", 512, "memory", 512),
        ("cpusPerTask", 2, "cpus", 2),
        ("gpus", 2, "gpus", "2"),
        ("gpus", "a100:2", "gpus", "a100:2"),
        ("slurm", {"qos": "high"}, "sbatch", {"qos": "high"}),
        ("args", [1, 2.5, "x"], "args", ["1", "2.5", "x"]),
        ("env", {"A": 1, "B": 2.5, "C": ""}, "env", {"A": "1", "B": "2.5", "C": ""}),
        ("name", 42, "name", "42"),
    ],
)
def test_spelling(key: str, value: object, field: str, becomes: object) -> None:
    """Every spelling of a field gives the same spec."""
    assert getattr(of(**{key: value}), field) == becomes


def test_script_lines() -> None:
    """A script is text, or a list of its lines."""
    text = spec.from_source(spec.raw({"script": "a\nb"}))
    assert text == spec.from_source(spec.raw({"script": ["a", "b"]}))


def test_sbatch_options() -> None:
    """True is a bare flag, false is none, a list is joined; underscores and dashes are the same."""
    given = {
        "hold": True,
        "requeue": False,
        "mail_type": ["END", "FAIL"],
        "--exclusive": "user",
        "nice": None,
        "priority": 3,
    }
    assert of(sbatch=given).sbatch == {
        "hold": None, "mail-type": "END,FAIL", "exclusive": "user", "nice": None, "priority": "3"
    }  # fmt: skip


@pytest.mark.parametrize(
    "harmless", [{"completionMode": "Indexed"}, {"gangScheduling": False}, {"backoffLimitPerIndex": 0}]
)
def test_what_holds_anyway(harmless: dict[str, Any]) -> None:
    """A field of Sylphx's or Kubernetes' that asks for what hpcrun does anyway is taken."""
    assert of(**harmless).command == ["a"]


def test_values_in_no_file() -> None:
    """A spec from Python names the field alone, and carries the facts."""
    with pytest.raises(SpecError) as caught:
        of(env={"A": [1]})
    assert str(caught.value) == "env.A: found [1], wanted text (put it in quotes)"
    assert (caught.value.file, caught.value.line, caught.value.field) == ("", None, "env.A")


@pytest.mark.parametrize("size", [131069, 131070])
def test_largest_variable(size: int) -> None:
    """Linux gives a program 128 KiB a variable, name, = and the final NUL included."""
    if size == 131069:
        assert len(of(env={"A": "x" * size}).env["A"]) == size
    else:
        with pytest.raises(SpecError, match="128 KiB"):
            of(env={"A": "x" * size})


def test_bytes_count_not_letters() -> None:
    """The limit of a variable is in bytes; two of them make an é."""
    with pytest.raises(SpecError, match="128 KiB"):
        of(env={"A": "é" * 70000})
