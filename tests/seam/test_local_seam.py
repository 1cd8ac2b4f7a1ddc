"""The local cluster keeps the contract."""

from __future__ import annotations

import os

import pytest
from contract import ClusterContract, Seam

import hpcrun
from hpcrun.local import Local
from hpcrun.rundir import RunDir


class TestLocal(ClusterContract):
    @pytest.fixture
    def seam(self) -> Seam:
        def start(*command: str) -> tuple[RunDir, str]:
            run = hpcrun.submit(list(command), shards=3, cluster="local")
            return run.dir, run.status().jobs[0]

        return Seam(Local(os.environ), lambda: start("sleep", "1000"), lambda: start("true"))
