"""Which items of its data a shard gets, and as what."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun.errors import UsageError
from hpcrun.sharding import shard

TEN = list(range(10))
COUNTS = st.integers(1, 12)


def parts(data: Any, count: int, **how: Any) -> list[Any]:
    return [shard(data, index=index, count=count, **how) for index in range(count)]


def test_every_fourth() -> None:
    """Skyward 0.9's rule: strided, and contiguous where every shard is to have the same number."""
    assert parts(TEN, 4) == [[0, 4, 8], [1, 5, 9], [2, 6], [3, 7]]
    assert parts(TEN, 4, drop_last=True) == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_shuffled() -> None:
    """The order is that of Python's own generator with this seed, the same in every shard."""
    import random

    order = list(range(10))
    random.Random(7).shuffle(order)
    assert parts(TEN, 4, shuffle=True, seed=7) == [order[index::4] for index in range(4)]
    assert parts(TEN, 2, shuffle=True, seed=7, drop_last=True) == [order[:5], order[5:]]
    assert parts(TEN, 4, shuffle=True) != parts(TEN, 4, shuffle=True, seed=1)


@given(st.lists(st.integers(), max_size=60), COUNTS, st.booleans(), st.integers(0, 2**70))
def test_every_item_once(data: list[int], count: int, shuffle: bool, seed: int) -> None:
    """Together the shards have every item once, and none has two more than another."""
    found = parts(list(enumerate(data)), count, shuffle=shuffle, seed=seed)
    assert sorted(item for part in found for item in part) == list(enumerate(data))
    assert max(map(len, found)) - min(map(len, found)) <= 1


