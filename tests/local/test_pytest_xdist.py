"""pytest-xdist within a shard: its processes select the same tests, and share them."""

from __future__ import annotations

import json
import re
import sys
from xml.etree import ElementTree

from machine import Machine

SHARD = (
    sys.executable,
    "-m",
    "pytest",
    "-v",
    "-p",
    "no:cacheprovider",
    "-n",
    "2",
    "--hpcrun-shard",
    "--junitxml=r.xml",
)


def test_processes_of_a_shard(machine: Machine) -> None:
    """Each test runs once, the durations are those of the tests by their names, and all is in one report."""
    marks = "@pytest.mark.xdist_group('g')\n@pytest.mark.parametrize('n', range(7))"
    machine.write("test_s.py", f"import pytest\n{marks}\ndef test_n(n):\n    pass\n")
    names = [f"test_s.py::test_n[{number}]" for number in range(7)]
    for more in ((), ("--dist=loadgroup",)):
        run = machine.run("-N", "2", "--", *SHARD, "--hpcrun-store-durations", *more)
        ran = [test for shard in (0, 1) for test in re.findall(r"PASSED (\S+\])", run.logs(shard))]
        assert sorted(ran) == names
        assert re.search(r"hpcrun: shard 1 of 2, \d of 7 tests, ", run.logs(1))
        assert sorted(json.loads((machine.cwd / ".test_durations").read_text())) == names
        root = ElementTree.parse(machine.cwd / "r.xml").getroot()
        assert (root.get("tests"), root.get("errors")) == ("7", "0")


def test_no_test_for_a_shard(machine: Machine) -> None:
    """It has succeeded, as it has without pytest-xdist; a suite without any has not."""
    machine.write("test_s.py", "def test_a():\n    pass\n")
    machine.run("-N", "2", "--", *SHARD)
    run = machine.run("-N", "2", "--", *SHARD, "-k", "nothing", code=1)
    assert [shard.exit_code for shard in run.shards()] == [5, 5]


def test_shards_that_do_not_agree(machine: Machine) -> None:
    """What the processes have found is the shard's own error."""
    other = "import os\nexec(f\"def test_{os.environ['HPCRUN_SHARD_INDEX']}(): pass\")\n"
    machine.write("test_s.py", other)
    run = machine.run("-N", "2", "--max-parallel", "1", "--", *SHARD, code=3)
    assert run.shards()[1].exit_code == 4
    assert "found other tests in shard 1 than" in run.logs(1)
