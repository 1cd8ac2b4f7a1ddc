"""hpcrun on this machine, as a user in the checkout's folder calls it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def hpcrun() -> Callable[..., subprocess.CompletedProcess[str]]:
    """`hpcrun(*args, timeout=…)`: the finished process, started where the examples' paths hold."""
    beside = shutil.which("hpcrun", path=os.path.dirname(sys.executable)) or "hpcrun"

    def call(*args: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        environ = {**os.environ, "HPCRUN_CLUSTER": "local"}
        return subprocess.run(
            [beside, *args], cwd=ROOT, env=environ, text=True, capture_output=True, timeout=timeout, check=False
        )

    return call
