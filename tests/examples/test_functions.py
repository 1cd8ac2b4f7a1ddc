"""The example of functions, on this machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "functions" / "functions.py"


def test_every_cell(tmp_path: Path) -> None:
    """Each cell checks what it has got, and says one line."""
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "HPCRUN_HOME": str(tmp_path), "HPCRUN_CLUSTER": "local"}
    done = subprocess.run(
        [sys.executable, SCRIPT], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    said = [line.split(":")[0] for line in done.stdout.splitlines()]
    assert said == ["map", "exceptions", "submit", "opened", "executor", "coroutines", "checkpoint"]
