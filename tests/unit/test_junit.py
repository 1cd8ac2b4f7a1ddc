"""The JUnit report of a sharded suite says what has happened, and never that all is well while a part is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from hpcrun import junit, parts
from hpcrun.errors import UsageError
from hpcrun.junit import Which
from hpcrun.whole import write_whole

CASES = {"passed": "", "failed": '<failure message="no"/>', "skipped": "<skipped/>"}
GREEN = (
    '<testsuites name="pytest tests"><testsuite name="pytest" errors="0" failures="0" skipped="0" tests="1" '
    'time="0.25" hostname="n1"><testcase classname="t" name="test_a" time="0.25"/></testsuite></testsuites>'
)


def report(*outcomes: str) -> str:
    """What pytest leaves of tests with these outcomes on the node n1, half a second each."""
    cases = "".join(
        f'<testcase classname="t" name="test_{at}">{CASES[one]}</testcase>' for at, one in enumerate(outcomes)
    )
    return (
        f'<testsuites name="pytest tests"><testsuite name="pytest" errors="0" failures="{outcomes.count("failed")}" '
        f'skipped="{outcomes.count("skipped")}" tests="{len(outcomes)}" time="{len(outcomes) / 2}" hostname="n1">'
        f"{cases}</testsuite></testsuites>"
    )


def leave(out: Path, which: Which, text: str, code: int = 0, tests: int = 0) -> int:
    """A shard begins, writes its report and ends; how many reports there are then."""
    Path(junit.begin(str(out), which)).write_text(text)
    return junit.finish(str(out), which, code, tests)


def test_tests_that_did_not_run(tmp_path: Path) -> None:
    """Of a shard that stops early, with whatever code, the report is not green."""
    out = tmp_path / "report.xml"
    leave(out, Which("r1", 0, 1), GREEN, code=0, tests=2)
    text = out.read_text()
    assert 'errors="1"' in text
    assert "ended with exit code 0 after 1 of 2 tests" in text


def counts(out: Path) -> dict[str, str]:
    return {name: said for name, said in ElementTree.parse(out).getroot().attrib.items() if name != "name"}


def errors(out: Path) -> list[str]:
    return [found.get("message", "") for found in ElementTree.parse(out).getroot().iter("error")]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "report.xml"


def test_sums(out: Path) -> None:
    """All counts are sums, there is a suite for each shard, and each says which it is and where it ran."""
    leave(out, Which("r1", 1, 2), report("passed", "failed"), code=1)
    leave(out, Which("r1", 0, 2), report("passed", "skipped", "passed"))
    assert counts(out) == {"tests": "5", "failures": "1", "errors": "0", "skipped": "1", "time": "2.500"}
    suites = ElementTree.parse(out).getroot().findall("testsuite")
    said = [{one.get("name"): one.get("value") for one in suite.findall("properties/property")} for suite in suites]
    assert said == [{"hpcrun.run": "r1", "hpcrun.shard": str(at), "hpcrun.shards": "2"} for at in (0, 1)]
    assert [suite.get("hostname") for suite in suites] == ["n1", "n1"]


def test_a_shard_that_has_not_come_is_an_error(out: Path) -> None:
    """From the beginning on, for each of them."""
    junit.begin(str(out), Which("r1", 1, 3))
    assert errors(out) == [f"shard {shard} of 3 has left no report" for shard in (0, 1, 2)]
    assert leave(out, Which("r1", 1, 3), report("passed")) == 1
    assert errors(out) == ["shard 0 of 3 has left no report", "shard 2 of 3 has left no report"]
    assert counts(out)["errors"] == "2"


def test_what_is_left_of_another_run_does_not_count(out: Path) -> None:
    """Neither its reports nor the merged one pass for those of this run."""
    for shard in (0, 1):
        leave(out, Which("r1", shard, 2), report("passed"))
    assert counts(out)["errors"] == "0"
    junit.begin(str(out), Which("r2", 0, 2))
    assert counts(out)["errors"] == "2"


def test_another_attempt(out: Path) -> None:
    """It takes back what the one before it has left as soon as it begins, and its own report replaces it."""
    leave(out, Which("r1", 0, 2), report("passed"))
    leave(out, Which("r1", 1, 2), report("failed"), code=1)
    junit.begin(str(out), Which("r1", 1, 2))
    assert errors(out) == ["shard 1 of 2 has left no report"]
    assert leave(out, Which("r1", 1, 2), report("passed")) == 2
    assert counts(out) == {"tests": "2", "failures": "0", "errors": "0", "skipped": "0", "time": "1.000"}


def test_a_truncated_report(out: Path) -> None:
    """One shard was killed while it wrote: the others are merged, and it is an error."""
    Path(junit.begin(str(out), Which("r1", 1, 2))).write_text(report("passed")[:200])
    assert leave(out, Which("r1", 0, 2), report("passed")) == 1
    assert errors(out) == ["shard 1 of 2 has left no report"]
    assert "1.xml: cannot be read: it is no XML" in out.read_text()


def test_an_end_that_no_test_explains(out: Path) -> None:
    """pytest has failed and no test has: the report is not green."""
    leave(out, Which("r1", 0, 1), report("passed"), code=4)
    assert errors(out) == ["pytest of shard 0 of 1 ended with exit code 4"]
    assert counts(out)["errors"] == "1"


def test_the_last_one_has_all(tmp_path: Path) -> None:
    """A merge that is overtaken puts an older outcome over a newer one, sees it, and merges again."""
    folder, out = tmp_path / "parts", tmp_path / "out"
    folder.mkdir()
    looks = []

    def combined(found: dict[int, str]) -> bytes:
        looks.append(sorted(found))
        if len(looks) == 1:  # another one comes and merges, before this outcome is written
            write_whole(str(folder / "1.xml"), b"one")
            parts.merge(str(folder), str(out), lambda all_there: b"overtaken")
        return b"+".join(Path(path).read_bytes() for path in found.values())

    write_whole(str(folder / "0.xml"), b"zero")
    parts.merge(str(folder), str(out), combined)
    assert looks == [[0], [0, 1]]
    assert out.read_bytes() == b"zero+one"
    assert sorted(path.name for path in folder.iterdir()) == ["0.xml", "1.xml"]


def command(*argv: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "hpcrun.junit", *map(str, argv)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


def test_by_hand(out: Path, tmp_path: Path) -> None:
    """The command merges the reports of shards, and says which of them are missing."""
    for shard in (0, 1, 2):
        leave(out, Which("r1", shard, 3), report("passed"))
    folder, whole = Path(f"{out}.shards"), tmp_path / "whole.xml"
    done = command(whole, *sorted(folder.iterdir()))
    assert (done.returncode, done.stderr, counts(whole)) == (0, "", counts(out))
    done = command(whole, folder / "2.xml", folder / "0.xml")
    assert (done.returncode, done.stderr) == (1, f"hpcrun.junit: shard 1 is missing: an error in {whole}\n")
    assert errors(whole) == ["shard 1 of 3 has left no report"]


def test_reports_of_others(out: Path, tmp_path: Path) -> None:
    """Any JUnit reports can be merged, also those without counts."""
    (tmp_path / "a.xml").write_text(GREEN)
    (tmp_path / "b.xml").write_text("<testsuite name='x'><testcase name='c'><error/></testcase></testsuite>")
    assert junit.by_hand(str(out), [str(tmp_path / "a.xml"), str(tmp_path / "b.xml")]) == []
    assert counts(out) == {"tests": "2", "failures": "0", "errors": "1", "skipped": "0", "time": "0.250"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is no XML: no element found: line 1, column 0"),
        (GREEN[:100], "it is no XML"),
        ("<html/>", "found <html>, wanted <testsuites> or <testsuite>"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_what_cannot_be_merged(out: Path, tmp_path: Path, text: str | None, said: str) -> None:
    """The message says what is wrong with which, and nothing is written."""
    bad, good = tmp_path / "bad.xml", tmp_path / "good.xml"
    good.write_text(GREEN)
    if text is not None:
        bad.write_text(text)
    done = command(out, good, bad)
    assert done.returncode == 2
    assert done.stderr.startswith(f"hpcrun.junit: {bad}: ")
    assert said in done.stderr
    assert not out.exists()


def test_what_does_not_go_together(out: Path, tmp_path: Path) -> None:
    """A shard that is there twice, shards of two runs, and a report that would be merged into itself are refused."""
    for run in ("r1", "r2"):
        leave(tmp_path / run, Which(run, 0, 2), GREEN)
    one, other = (str(tmp_path / f"{run}.shards" / "0.xml") for run in ("r1", "r2"))
    with pytest.raises(UsageError, match=r"found shard 0 in .* and in .*, wanted each shard once"):
        junit.by_hand(str(out), [one, one])
    with pytest.raises(UsageError, match=r"found a shard of run r1 \(2 shards\) in .* and one of run r2 \(2 shards\)"):
        junit.by_hand(str(out), [one, other])
    with pytest.raises(UsageError, match="wanted it to be what they are merged into"):
        junit.by_hand(one, [one])
    assert not out.exists()
    assert command(tmp_path / "none" / "out.xml", one).returncode == 2
