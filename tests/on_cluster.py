"""The real cluster for tests: Slurm in containers, started by the same scripts that everybody uses.

These tests run on the login node as the ordinary user. They never skip: who has no containers says --no-cluster.
A conftest.py that wants these fixtures imports them all.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest
from containers import NAME, SCRIPTS, Login, User, down, log_in, up


@pytest.fixture(scope="session")
def docker_setup() -> list[str]:
    """pytest-docker would call compose; the project's own script does, and finds out which spelling there is."""
    up()
    # A session that was killed may have left jobs that wait for ever.
    assert log_in("scancel", "--me").returncode == 0
    return []


@pytest.fixture(scope="session")
def docker_cleanup(pytestconfig: pytest.Config) -> Iterator[list[str]]:
    yield []
    if not pytestconfig.getoption("--keep-cluster"):
        down()


@pytest.fixture(scope="session")
def docker_compose_file() -> str:
    return str(SCRIPTS / "compose.yaml")


@pytest.fixture(scope="session")
def docker_compose_project_name() -> str:
    return NAME


@pytest.fixture(scope="session")
def login(docker_services: object) -> Login:
    """Commands on the cluster; the reply has returncode, stdout and stderr."""
    return log_in


@pytest.fixture
def user(login: Login) -> User:
    """The ordinary user, in a fresh folder that every node sees."""
    return User(login, f"/shared/tests/{uuid.uuid4().hex[:12]}")


@pytest.fixture
def in_queue(login: Login) -> Callable[[], str]:
    """What squeue shows of the user's jobs."""
    return lambda: login("squeue", "--noheader", "--me").stdout.strip()
