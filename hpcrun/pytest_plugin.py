"""The pytest plug-in: its options, and what loads the rest of it where one of them is used (docs/pytest.md).

pytest loads this in every session of whoever has hpcrun installed, so there is next to nothing in it.
"""

from __future__ import annotations

import argparse
import re

import pytest

_SHARD = re.compile(r"auto|(?P<index>\d{1,9})/(?P<count>\d{1,9})", re.ASCII)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the plug-in."""
    group = parser.getgroup("hpcrun", "shards of a test suite (hpcrun)")
    group.addoption(
        "--hpcrun-shard", nargs="?", const="auto", type=_shard, metavar="I/N",
        help="run the tests of this shard of the run alone, or those of shard I of N, counted from 0",
    )  # fmt: skip
    group.addoption(
        "--hpcrun-split", choices=("round-robin", "durations"),
        help="how tests are split (default: by durations where there is a file of them, else round robin)",
    )  # fmt: skip
    group.addoption(
        "--hpcrun-group", choices=("test", "file"), default="test",
        help="what a shard has whole: each test for itself (the default), or the tests of a file",
    )  # fmt: skip
    group.addoption(
        "--hpcrun-durations", metavar="FILE", default=".test_durations",
        help="the file of durations (default: .test_durations, as pytest-split has it)",
    )  # fmt: skip
    group.addoption(
        "--hpcrun-call", metavar="NAME", default="",
        help="what tells several calls of pytest in one run apart that differ in options of a conftest.py alone",
    )  # fmt: skip
    group.addoption(
        "--hpcrun-store-durations", action="store_true", help="add how long the tests take to the file of durations"
    )


def _shard(text: str) -> str:
    found = _SHARD.fullmatch(text)
    if not found or (found["count"] and int(found["index"]) >= int(found["count"])):
        raise argparse.ArgumentTypeError(
            f"found {text!r}, wanted nothing, auto or I/N with I from 0 to N-1; before a path it is --hpcrun-shard=auto"
        )
    return text


@pytest.hookimpl(tryfirst=True)  # before the report is opened
def pytest_configure(config: pytest.Config) -> None:
    """Load the rest of the plug-in where one of its options is used."""
    sent = getattr(config, "workerinput", None)  # in a process of pytest-xdist, which is sent what it is to do
    wanted = config.option.hpcrun_shard is not None or config.option.hpcrun_store_durations
    if not (wanted if sent is None else "hpcrun" in sent):
        return
    from hpcrun.errors import HpcrunError
    from hpcrun.suite import Asked, Process, Suite

    try:
        suite = Suite(config) if sent is None else Process(config, Asked(**sent["hpcrun"]))
    except HpcrunError as error:
        raise pytest.UsageError(str(error)) from error
    config.pluginmanager.register(suite, "hpcrun-suite")
