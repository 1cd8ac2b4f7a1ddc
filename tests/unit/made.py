"""Plans, statuses and rows that tests start from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from hpcrun import spec
from hpcrun.cluster import Limits
from hpcrun.compile import Submission, compile_plan
from hpcrun.config import TIERS, Config
from hpcrun.fields import Place, Source
from hpcrun.plan import Plan

ASKED = Submission(run_id="abc", created=1000.0, cwd="/work", cluster="slurm", typed=False)
SLURM = Limits(max_array=1001, accounting=True)


def settings(**fields: Any) -> Config:
    """Settings as `config.load` returns them."""
    return Config(machines=dict(TIERS), **fields)


def plan(
    values: Mapping[str, Any] | None = None,
    *,
    config: Config | None = None,
    limits: Limits = SLURM,
    asked: Submission = ASKED,
    **fields: Any,
) -> Plan:
    """The plan of the spec with these fields; the program is `train --fast` unless they say otherwise."""
    whole = {"command": ["train", "--fast"], **(values or {}), **fields}
    if "script" in whole:
        del whole["command"]
    return compile_plan(spec.from_source(spec.raw(whole)), config or settings(), limits, asked)


def local(**changes: Any) -> Limits:
    """The limits of a machine with 8 CPUs, 16 GiB and 2 GPUs."""
    return dataclasses.replace(
        Limits(max_array=10**9, accounting=False, cpus=8, memory=16384, devices=("0", "1")), **changes
    )


def source(values: Mapping[str, Any], **lines: int) -> Source:
    """Values of the file f.yaml, some with their line."""
    return Source(dict(values), {(name,): Place("f.yaml", line) for name, line in lines.items()})
