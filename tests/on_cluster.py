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


@pytest.fixture(scope="session")
def python(login: Login) -> str:
    """The interpreter of an environment with hpcrun in the user's home, which the nodes see too."""
    done = login("bash", "-c", ENVIRONMENT, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


ENVIRONMENT = """
venv=$HOME/environment
cmp -s /opt/hpcrun/.checksum "$venv/.checksum" || {
    rm -rf "$venv" && python3 -m venv "$venv" \
        && "$venv/bin/pip" install -q --no-index --find-links /opt/wheelhouse hpcrun \
        && cp /opt/hpcrun/.checksum "$venv/"
} && echo "$venv/bin/python"
"""


@pytest.fixture
def user(login: Login) -> User:
    """The ordinary user, in a fresh folder that every node sees."""
    return User(login, f"/shared/tests/{uuid.uuid4().hex[:12]}")


@pytest.fixture
def in_queue(login: Login) -> Callable[[], str]:
    """What squeue shows of the user's jobs."""
    return lambda: login("squeue", "--noheader", "--me").stdout.strip()
