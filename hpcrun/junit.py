"""JUnit reports: the one of a sharded test suite from those of its shards.

    python -m hpcrun.junit OUT PART...

The shards of a suite leave their parts in the folder ``OUT.shards``, as ``INDEX.xml``, each marked with its run, its
shard and the count of shards. What merges them is after the truth: a shard that has left no report, or none that can be
read, has an error of its own in the merged one, so that nobody takes a part of a suite for all of it.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from hpcrun import parts
from hpcrun.errors import HpcrunError, UsageError
from hpcrun.whole import write_whole

_COUNTS = ("tests", "failures", "errors", "skipped")
_CASES = {"tests": ".//testcase", "failures": ".//failure", "errors": ".//error", "skipped": ".//skipped"}


class Which(NamedTuple):
    """Which shard a report is of: `shard` of the `shards` of the run `run`, which is empty outside of a run."""

    run: str
    shard: int
    shards: int


def begin(out: str, which: Which) -> str:
    """The path at which the shard is to leave its report, for `out`; what an earlier attempt has left is taken out.

    An `out` that is not of this run is replaced: it says from the start which shards have not come yet.
    """
    folder = f"{out}.shards"
    os.makedirs(folder, exist_ok=True)
    part = os.path.join(folder, f"{which.shard}.xml")
    try:
        os.unlink(part)
    except FileNotFoundError:
        if which.run and _is_of(out, which.run):
            return part
    merge(out, which)
    return part


def finish(out: str, which: Which, exit_code: int, tests: int) -> int:
    """Mark the report that the shard has left as its own and merge all there are into `out`; how many these are.

    An `exit_code` that nothing in the report explains is an error in it, and so is one with fewer cases than the
    `tests` that the shard had.
    """
    part = os.path.join(f"{out}.shards", f"{which.shard}.xml")
    suites = read(part)
    failed = any(_count(suite, kind) for suite in suites for kind in ("failures", "errors"))
    ran = sum(_count(suite, "tests") for suite in suites)
    if not failed and (exit_code or ran < tests):
        title = f"pytest of shard {which.shard} of {which.shards} ended with exit code {exit_code}"
        if ran < tests:
            title += f" after {ran} of {tests} tests"
        suites.append(_error(which, title, "No test has failed. The output of the shard says what has happened."))
    for suite in suites:
        _mark(suite, which)
    write_whole(part, _text(suites, which.run))
    return merge(out, which)


def merge(out: str, which: Which) -> int:
    """Merge the reports there are of the run into `out`; how many these are."""
    whole = 0

    def combined(found: dict[int, str]) -> bytes:
        nonlocal whole
        suites: list[Element] = []
        whole = 0
        for shard in range(which.shards):
            own, problem = _left(found.get(shard), which._replace(shard=shard))
            whole += not problem
            suites += own or [_missing(which._replace(shard=shard), problem)]
        return _text(suites, which.run)

    parts.merge(f"{out}.shards", out, combined)
    return whole


def _left(path: str | None, which: Which) -> tuple[list[Element], str]:
    """What a shard has left at `path`; or nothing, and why."""
    nothing = "It has not ended yet, or was killed before its end, or ran where this folder is not seen."
    if path is None or not os.path.exists(path):
        return [], nothing
    try:
        suites = read(path)
    except UsageError as error:
        return [], str(error)
    return (suites, "") if suites and all(_which(suite) == which for suite in suites) else ([], nothing)


def read(path: str) -> list[Element]:
    """The test suites in the report `path`.

    Raises UsageError where it cannot be read or is none.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        why = error.strerror if isinstance(error, OSError) else f"it is no XML: {error}"
        raise UsageError(f"{path}: cannot be read: {why}; wanted a JUnit report that was written to its end") from error
    if root.tag == "testsuite":
        return [root]
    if root.tag != "testsuites":
        raise UsageError(f"{path}: found <{root.tag}>, wanted <testsuites> or <testsuite>, as JUnit reports have")
    return root.findall("testsuite")


def _text(suites: Iterable[Element], run: str) -> bytes:
    """The whole report of `suites`, with the sums of their counts."""
    root = Element("testsuites", name="pytest tests")
    root.extend(suites)
    for kind in _COUNTS:
        root.set(kind, str(sum(_count(suite, kind) for suite in root)))
    root.set("time", f"{sum(map(_seconds, root)):.3f}")
    head = f'<?xml version="1.0" encoding="utf-8"?>\n{_stamp(run)}\n'
    text: bytes = ElementTree.tostring(root, encoding="utf-8")
    return head.encode() + text + b"\n"


