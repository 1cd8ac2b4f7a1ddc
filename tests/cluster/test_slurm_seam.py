"""Slurm itself keeps the contract, asked through the client that hpcrun uses."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

import pytest
from containers import ACCOUNTING, RELEASE, Login
from contract import ClusterContract, Seam

from hpcrun.cluster import Limits
from hpcrun.errors import SubmissionRefused
from hpcrun.plan import Batch
from hpcrun.quotas import Where
from hpcrun.rundir import RunDir
from hpcrun.slurm import Completed, Slurm
from hpcrun.states import SLURM_STATES

pytestmark = pytest.mark.smoke
THREE = Batch(index=0, first=0, count=3, array=True, throttle=None, pack=1, after=None)


@pytest.fixture
def slurm(login: Login, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    """The client, its commands run on the login node."""

    def run(argv: Sequence[str], environ: Mapping[str, str], deadline: float) -> Completed:
        kept = [f"{name}={value}" for name, value in environ.items() if name.startswith("SLURM_")]
        done = login("env", *kept, *argv, timeout=deadline)
        return Completed(done.returncode, done.stdout, done.stderr)

    monkeypatch.setattr("os.getuid", lambda: 1000)
    return Slurm({}, run)


def place(login: Login, text: str) -> RunDir:
    """A run folder on the cluster with one script."""
    run = RunDir(f"/shared/tests/{uuid.uuid4().hex[:12]}")
    script = run.script(0)
    done = login("bash", "-c", 'mkdir -p "$(dirname "$1")" && cat > "$1"', "bash", script, input=text)
    assert done.returncode == 0, done.stderr
    return run


class TestSlurm(ClusterContract):
    @pytest.fixture
    def seam(self, slurm: Slurm, login: Login) -> Seam:
        def start(command: str) -> tuple[RunDir, str]:
            text = f"#!/bin/bash\n#SBATCH --array=0-2\n#SBATCH --output=/dev/null\n{command}\n"
            run = place(login, text)
            return run, slurm.submit(run, THREE, None)

        return Seam(slurm, lambda: start("sleep 1000"), lambda: start("true"))


def test_limits_are_the_clusters(slurm: Slurm) -> None:
    """MaxArraySize, accounting and version are what the cluster was started with."""
    found = slurm.limits()
    assert found == Limits(max_array=101, accounting=ACCOUNTING, version=found.version)
    assert found.version.startswith(RELEASE)


def test_limits_of_places(slurm: Slurm) -> None:
    """Partitions, how many nodes they have together, and the account that this user has by default."""
    found = slurm.limits((Where("gpu"), Where("gpu")))
    assert found.nodes == 2
    assert slurm.limits((Where(), Where("gpu"))).nodes == 4
    assert [place.partition for places in found.places for place in places] == ["gpu", "gpu"]


def test_every_state_that_slurm_knows_is_in_the_table(login: Login) -> None:
    """squeue lists its own states in the error for one that it does not know: the table has all of them."""
    said = login("squeue", "--states=NO_SUCH_STATE").stderr
    listed = said[said.rindex(":") + 1 :].replace("\n", "").replace(" ", "").upper().split(",")
    assert len(listed) > 15, said
    assert [name for name in listed if name and name not in SLURM_STATES] == []


def test_a_refusal_says_what_to_do(slurm: Slurm, login: Login) -> None:
    """Slurm's own reason and the next step."""
    run = place(login, "#!/bin/bash\n#SBATCH --partition=nosuch\ntrue\n")
    with pytest.raises(SubmissionRefused, match=r"Invalid partition name(.|\n)*sinfo"):
        slurm.submit(run, THREE, None)
