"""What holds for every test: a clean environment, and a home and a run folder of its own."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

# numpy's threads would be there to take SIGIO, which the runtime waits for in the thread that it has.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

_SCRUBBED = ("SLURM_", "SLURMD_", "SBATCH_", "SRUN_", "HPCRUN_", "XDG_CONFIG_")


# No test depends on how fast the machine is.
settings.register_profile("hpcrun", deadline=None)
settings.load_profile("hpcrun")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of a job or of the developer's settings reaches a test."""
    for name in list(os.environ):
        if name.startswith(_SCRUBBED) or name == "CUDA_VISIBLE_DEVICES":
            monkeypatch.delenv(name)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HPCRUN_HOME", str(tmp_path / "runs-home"))


def pytest_configure(config: pytest.Config) -> None:
    """Processes of pytest-xdist have threads, and SIGIO would end them: they inherit that it is held back in each."""
    if config.getoption("numprocesses", None):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGIO})


def pytest_addoption(parser: pytest.Parser) -> None:
    """The cluster is expected unless somebody says that there is none: its tests fail without it, they never skip."""
    parser.addoption("--no-cluster", action="store_true", help="leave out the tests on the Slurm of docker-slurm/")
    parser.addoption("--keep-cluster", action="store_true", help="leave the tests' Slurm up at the end")
    parser.addoption("--full", action="store_true", help="also the tests that take a minute and more")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is marked as `full` is left out where nobody has asked for it."""
    if not config.getoption("--full"):
        left_out = [item for item in items if item.get_closest_marker("full")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With --no-cluster the tests on it are not even read."""
    left_out = collection_path.name in ("cluster", "faults") and collection_path.parent.name == "tests"
    return True if left_out and config.getoption("--no-cluster") else None
