"""The real cluster: Slurm in containers, started by the same scripts that everybody uses.

These tests run on the login node as the ordinary user. They never skip: who has no containers says --no-cluster.
"""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Callable, Iterator

import pytest
from containers import NAME, SCRIPTS, Done, Login, User, up


@pytest.fixture(scope="session")
def docker_setup() -> list[str]:
    """pytest-docker would call compose; the project's own script does, and finds out which spelling there is."""
    up()
    # A session that was killed may have left jobs that wait for ever.
    subprocess.run(
        [str(SCRIPTS / "login"), "scancel", "--me"], env={**os.environ, "DOCKER_SLURM_NAME": NAME}, check=True
    )
    return []


@pytest.fixture(scope="session")
def docker_cleanup(pytestconfig: pytest.Config) -> Iterator[list[str]]:
    yield []
    if not pytestconfig.getoption("--keep-cluster"):
        down = [str(SCRIPTS / "down"), "--volumes"]
        subprocess.run(down, env={**os.environ, "DOCKER_SLURM_NAME": NAME}, check=True, capture_output=True)


@pytest.fixture(scope="session")
def docker_compose_file() -> str:
    return str(SCRIPTS / "compose.yaml")


@pytest.fixture(scope="session")
def docker_compose_project_name() -> str:
    return NAME


@pytest.fixture(scope="session")
def login(docker_services: object) -> Login:
    """Commands on the cluster; the reply has returncode, stdout and stderr."""

    def run(
        *argv: str, input: str | None = None, node: str = "login", user: str = "user", timeout: float = 120
    ) -> Done:
        command = [str(SCRIPTS / "login"), "-n", node, "-u", user, *argv]
        return subprocess.run(
            command, env={**os.environ, "DOCKER_SLURM_NAME": NAME}, input=input or "", text=True, capture_output=True,
            timeout=timeout, check=False, errors="surrogateescape",
        )  # fmt: skip

    return run


@pytest.fixture
def user(login: Login) -> User:
    """The ordinary user, in a fresh folder that every node sees."""
    return User(login, f"/shared/tests/{uuid.uuid4().hex[:12]}")


@pytest.fixture
def in_queue(login: Login) -> Callable[[], str]:
    """What squeue shows of the user's jobs."""
    return lambda: login("squeue", "--noheader", "--me").stdout.strip()
