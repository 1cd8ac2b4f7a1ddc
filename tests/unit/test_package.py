"""What is shipped: the installed package, the wheel and the sdist have the templates and the node side."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from importlib import resources
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WHEEL = os.environ.get("HPCRUN_TEST_WHEEL")


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a wheel that was built from an sdist, and of that sdist."""
    if WHEEL:
        return Path(WHEEL).parent
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return folder


def test_the_wheel_has_what_is_not_python(dist: Path) -> None:
    """A template left out of the wheel would be missed at the first submission only."""
    (wheel,) = dist.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"hpcrun/templates/batch.sh", "hpcrun/py.typed", "hpcrun/node/start.py", "hpcrun/node/checkup.sh"} <= names
    assert not [name for name in names if name.startswith(("tests/", "examples/", "slurm-templates/"))]


def test_the_sdist_has_the_templates(dist: Path) -> None:
    """hpcrun/templates is a link in the checkout; what it links to is in the sdist."""
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert "slurm-templates/batch.sh" in names


def test_the_installed_package_has_the_template() -> None:
    """However it was installed."""
    text = (resources.files("hpcrun") / "templates" / "batch.sh").read_text()
    assert text.startswith("#!/bin/bash\n")
