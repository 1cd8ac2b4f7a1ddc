"""Hostlists: text to hosts and back; beside the real scontrol they are in tests/cluster."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hpcrun.errors import HostlistError
from hpcrun.hostlist import MAX_HOSTS, MAX_RANGE, count, expand, fold

BIG = 2**64 - 1

PREFIXES = st.text(st.characters(exclude_characters="\0\v\f\r{ \t\n[],", codec="utf-8"), max_size=6)
NUMBERS = st.one_of(
    st.just(""), st.integers(0, 12).map(str), st.integers(0, BIG - 1).map(str),
    st.from_regex(r"0{0,30}[0-9]{1,3}", fullmatch=True),
    st.sampled_from(["9", "09", "10", "010", "99", "099", "100", "0100", f"{BIG - 1}", f"0{BIG - 1}", "²", "１"]),
)  # fmt: skip


def is_a_name(name: str) -> bool:
    """Whether it is not empty and ends in no number that is too big."""
    return bool(name) and int(name[len(name.rstrip("0123456789")) :] or "0") < BIG


NAMES = st.tuples(PREFIXES, NUMBERS).map("".join).filter(is_a_name)
# Few prefixes and small numbers, so that neighbours continue each other, or nearly do.
NEAR = st.builds(
    lambda prefix, number, width: f"{prefix}{number:0{width}}",
    st.sampled_from(["n", "n-", "", "a1b"]), st.integers(0, 120), st.integers(1, 4),
)  # fmt: skip
RUNS = st.builds(
    lambda prefix, first, size, width: [f"{prefix}{number:0{width}}" for number in range(first, first + size)],
    st.sampled_from(["n", "n-", "", "a1b"]), st.integers(0, 1200), st.integers(1, 30), st.integers(1, 4),
)  # fmt: skip
HOSTS = st.one_of(
    st.lists(NAMES), st.lists(NEAR), st.lists(RUNS).map(lambda runs: [name for run in runs for name in run])
)

LITERALS = st.sampled_from(["", "n", "x-", ".example.org", "-", "é", "a1b", "9", "0"])
RANGES = st.builds(
    lambda low, size, width: f"{low:0{width}}-{low + size}" if size else f"{low:0{width}}",
    st.integers(0, 1200), st.integers(0, 4), st.integers(1, 5),
)  # fmt: skip
BRACKETS = st.lists(RANGES, min_size=1, max_size=3).map(lambda ranges: f"[{','.join(ranges)}]")
TERMS = st.builds(
    lambda parts, end: "".join(literal + bracket for literal, bracket in parts) + end,
    st.lists(st.tuples(LITERALS, BRACKETS), max_size=3), LITERALS,
)  # fmt: skip
HOSTLISTS = st.lists(st.tuples(TERMS, st.sampled_from([",", " ", "\t", "\n", ", ,"])).map("".join), max_size=4).map(
    "".join
)


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("", ""), (" ,\t\n", ""), ("c1", "c1"), ("login", "login"), ("c[1-3,7]", "c1 c2 c3 c7"), ("c[5]", "c5"),
        ("b,a,b", "b a b"), ("a,,b,", "a b"), (",a", "a"), ("a b\tc\nd", "a b c d"), ("n[2,1,2]", "n2 n1 n2"),
        ("n[08-10]", "n08 n09 n10"), ("n[8-010]", "n8 n9 n10"), ("n[00-0]", "n00"), ("n[099-101]", "n099 n100 n101"),
        ("n[9-11,011]", "n9 n10 n11 n011"), ("n[98-101]", "n98 n99 n100 n101"), ("[1-2]", "1 2"), ("007", "007"),
        ("gpu-[01-02]x[0-1]", "gpu-01x0 gpu-01x1 gpu-02x0 gpu-02x1"), ("[1-2][3-4]", "13 14 23 24"),
        ("[1-2][3-4][5-6]", "135 136 235 236 145 146 245 246"), ("r[1-2,2]n[1,1]", "r1n1 r1n1 r2n1 r2n1 r2n1 r2n1"),
        ("n[1-2].example.org", "n1.example.org n2.example.org"), ("a[1-2]b,c", "a1b a2b c"), ("a[1-2]3", "a13 a23"),
        ("a[1] [2]", "a1 2"), ("x,a[1-2],y,b[3],z", "x a1 a2 y b3 z"), ("-a", "-a"), ("é[1-2]}", "é1} é2}"),
        ("a;$b'", "a;$b'"), (f"n[{BIG - 1}]", f"n{BIG - 1}"), (f"n{BIG - 1}", f"n{BIG - 1}"),
        (f"n[{'0' * 5000}1]", f"n{'0' * 5000}1"),
    ],
)  # fmt: skip
def test_expand(text: str, hosts: str) -> None:
    """The hosts in Slurm's order, with their duplicates and their zeros."""
    assert expand(text) == hosts.split()
    assert count(text) == len(hosts.split())