@given(st.integers(0, 60), COUNTS, st.booleans())
def test_the_same_number_each(length: int, count: int, shuffle: bool) -> None:
    """With drop_last all have as many, no item is there twice, and fewer are missing than there are shards."""
    found = parts(range(length), count, shuffle=shuffle, drop_last=True)
    assert {len(part) for part in found} == {length // count}
    items = [item for part in found for item in part]
    assert len(set(items)) == len(items) > length - count


@given(st.integers(0, 30), COUNTS, st.booleans(), st.booleans())
def test_every_type_alike(length: int, count: int, shuffle: bool, drop_last: bool) -> None:
    """Whatever holds the items, a shard gets the same ones."""
    how = {"shuffle": shuffle, "drop_last": drop_last}
    found = parts(list(range(length)), count, **how)
    for data in (tuple(range(length)), range(length), np.arange(length), Frame(list(range(length)))):
        assert [list(part) for part in parts(data, count, **how)] == found


class Tensor:
    """Takes what a torch tensor takes: slices that go forward, and lists of numbers that are not empty."""

    def __init__(self, items: list[Any]) -> None:
        self.items, self.shape = items, (len(items), 1)

    def __getitem__(self, what: Any) -> Tensor:
        if isinstance(what, slice):
            assert 0 <= what.start <= what.stop
            return Tensor(self.items[what])
        assert isinstance(what, list)
        assert what
        return Tensor([self.items[at] for at in what])


class Frame(collections.UserList[Any]):
    """As a table of pandas: what has a number is found by ``iloc``, other subscripts are names of columns."""

    shape = (0, 0)

    @property
    def iloc(self) -> Any:
        return _Rows(self)


class _Rows:
    def __init__(self, frame: Frame) -> None:
        self.frame = frame

    def __getitem__(self, what: Any) -> Frame:
        rows = self.frame.data
        return Frame(rows[what] if isinstance(what, slice) else [rows[at] for at in what])


@pytest.mark.parametrize("shuffle", [False, True])
def test_types_are_kept(shuffle: bool) -> None:
    """A shard of a list is a list, of a tuple a tuple, of a tensor a tensor, also when there is nothing in it."""
    for data in (TEN, tuple(TEN), np.arange(10.0), Tensor(TEN), Frame(TEN)):
        for index in (1, 11):
            assert type(shard(data, index=index, count=12, shuffle=shuffle)) is type(data)
    assert shard(range(10), index=1, count=4) == range(1, 10, 4)
    assert type(shard(range(10), index=1, count=4, shuffle=True)) is list
    assert type(shard(collections.deque(TEN), index=1, count=4, shuffle=shuffle)) is list


def test_arrays_along_the_first_axis() -> None:
    """Rows stay whole, and so does the type of their items."""
    rows = np.arange(12, dtype=np.int16).reshape(6, 2)
    assert shard(rows, index=1, count=3).tolist() == [[2, 3], [8, 9]]
    part = shard(rows, index=5, count=7, shuffle=True)
    assert (part.shape, part.dtype) == ((1, 2), np.dtype(np.int16))
    nothing = shard(rows, index=6, count=7, shuffle=True)
    assert (nothing.shape, nothing.dtype) == ((0, 2), np.dtype(np.int16))


def test_several() -> None:
    """What belongs together stays together."""
    names, rows = [f"n{number}" for number in TEN], np.arange(10)
    mine, my_rows, more = shard(names, rows, tuple(TEN), index=2, count=3, shuffle=True)
    assert mine == [f"n{number}" for number in my_rows] == [f"n{number}" for number in more]
    with pytest.raises(UsageError, match="found data of 10, 3 items, wanted the same number in each"):
        shard(TEN, [1, 2, 3])


def test_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without index and count it is the shard that this process is; outside of a run, all of it."""
    assert shard(TEN) == TEN
    monkeypatch.setenv("HPCRUN_SHARD_INDEX", "1")
    monkeypatch.setenv("HPCRUN_SHARD_COUNT", "4")
    assert shard(TEN) == [1, 5, 9]
    assert shard(TEN, index=0, count=5) == [0, 5]


class Rows:
    """What counts of a data set of Hugging Face: a shape, rows by `select`, and columns where it is indexed."""

    __module__ = "datasets.arrow_dataset"

    def __init__(self, rows: list[int]) -> None:
        self.rows = rows
        self.shape, self.num_rows = (len(rows), 1), len(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: slice) -> dict[str, list[int]]:
        return {"column": self.rows[key]}

    def select(self, numbers: Sequence[int]) -> Rows:
        return Rows([self.rows[number] for number in numbers])


class Splits(dict[str, Rows]):
    """A dictionary of such data sets."""

    __module__ = "datasets.dataset_dict"
    shape = property(lambda self: {name: rows.shape for name, rows in self.items()})


class Stream:
    """One of which nobody knows the length."""

    __module__ = "datasets.iterable_dataset"


def test_of_hugging_face() -> None:
    """A data set stays one, and is divided as a list is."""
    names = [chr(97 + number) for number in TEN]
    mine, my_names = shard(Rows(TEN), names, index=1, count=3, shuffle=True)
    assert isinstance(mine, Rows)
    assert [names[row] for row in mine.rows] == my_names
    assert shard(Rows(TEN), index=3, count=4).rows == [3, 7]
    assert shard(Rows(TEN), index=1, count=4, drop_last=True).rows == [2, 3]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ((Splits(train=Rows(TEN)),), 'shard(data["train"])'),
        ((Stream(),), "data.shard(num_shards=here.count, index=here.index)"),
        ((), "found no data"), ((iter(TEN),), "shard(list(data))"), (({1: 2},), "shard(sorted(data)) is a part of its"),
        (({1, 2},), "another order in every process"), (("train.txt",), "found data of type str"),
        ((b"12",), "found data of type bytes"),
        ((np.array(1),), "data of type ndarray and no dimensions"), ((3,), "it has no items"),
        ((type("Images", (), {"__len__": lambda self: 3})(),), "shard(range(len(data)))"),
    ],
)  # fmt: skip
def test_what_has_no_parts(data: tuple[Any, ...], said: str) -> None:
    """What has no length or no order is refused, with what to do instead."""
    with pytest.raises(UsageError) as caught:
        shard(*data)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "how", [{"index": 1}, {"count": 2}, {"index": 2, "count": 2}, {"index": -1, "count": 2}, {"index": 0, "count": 0},
            {"index": 0.0, "count": 2}, {"shuffle": True, "seed": None}],
)  # fmt: skip
def test_no_such_shard(how: dict[str, Any]) -> None:
    """An index without a count, one that is none of them, or a seed that would differ between shards is refused."""
    with pytest.raises(UsageError, match="wanted"):
        shard(TEN, **how)
