"""The pytest plug-in on real runs: each test once, one report of all, and no green one for a part of a suite."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from machine import Done, Machine

from hpcrun import Run

PYTEST = (sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider")
SHARD = (*PYTEST, "--hpcrun-shard", "--junitxml=report.xml")
STARTED = "import os\nfrom os import environ\n"


@pytest.fixture
def seven(machine: Machine) -> Machine:
    """A folder with a suite of seven tests, two of them of one function."""
    machine.write("test_a.py", "".join(f"def test_{name}():\n    pass\n\n" for name in "abcd"))
    several = "import pytest\n\n@pytest.mark.parametrize('n', ['x', 'y::z'])\ndef test_e(n):\n    pass\n\n"
    machine.write("test_b.py", several + "class TestF:\n    def test_f(self):\n        pass\n")
    return machine


ALL = [
    *(f"test_a.py::test_{name}" for name in "abcd"),
    *("test_b.py::TestF::test_f", "test_b.py::test_e[x]", "test_b.py::test_e[y::z]"),
]
"""Its tests, sorted."""


def ran(run: Run, shard: int) -> list[str]:
    """The tests that passed in the last attempt of a shard."""
    return re.findall(r"^(\S+) PASSED", run.logs(shard), re.MULTILINE)


def everything(run: Run) -> list[str]:
    return sorted(test for shard in run.shards() for test in ran(run, shard.index))


def counts(machine: Machine) -> tuple[int, ...]:
    """Tests, failures and errors of the merged report."""
    root = ElementTree.parse(machine.cwd / "report.xml").getroot()
    return tuple(int(root.get(name, "")) for name in ("tests", "failures", "errors"))


def errors(machine: Machine) -> list[str]:
    root = ElementTree.parse(machine.cwd / "report.xml").getroot()
    return [found.get("message", "") for found in root.iter("error")]


def alone(machine: Machine, *argv: str) -> Done:
    """pytest without a run."""
    return machine.command(*PYTEST, *argv)


def test_each_test_runs_once(seven: Machine) -> None:
    """Three shards share the tests round robin, and leave one report of all."""
    run = seven.run("-N", "3", "--", *SHARD)
    assert everything(run) == ALL
    assert ran(run, 1) == ["test_a.py::test_b", "test_b.py::test_e[x]"]
    assert "collected 7 items / 5 deselected / 2 selected\n" in run.logs(1)
    assert "hpcrun: shard 1 of 3, 2 of 7 tests, round robin\n" in run.logs(1)
    assert counts(seven) == (7, 0, 0)
    suites = ElementTree.parse(seven.cwd / "report.xml").getroot().findall("testsuite")
    assert [(suite.get("tests"), suite.get("hostname")) for suite in suites] == [
        (number, os.uname().nodename) for number in ("3", "2", "2")
    ]


def test_by_durations(seven: Machine) -> None:
    """A test that takes as long as all others has a shard for itself; files may be kept whole."""
    seven.write(".test_durations", json.dumps({**dict.fromkeys(ALL, 1), ALL[3]: 6}))
    run = seven.run("-N", "2", "--", *PYTEST, "--hpcrun-shard")
    assert everything(run) == ALL
    assert ran(run, 0) == [ALL[3]]
    assert "hpcrun: shard 0 of 2, 1 of 7 tests, by durations\n" in run.logs(0)
    run = seven.run("-N", "2", "--", *PYTEST, "--hpcrun-shard", "--hpcrun-group=file")
    assert everything(run) == ALL
    assert {test.partition("::")[0] for test in ran(run, 0)} == {"test_a.py"}


def test_durations_are_stored(seven: Machine) -> None:
    """The file has those of all shards in the end; shards that begin later go by what the first one found there."""
    run = seven.run("-N", "3", "--max-parallel", "1", "--", *PYTEST, "--hpcrun-shard", "--hpcrun-store-durations")
    assert everything(run) == ALL
    assert all("round robin" in run.logs(shard) for shard in range(3))
    stored = json.loads((seven.cwd / ".test_durations").read_text())
    assert sorted(stored) == ALL
    run = seven.run("-N", "2", "--", *PYTEST, "--hpcrun-shard", "--hpcrun-store-durations", "-k", "test_e")
    assert "by durations" in run.logs(0)
    assert sorted(json.loads((seven.cwd / ".test_durations").read_text())) == ALL


def test_more_shards_than_tests(machine: Machine) -> None:
    """A shard without tests has succeeded; a suite without any has not."""
    machine.write("test_a.py", "def test_a():\n    pass\n")
    run = machine.run("-N", "2", "--", *SHARD)
    assert everything(run) == ["test_a.py::test_a"]
    assert counts(machine) == (1, 0, 0)
    run = machine.run("-N", "2", "--", *SHARD, "-k", "nothing", code=1)
    assert [shard.exit_code for shard in run.shards()] == [5, 5]
    assert errors(machine) == [f"pytest of shard {shard} of 2 ended with exit code 5" for shard in (0, 1)]


def test_retries(seven: Machine) -> None:
    """One shard fails and one is killed, both at first: the report in the end is as if they had not."""
    trouble = STARTED + "def test_first():\n    assert environ['HPCRUN_ATTEMPT'] == '1'\n\n"
    trouble += "def test_second():\n    if environ['HPCRUN_ATTEMPT'] == '0':\n        os.kill(os.getpid(), 9)\n"
    seven.write("test_0.py", trouble)
    options = ("--retries", "1", "--set", "spec.retry=in_place")
    run = seven.run("-N", "3", *options, "--", *SHARD)
    assert [shard.attempts for shard in run.shards()] == [2, 2, 1]
    assert everything(run) == sorted([*ALL, "test_0.py::test_first", "test_0.py::test_second"])
    assert counts(seven) == (9, 0, 0)


def test_a_shard_that_was_killed(seven: Machine) -> None:
    """Yesterday's report was green; today's has an error for the shard that left none, and failures as they are."""
    seven.run("-N", "2", "--", *SHARD)
    assert counts(seven) == (7, 0, 0)
    seven.write("test_c.py", STARTED + "def test_g():\n    assert 0\n\ndef test_h():\n    os.kill(os.getpid(), 9)\n")
    run = seven.run("-N", "2", "--", *SHARD, code=1)
    killed = next(shard.index for shard in run.shards() if shard.signal)
    assert errors(seven) == [f"shard {killed} of 2 has left no report"]
    assert counts(seven)[1] == 1


def test_shards_that_do_not_agree(seven: Machine) -> None:
    """A shard that has collected other tests than the first does not run a part that fits none, and says which."""
    seven.write(
        "test_c.py", STARTED + "if environ['HPCRUN_SHARD_INDEX'] == '1':\n    def test_only_here():\n        pass\n"
    )
    run = seven.run("-N", "2", "--max-parallel", "1", "--", *SHARD, code=3)
    assert [shard.exit_code for shard in run.shards()] == [0, 4]
    assert "found other tests in shard 1 than" in run.logs(1)
    assert "1 only here: test_c.py::test_only_here" in run.logs(1)
    assert errors(seven) == ["pytest of shard 1 of 2 ended with exit code 4"]


def test_two_calls_in_a_run(seven: Machine) -> None:
    """A second call that has other tests by an option of a conftest.py is told what to do, and does it."""
    seven.write(
        "conftest.py",
        "def pytest_addoption(parser):\n    parser.addoption('--slow', action='store_true')\n"
        "def pytest_ignore_collect(collection_path, config):\n"
        "    return True if 'test_b' in str(collection_path) and not config.option.slow else None\n",
    )
    pytest_call = f"{' '.join(PYTEST)} --hpcrun-shard"
    run = seven.run("-N", "2", "--", "sh", "-c", f"{pytest_call} && {pytest_call} --slow", code=1)
    assert "needs a name: --hpcrun-call=NAME" in run.logs(0)
    run = seven.run("-N", "2", "--", "sh", "-c", f"{pytest_call} && {pytest_call} --slow --hpcrun-call=slow")
    assert everything(run) == sorted([*ALL, *ALL[:4]])


def test_order_is_not_part_of_it(machine: Machine) -> None:
    """Shards that collect in different orders, as sets have them, share the tests all the same."""
    names = ", ".join(map(repr, "abcdefghij"))
    machine.write("test_s.py", f"import pytest\n@pytest.mark.parametrize('n', {{{names}}})\ndef test_n(n):\n    pass\n")
    for how in ("round-robin", "durations"):
        run = machine.run("-N", "3", "--", *PYTEST, "--hpcrun-shard", f"--hpcrun-split={how}")
        assert everything(run) == [f"test_s.py::test_n[{name}]" for name in "abcdefghij"]


def test_without_a_run(seven: Machine) -> None:
    """One shard by number, or the whole suite with a note; durations of the whole suite can be stored."""
    done = alone(seven, "--hpcrun-shard=2/3", "--collect-only", "-qq")
    assert re.findall(rb"\S+::\S+", done.stdout) == [b"test_a.py::test_c", b"test_b.py::test_e[y::z]"]
    done = alone(seven, "--hpcrun-shard", "--hpcrun-store-durations")
    assert b"hpcrun: shard 0 of 1, 7 of 7 tests, round robin (outside of a run: the whole suite)\n" in done.stdout
    assert sorted(json.loads((seven.cwd / ".test_durations").read_text())) == ALL
    # Two shards that nobody has started together are merged too.
    assert alone(seven, "--hpcrun-shard=1/2", "--junitxml=report.xml").returncode == 0
    assert errors(seven) == ["shard 0 of 2 has left no report"]
    assert alone(seven, "--hpcrun-shard=0/2", "--junitxml=report.xml").returncode == 0
    assert counts(seven) == (7, 0, 0)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("--hpcrun-shard=3/3",), "found '3/3', wanted nothing, auto or I/N with I from 0 to N-1"),
        (("--hpcrun-shard", "test_a.py"), "before a path it is --hpcrun-shard=auto"),
        (("--hpcrun-shard=0/2", "--hpcrun-store-durations"), "shard 0 of 2 outside of a run"),
        (("--hpcrun-shard=0/2", "--hpcrun-durations=test_a.py"), "wanted a JSON object of seconds by test"),
        (
            ("--hpcrun-shard=0/2", "--junitxml=test_a.py/r.xml"),
            "test_a.py/r.xml.shards: cannot be written: Not a direc",
        ),
    ],
)
def test_what_cannot_be(seven: Machine, argv: tuple[str, ...], said: str) -> None:
    """pytest's own usage error, before a test is run."""
    done = alone(seven, *argv)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert said in done.stderr.decode()
    assert b"PASSED" not in done.stdout


def test_who_asks_for_nothing(seven: Machine) -> None:
    """In a run too pytest is as it is without the plug-in, which loads nothing more; -p no:hpcrun leaves it out."""
    seven.write(
        "test_c.py", "import sys\ndef test_modules():\n    print([name for name in sys.modules if 'hpcrun' in name])\n"
    )
    run = seven.run("-N", "2", "--", *PYTEST, "-s", "--junitxml=report.xml")
    assert all(len(re.findall("PASSED", run.logs(shard))) == len(ALL) + 1 for shard in (0, 1))
    assert "['hpcrun', 'hpcrun.pytest_plugin']" in run.logs(0)
    assert not Path(seven.cwd, "report.xml.shards").exists()
    done = alone(seven, "-p", "no:hpcrun", "--hpcrun-shard")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
