"""The real cluster, for the fault suite, whole again after each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from containers import Login
from on_cluster import (
    docker_cleanup,
    docker_compose_file,
    docker_compose_project_name,
    docker_setup,
    in_queue,
    login,
    user,
)

__all__ = [
    "docker_cleanup", "docker_compose_file", "docker_compose_project_name", "docker_setup", "in_queue", "login", "user",
]  # fmt: skip

WHOLE = """
scancel --user user --quiet
for i in $(seq 900); do
    nodes=$(sinfo --noheader --Node --partition=main --format=%T | grep --count --line-regexp idle)
    [ "$nodes" = 4 ] && [ -z "$(squeue --noheader)" ] && exit
    for node in c1 c2 c3 c4; do scontrol update nodename=$node state=resume 2>/dev/null; done
    sleep 0.2
done
squeue; sinfo
exit 1
"""


@pytest.fixture(autouse=True)
def whole_again(login: Login) -> Iterator[None]:
    """What a test leaves behind, if it fails, is not the next one's trouble."""
    yield
    done = login("bash", "-c", WHOLE, node="slurmctld", user="root")
    assert done.returncode == 0, done.stdout + done.stderr