@pytest.mark.parametrize(
    ("hosts", "text"),
    [
        ("", ""), ("login", "login"), ("n1", "n1"), ("n1 n2 n5", "n[1-2,5]"), ("n2 n1", "n[2,1]"), ("n1 n1", "n[1,1]"),
        ("a1 b1 a2", "a1,b1,a2"), ("a1 a2 b1", "a[1-2],b1"), ("a a", "a,a"), ("n n1 n2 n", "n,n[1-2],n"),
        ("n08 n09 n10", "n[08-10]"), ("n8 n9 n10", "n[8-10]"), ("n9 n010", "n[9,010]"), ("n09 n10 n11", "n[09-11]"),
        ("n99 n100", "n[99-100]"), ("n099 n100 n1000", "n[099-100,1000]"), ("n1 n02 n3", "n[1,02,3]"), ("1 2", "[1-2]"),
        ("n1x n2x", "n1x,n2x"), ("r1n1 r1n2 r2n1", "r1n[1-2],r2n1"), ("-1 -2", "-[1-2]"), ("n² n³", "n²,n³"),
        (f"n{BIG - 2} n{BIG - 1}", f"n[{BIG - 2}-{BIG - 1}]"),
    ],
)  # fmt: skip
def test_fold(hosts: str, text: str) -> None:
    """Only neighbours that continue each other are merged; nothing is sorted or dropped."""
    assert fold(hosts.split()) == text
    assert fold(iter(hosts.split())) == text


@pytest.mark.parametrize(
    ("text", "column", "found", "wanted"),
    [
        ("n[1-3", 2, "'[' without its ']'", "a closed bracket"),
        ("a,b[1-2]c[", 10, "'[' without its ']'", "a closed bracket"),
        ("n]", 2, "']' without its '['", "an opened bracket"),
        ("n[1-2]]", 7, "']' without its '['", "an opened bracket"),
        ("a],n[1]", 2, "']' without its '['", "an opened bracket"),
        ("a,n[1]x,b]", 10, "']' without its '['", "an opened bracket"),
        ("n[]", 3, "nothing", "a number, or a range such as 1-3"),
        ("n[1,,2]", 5, "nothing", "a number, or a range such as 1-3"),
        ("n[1,]", 5, "nothing", "a number, or a range such as 1-3"),
        ("n[1, 2]", 5, "' 2'", "a number, or a range such as 1-3"),
        ("n[1-]", 3, "'1-'", "a number, or a range such as 1-3"),
        ("n[-1]", 3, "'-1'", "a number, or a range such as 1-3"),
        ("n[1-2-3]", 3, "'1-2-3'", "a number, or a range such as 1-3"),
        ("n[7,+1]", 5, "'+1'", "a number, or a range such as 1-3"),
        ("n[1a-2]", 3, "'1a-2'", "a number, or a range such as 1-3"),
        ("n[[1-2]]", 3, "'[1-2'", "a number, or a range such as 1-3"),
        ("n[1_0]", 3, "'1_0'", "a number, or a range such as 1-3"),
        ("n[²]", 3, "'²'", "a number, or a range such as 1-3"),
        ("n[１-２]", 3, "'１-２'", "a number, or a range such as 1-3"),
        ("a[1-2]b[3,x]", 11, "'x'", "a number, or a range such as 1-3"),
        ("ok n[3-1]", 6, "the range 3-1", "low-high with low <= high"),
        ("n[0-65535,1-65537]", 11, "the range 1-65537", "at most 65536 hosts in a range"),
        ("a[0-65535,1]b[1]", 2, "a bracket of 65537 numbers", "at most 65536 in a bracket that another one follows"),
        (f"n[1,{BIG}]", 5, f"the number {BIG}", "numbers below 2**64 - 1"),
        (f"n[{BIG - 1}-{BIG}]", 3, f"the range {BIG - 1}-{BIG}", "numbers below 2**64 - 1"),
        (f"a,,n{BIG},b", 4, f"'n{BIG}'", "a number below 2**64 - 1"),
        ("a\0", 2, r"'\x00'", "no control character in a host name"),
        ("a,b\r\n", 4, r"'\r'", "no control character in a host name"),
        ("a\vb", 2, r"'\x0b'", "no control character in a host name"),
        ("n[1\f]", 4, r"'\x0c'", "no control character in a host name"),
    ],
)  # fmt: skip
def test_no_hostlist(text: str, column: int, found: str, wanted: str) -> None:
    """What is no hostlist is refused with its column, by expand and by count alike."""
    for read in (expand, count):
        with pytest.raises(HostlistError) as caught:
            read(text)
        error = caught.value
        assert (error.text, error.column, error.found, error.wanted) == (text, column, found, wanted)
        assert str(error) == f"hostlist {text!r}: column {column}: found {found}, wanted {wanted}"


