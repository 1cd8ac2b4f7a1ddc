"""The real cluster, for the tests of this folder."""

from on_cluster import (
    docker_cleanup,
    docker_compose_file,
    docker_compose_project_name,
    docker_setup,
    in_queue,
    login,
    python,
    user,
)

__all__ = [
    "docker_cleanup", "docker_compose_file", "docker_compose_project_name", "docker_setup", "in_queue", "login",
    "python", "user",
]  # fmt: skip
