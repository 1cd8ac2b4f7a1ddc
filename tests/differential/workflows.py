"""The parts that the compared workflows are made of, and the list of them all."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import socket
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

Tasks = list[dict[str, Any]]
START, END = "$NOTE start", "$NOTE end"


@dataclasses.dataclass(frozen=True)
class Workflow:
    """A spec that both sides are given, and what is set on the command line."""

    name: str
    spec: dict[str, Any]
    settings: tuple[str, ...] = ()
    gpus: int = 0
    """How many GPUs the machine says to have."""

    @property
    def variables(self) -> tuple[str, ...]:
        """The names that a task must have in its environment."""
        return (*self.spec.get("variables", ()), *(["CUDA_VISIBLE_DEVICES"] if self.gpus else []))


Family = Callable[[Random], Workflow]
FAMILIES: dict[str, Family] = {}


def family(make: Callable[[Random, str], Workflow]) -> Callable[[Random, str], Workflow]:
    """Put a kind of workflow on the list, under the name of what makes it."""
    FAMILIES[make.__name__] = lambda random: make(random, make.__name__)
    return make


def generate(seed: int, names: Sequence[str] = ()) -> list[Workflow]:
    """One workflow of each family, or of those in `names`; the same seed makes the same ones, but for their ports."""
    return [FAMILIES[name](Random(f"{seed} {name}")) for name in names or FAMILIES]


def workflow(name: str, tasks: Tasks, *settings: str, **variables: Any) -> Workflow:
    """A workflow of these tasks; a variable that is no mapping is its value."""
    spec: dict[str, Any] = {"version": "0.1"}
    if variables:
        spec["variables"] = {
            key: value if isinstance(value, dict) else {"value": value} for key, value in variables.items()
        }
    return Workflow(name, {**spec, "workflow": {"name": name, "tasks": tasks}}, settings)


def with_gpus(found: Workflow, gpus: int) -> Workflow:
    """A workflow on a machine of so many GPUs."""
    backend = {"name": "machine", "type": "local", "gpus_per_node": gpus}
    return dataclasses.replace(found, spec={**found.spec, "backends": [backend]}, gpus=gpus)


def task(name: str, *lines: str, **fields: Any) -> dict[str, Any]:
    """A task that says when it begins and when it ends, with `lines` between."""
    return {"name": name, "script": [START, *lines, END], **fields}


def bare(name: str, *lines: str, **fields: Any) -> dict[str, Any]:
    """A task that says when it begins; what comes then is in `lines`."""
    return {"name": name, "script": [START, *lines], **fields}


def nap(random: Random) -> str:
    return f"sleep {random.choice((0, 0.1, 0.2, 0.4))}"


def swept(*domain: Any, type: str = "string") -> dict[str, Any]:
    """A variable that is swept over `domain`."""
    return {"value": domain[0], "domain": list(domain), "type": type}


def ready_when(**probe: Any) -> dict[str, Any]:
    """The probes of a task that is ready when this one passes, which is made each second."""
    return {"readiness": {"interval": 1, **probe}}


def fails_when(**probe: Any) -> dict[str, Any]:
    return {"failure": {"interval": 1, **probe}}


def free_port() -> int:
    """A port that nobody listens on, below those that the kernel gives to whoever connects."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as tried, contextlib.suppress(OSError):
            tried.bind(("127.0.0.1", port))
            return port


def server(name: str, port: int, wait: float, **fields: Any) -> dict[str, Any]:
    """A task that serves HTTP on `port` after `wait` seconds."""
    return bare(name, f"exec $NOTE serve {port} {wait}", **fields)


def logger(name: str, wait: float, line: str = "listening on 8000", **fields: Any) -> dict[str, Any]:
    """A task that prints `line` after `wait` seconds and lives on."""
    return bare(name, f"sleep {wait}", "$NOTE up", f"echo {line}", "sleep 120", **fields)
