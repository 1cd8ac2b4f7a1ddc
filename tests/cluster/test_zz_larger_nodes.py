"""A gang that is larger than what the tests' nodes claim. Late, for it makes the cluster anew and back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from containers import Login, User, up
from gangs import asked, gone, with_workers


@pytest.fixture(scope="module", autouse=True)
def larger_nodes(login: Login) -> Iterator[None]:
    """Nodes of 24 CPUs while this module's tests run."""
    up("--cpus", "24")
    yield
    up()


@pytest.mark.parametrize("topology", ["het", "flat"])
def test_64_workers(user: User, topology: str) -> None:
    """On four nodes, each listening on a free port: all addresses are distinct and right, in the order of replicas."""
    run_id = user.submit_spec(with_workers(user, 64, topology=topology))
    assert user.hpcrun("wait", "-q", run_id).returncode == 0, user.hpcrun("logs", run_id).stdout
    job = user.results(run_id, "job.*")["job.0.0"]
    assert asked(job) == [f"{run_id} 0 {replica}" for replica in range(64)]
    assert len(set(job["told"])) == 64
    assert len({*job["nodes"], job["node"]}) == (4 if topology == "het" else 3), "24 a node, the job's included"
    gone(user, run_id)