def _stamp(run: str) -> str:
    """The comment by which a report is known to be of `run`."""
    return f"<!-- hpcrun: {re.sub(r'[^A-Za-z0-9]+', '-', run) or 'no run'} -->"


def _is_of(out: str, run: str) -> bool:
    try:
        with open(out, "rb") as file:
            return _stamp(run).encode() in file.read(1000)
    except FileNotFoundError:
        return False


def _count(suite: Element, kind: str) -> int:
    said = suite.get(kind, "")
    return int(said) if said.isascii() and said.isdecimal() else len(suite.findall(_CASES[kind]))


def _seconds(suite: Element) -> float:
    try:
        return float(suite.get("time", "0"))
    except ValueError:
        return 0.0


def _missing(which: Which, why: str) -> Element:
    suite = _error(which, f"shard {which.shard} of {which.shards} has left no report", why)
    _mark(suite, which)
    return suite


def _error(which: Which, title: str, text: str) -> Element:
    """A suite of one test that is an error."""
    suite = Element("testsuite", name="hpcrun", tests="1", failures="0", errors="1", skipped="0", time="0.000")
    case = ElementTree.SubElement(suite, "testcase", classname="hpcrun", name=f"shard {which.shard}", time="0.000")
    ElementTree.SubElement(case, "error", message=title).text = text
    return suite


def _mark(suite: Element, which: Which) -> None:
    properties = suite.find("properties")
    if properties is None:
        properties = Element("properties")
        suite.insert(0, properties)
    for name, value in zip(which._fields, which, strict=True):
        ElementTree.SubElement(properties, "property", name=f"hpcrun.{name}", value=str(value))


def _which(suite: Element) -> Which | None:
    """Which shard `suite` is marked to be of."""
    said = {one.get("name"): one.get("value", "") for one in suite.findall("properties/property")}
    shard, shards = said.get("hpcrun.shard", ""), said.get("hpcrun.shards", "")
    if not (shard.isdecimal() and shards.isdecimal()):
        return None
    return Which(said.get("hpcrun.run", ""), int(shard), int(shards))


def by_hand(out: str, paths: Sequence[str]) -> list[int]:
    """Merge the reports `paths`, of shards or of anything else, into `out`; the shards that are missing among them.

    Raises UsageError for reports that cannot be read or do not go together; `out` is not touched then.
    """
    suites: list[Element] = []
    came: dict[Which, str] = {}
    for path in paths:
        if os.path.exists(out) and os.path.exists(path) and os.path.samefile(out, path):
            raise UsageError(f"found {path} among the reports to merge, wanted it to be what they are merged into")
        own = read(path)
        for which in {which for suite in own if (which := _which(suite))}:
            _check(which, path, came)
            came[which] = path
        suites += own
    one = next(iter(came), None)
    missing = sorted(set(range(one.shards)) - {which.shard for which in came}) if one else []
    if one:
        suites += [_missing(one._replace(shard=shard), "It is not among the reports to merge.") for shard in missing]
    write_whole(out, _text(suites, one.run if one else ""))
    return missing


def _check(which: Which, path: str, came: dict[Which, str]) -> None:
    if which in came:
        raise UsageError(f"found shard {which.shard} in {came[which]} and in {path}, wanted each shard once")
    for other, its_path in came.items():
        if (other.run, other.shards) != (which.run, which.shards):
            raise UsageError(
                f"found a shard of {_of(other)} in {its_path} and one of {_of(which)} in {path}, wanted one run"
            )


def _of(which: Which) -> str:
    return f"run {which.run} ({which.shards} shards)" if which.run else f"{which.shards} shards outside of a run"


def main(argv: Sequence[str] | None = None) -> int:
    """Merge reports: 0, or 1 where shards are missing, or 2 where nothing was written."""
    parser = argparse.ArgumentParser(
        prog="python -m hpcrun.junit", description="Merge JUnit reports, those of shards or others.",
        epilog="The exit code is 1 if a shard is missing, which then is an error in OUT; 2 if nothing was written.",
    )  # fmt: skip
    parser.add_argument("out", metavar="OUT", help="the report to write")
    parser.add_argument("parts", metavar="PART", nargs="+", help="a report to merge, such as report.xml.shards/0.xml")
    asked = parser.parse_args(argv)
    try:
        missing = by_hand(asked.out, asked.parts)
    except HpcrunError as error:
        print(f"hpcrun.junit: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"hpcrun.junit: {error.filename or asked.out}: cannot be written: {error.strerror}", file=sys.stderr)
        return 2
    for shard in missing:
        print(f"hpcrun.junit: shard {shard} is missing: an error in {asked.out}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
