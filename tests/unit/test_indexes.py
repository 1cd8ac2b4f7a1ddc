"""Sets of indexes: text to numbers and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun.errors import IndexSetError
from hpcrun.indexes import MAX_INDEXES, fold_indexes, parse_indexes

WANTED = "an index, or a range such as 3-9 or 0-9:2"
THROTTLE = "a throttle such as %4 behind the indexes"

# Indexes, and runs of them that touch, overlap or leave a gap of one.
SETS = st.one_of(
    st.sets(st.integers(0, 10**18 - 1)),
    st.sets(st.integers(0, 40)),
    st.lists(st.tuples(st.integers(0, 300), st.integers(1, 40))).map(
        lambda runs: {index for first, size in runs for index in range(first, first + size)}
    ),
)
PARTS = st.tuples(st.integers(0, 200), st.integers(0, 50), st.integers(1, 60))


@pytest.mark.parametrize(
    ("text", "indexes"),
    [
        ("", []), ("0", [0]), ("3,17,40-44", [3, 17, 40, 41, 42, 43, 44]), ("5-5", [5]), ("7,3,5", [3, 5, 7]),
        ("1-4,2-3,4", [1, 2, 3, 4]), ("0-9:2", [0, 2, 4, 6, 8]), ("1-10:4", [1, 5, 9]), ("0-9:99", [0]),
        ("0-3:1", [0, 1, 2, 3]), ("3-5%4", [3, 4, 5]), ("0-6:3,1%1", [0, 1, 3, 6]), ("007,08", [7, 8]),
        ("999999999999999999", [10**18 - 1]), ("1%0", [1]),
    ],
)  # fmt: skip
def test_parse(text: str, indexes: list[int]) -> None:
    """Ascending, each once, whatever the order, the overlaps and the steps; a throttle changes nothing."""
    assert parse_indexes(text) == indexes


@pytest.mark.parametrize(
    ("indexes", "text"),
    [
        ([], ""), ([0], "0"), ([3, 4], "3,4"), ([3, 4, 5], "3-5"), ([1, 3, 4, 5, 7], "1,3-5,7"),
        ([7, 5, 3, 4, 1], "1,3-5,7"), ([2, 2, 1, 1], "1,2"), ([0, 1, 2, 4, 5, 7, 8, 9], "0-2,4,5,7-9"),
        ([10**30], str(10**30)),
    ],
)  # fmt: skip
def test_fold(indexes: list[int], text: str) -> None:
    """As in Kubernetes' completedIndexes: three in a row are a range, two are not; order and repeats do not matter."""
    assert fold_indexes(indexes) == text
    assert fold_indexes(iter(indexes)) == text


@pytest.mark.parametrize(
    ("text", "column", "found", "wanted"),
    [
        (",", 1, "nothing", WANTED), ("1,,2", 3, "nothing", WANTED), ("1,", 3, "nothing", WANTED),
        (",1", 1, "nothing", WANTED), ("x", 1, "'x'", WANTED), ("3,17,4x", 6, "'4x'", WANTED),
        ("1, 2", 3, "' 2'", WANTED), (" 1", 1, "' 1'", WANTED), ("1\n", 1, r"'1\n'", WANTED), ("-1", 1, "'-1'", WANTED),
        ("1-", 1, "'1-'", WANTED), ("1--2", 1, "'1--2'", WANTED), ("1-2-3", 1, "'1-2-3'", WANTED),
        ("+1", 1, "'+1'", WANTED), ("1_0", 1, "'1_0'", WANTED), ("1.0", 1, "'1.0'", WANTED),
        ("0x1", 1, "'0x1'", WANTED), ("²", 1, "'²'", WANTED), ("0,１", 3, "'１'", WANTED),
        ("[1-2]", 1, "'[1-2]'", WANTED), ("5:2", 1, "'5:2'", WANTED), ("1-9:", 1, "'1-9:'", WANTED),
        ("1-9:x", 1, "'1-9:x'", WANTED), ("1-9:-1", 1, "'1-9:-1'", WANTED), ("1-9:2:3", 1, "'1-9:2:3'", WANTED),
        ("1000000000000000000", 1, "'1000000000000000000'", WANTED),
        ("0,5-3", 3, "the range 5-3", "low-high with low <= high"),
        ("0-9:0", 1, "the range 0-9:0", "a step of 1 or more"), ("1%", 2, "'%'", THROTTLE),
        ("1%x", 2, "'%x'", THROTTLE), ("%4", 1, "'%4'", THROTTLE), ("1%4,5", 2, "'%4,5'", THROTTLE),
        ("1-2%3%4", 4, "'%3%4'", THROTTLE), ("1%-1", 2, "'%-1'", THROTTLE),
    ],
)  # fmt: skip
def test_no_index_set(text: str, column: int, found: str, wanted: str) -> None:
    """What is no index set is refused with the column of the part that is wrong."""
    with pytest.raises(IndexSetError) as caught:
        parse_indexes(text)
    error = caught.value
    assert (error.text, error.column, error.found, error.wanted) == (text, column, found, wanted)
    assert str(error) == f"index set {text!r}: column {column}: found {found}, wanted {wanted}"


@pytest.mark.parametrize("text", [f"7,0-{MAX_INDEXES - 1}", "7,0-999999999999999999", f"7,1-{10**17}:2,x"])
def test_too_many(text: str) -> None:
    """A set that grows too large is refused with the column where it does, before it is built."""
    with pytest.raises(
        IndexSetError, match=f"column 3: found a set that grows to [0-9]+ indexes, wanted at most {MAX_INDEXES}"
    ):
        parse_indexes(text)


def test_largest_set() -> None:
    """As many indexes as Slurm's largest array has are taken."""
    assert len(parse_indexes(f"0-{MAX_INDEXES - 1}")) == MAX_INDEXES


def test_negative_index() -> None:
    """There is no index below zero."""
    with pytest.raises(IndexSetError, match="found the index -2, wanted indexes from 0 up"):
        fold_indexes([3, -2])


@given(SETS)
def test_round_trip(indexes: set[int]) -> None:
    """Any set comes back as it was, ascending, and folding it again changes nothing."""
    text = fold_indexes(indexes)
    assert parse_indexes(text) == sorted(indexes)
    assert fold_indexes(parse_indexes(text)) == text


@given(st.lists(st.integers(0, 30)))
def test_order_and_repeats(indexes: list[int]) -> None:
    """The text depends on the set alone."""
    assert fold_indexes(indexes) == fold_indexes(sorted(indexes, reverse=True)) == fold_indexes(indexes + indexes)


@given(st.lists(PARTS, min_size=1, max_size=6), st.sampled_from(["", "%1", "%400"]))
def test_array_option(parts: list[tuple[int, int, int]], throttle: str) -> None:
    """Each part of an --array option selects what Python's range does."""
    text = ",".join(f"{first}-{first + size}:{step}" for first, size, step in parts) + throttle
    selected = {index for first, size, step in parts for index in range(first, first + size + 1, step)}
    assert parse_indexes(text) == sorted(selected)


@given(st.one_of(st.text(), st.text("0123459,,--:%x ", max_size=9)))
def test_any_text(text: str) -> None:
    """Whatever is given, the answer is ascending indexes or an IndexSetError with a column."""
    try:
        indexes = parse_indexes(text)
    except IndexSetError as error:
        refused: IndexSetError | None = error
    else:
        refused = None
    if refused:
        assert 1 <= refused.column <= len(text) + 1
    else:
        assert indexes == sorted(set(indexes))
