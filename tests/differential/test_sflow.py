"""What nv-sflow makes of a workflow, hpcrun makes of it too. `run.py` here compares many more of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import differential.failing
import differential.odd
import differential.refused
import differential.succeeding  # noqa: F401
from differential.compare import differences
from differential.sides import by_hpcrun, by_sflow
from differential.workflows import Workflow, generate

SOME = (
    "random_graph", "replicas_behind_replicas", "service_and_sweep", "retried", "fails_in_turn", "refused_count",
)  # fmt: skip


def test_the_same_comes_of_a_workflow_as_with_sflow(tmp_path: Path) -> None:
    """Names, dependencies, environments, outcomes and exit codes. All at once, for sflow sleeps most of its time."""

    def compared(workflow: Workflow) -> list[str]:
        folder = tmp_path / workflow.name
        both = by_sflow(workflow, folder / "sflow"), by_hpcrun(workflow, folder / "hpcrun")
        return [str(found) for found in differences(workflow, *both)]

    with ThreadPoolExecutor(len(SOME)) as pool:
        assert [found for each in pool.map(compared, generate(1, SOME)) for found in each] == []
