"""The fake keeps the contract, with accounting and without."""

from __future__ import annotations

import pytest
from contract import ClusterContract, Seam
from fakes import FakeCluster

from hpcrun.plan import Batch
from hpcrun.rundir import RunDir

THREE = Batch(index=0, first=0, count=3, array=True, throttle=None, pack=1, after=None)


class TestFake(ClusterContract):
    @pytest.fixture(params=[True, False], ids=["accounting", "no accounting"])
    def seam(self, request: pytest.FixtureRequest) -> Seam:
        cluster = FakeCluster(accounting=request.param)

        def staying() -> tuple[RunDir, str]:
            run = RunDir("/runs/a")
            return run, cluster.submit(run, THREE, None)

        def ending() -> tuple[RunDir, str]:
            run, job = staying()
            cluster.set(job, "COMPLETED")
            return run, job

        return Seam(cluster, staying, ending)