def test_function_in_braces() -> None:
    """Braces are for slurmctld of 25.05 and later: refused, and who can expand them is said."""
    with pytest.raises(HostlistError, match=r"column 3: found '\{', wanted host names; .*scontrol show hostnames"):
        expand("a,{partition=gpu}")


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("", 1), ("a,b", 2), ("a b", 2), ("a\n", 2), ("\ta", 1), ("n[1", 2), ("n1]", 3), ("a{b", 2), ("a\0", 2),
        ("a\r", 2), (f"n{BIG}", 1), (f"n{10**30}", 1),
    ],
)  # fmt: skip
@pytest.mark.parametrize("others", [[], ["n1", "n2"]])
def test_no_name(name: str, column: int, others: list[str]) -> None:
    """A name that no hostlist can hold is refused, wherever it stands, with the column in that name."""
    with pytest.raises(HostlistError) as caught:
        fold([*others, name, *others])
    assert (caught.value.text, caught.value.column) == (name, column)


def test_fold_of_a_string() -> None:
    """A string is a hostlist already, not a list of names of one letter."""
    with pytest.raises(TypeError, match=r"fold\(expand\('n1,n2'\)\)"):
        fold("n1,n2")


def test_limit() -> None:
    """More hosts than the limit are refused with the column of the term, before they are built; count has no limit."""
    assert expand("a,b,n[1-3]", limit=5) == ["a", "b", "n1", "n2", "n3"]
    with pytest.raises(HostlistError, match="column 5: found a list that grows to 5 hosts, wanted at most 4"):
        expand("a,b,n[1-3]", limit=4)
    huge = "ok,r[0-65535]n[0-65535]"
    assert count(huge) == MAX_RANGE**2 + 1
    with pytest.raises(HostlistError, match=f"column 4: .* {MAX_RANGE**2 + 1} hosts, wanted at most {MAX_HOSTS}"):
        expand(huge)


def test_longest_range() -> None:
    """A row is cut where Slurm's longest range ends, so that it can be read back; no host is lost at the seams."""
    hosts = [f"n{number}" for number in range(2 * MAX_RANGE + 1)]
    text = fold(hosts)
    assert text == f"n[0-{MAX_RANGE - 1},{MAX_RANGE}-{2 * MAX_RANGE - 1},{2 * MAX_RANGE}]"
    assert expand(text) == hosts


@pytest.mark.parametrize("width", [1, 2, 3, 4, 6])
def test_every_number(width: int) -> None:
    """Each range between any two numbers around the hundreds is what formatting its numbers one by one gives."""
    edges = [0, 1, 9, 10, 99, 100, 101, 199, 200, 999, 1000, 1001, 10099]
    for low in edges:
        for high in (edge for edge in edges if edge >= low):
            assert expand(f"n[{low:0{width}}-{high}]") == [
                f"n{number:0{max(width, len(str(low)))}}" for number in range(low, high + 1)
            ]


@given(HOSTS)
@example(["n9", "n010", "n10", "n011"])
@example(["0", "00", "000", "1", "01"])
@example([f"n{BIG - 2}", f"n{BIG - 1}", "n0"])
def test_round_trip(hosts: list[str]) -> None:
    """Any hosts in any order come back as they were, and folding them again changes nothing."""
    text = fold(hosts)
    assert expand(text) == hosts
    assert count(text) == len(hosts)
    assert fold(expand(text)) == text


@given(HOSTLISTS)
def test_hostlist_and_back(text: str) -> None:
    """A hostlist, however it is written, has as many hosts as are counted, and folds to one of the same hosts."""
    hosts = expand(text)
    assert count(text) == len(hosts)
    assert expand(fold(hosts)) == hosts


@given(st.lists(HOSTLISTS, max_size=3))
def test_lists_of_hostlists(texts: list[str]) -> None:
    """Hostlists joined by commas are the hosts of each, one after the other."""
    assert expand(",".join(texts)) == [host for text in texts for host in expand(text)]


@given(st.one_of(st.text(), st.text("an0129[[]],,-- \t{é", max_size=16)))
def test_any_text(text: str) -> None:
    """Whatever is given, the answer is names that fold can take, or one HostlistError with a column in the text."""
    try:
        total = count(text)
    except HostlistError as error:
        refused: HostlistError | None = error
    else:
        refused = None
    if refused:
        assert 1 <= refused.column <= len(text)
        with pytest.raises(HostlistError, match=f"^{re.escape(str(refused))}$"):
            expand(text)
    elif total < 10000:
        hosts = expand(text)
        assert len(hosts) == total
        assert expand(fold(hosts)) == hosts
