"""This shard's part of data that every shard has, by the rule of Skyward 0.9: every count-th item."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence, Set
from typing import Any, TypeVar, overload

from hpcrun.errors import UsageError
from hpcrun.here import current

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")


@overload
def shard(
    data: A, /, *, shuffle: bool = ..., seed: int = ..., drop_last: bool = ..., index: int | None = ...,
    count: int | None = ...,
) -> A: ...  # fmt: skip
@overload
def shard(
    data: A, second: B, /, *, shuffle: bool = ..., seed: int = ..., drop_last: bool = ..., index: int | None = ...,
    count: int | None = ...,
) -> tuple[A, B]: ...  # fmt: skip
@overload
def shard(
    data: A, second: B, third: C, /, *, shuffle: bool = ..., seed: int = ..., drop_last: bool = ...,
    index: int | None = ..., count: int | None = ...,
) -> tuple[A, B, C]: ...  # fmt: skip
@overload
def shard(
    *data: Any, shuffle: bool = ..., seed: int = ..., drop_last: bool = ..., index: int | None = ...,
    count: int | None = ...,
) -> Any: ...  # fmt: skip


def shard(
    *data: Any,
    shuffle: bool = False,
    seed: int = 0,
    drop_last: bool = False,
    index: int | None = None,
    count: int | None = None,
) -> Any:
    """The items of `data` that are this shard's: ``index``, ``index + count``, ``index + 2 * count`` and so on.

    `shuffle` shuffles first, by `seed` and in the same way in every shard. `drop_last` gives every shard the same
    number of items, as one block, and leaves up to ``count - 1`` items out. `index` and `count` are those of
    `hpcrun.current`, 0 of 1 outside of a run, unless both are given.

    Lists, tuples, numpy arrays, torch tensors (both along their first axis), what pandas has and the data sets of
    Hugging Face keep their type, and so does a range that is not shuffled; other sequences become lists. Of numpy,
    torch and pandas parts that are not shuffled share the memory of the whole. Several data are sharded alike, and the
    answer is a tuple.

    Raises UsageError for data of different lengths, and for what has no length or no order.
    """
    if not data:
        raise UsageError("shard(): found no data, wanted a list, a tuple, an array or several of these")
    mine, of = _which(index, count)
    lengths = [_length(part) for part in data]
    if len(set(lengths)) > 1:
        raise UsageError(
            f"shard(): found data of {', '.join(map(str, lengths))} items, wanted the same number in each, for "
            "item i of one belongs to item i of the others; shard what does not belong together in calls of its own"
        )
    picked = _picked(_order(lengths[0], shuffle, seed), mine, of, drop_last)
    parts = tuple(_taken(part, picked) for part in data)
    return parts[0] if len(parts) == 1 else parts


def _which(index: int | None, count: int | None) -> tuple[int, int]:
    if index is None and count is None:
        here = current()
        return here.index, here.count
    if index is None or count is None:
        raise UsageError(f"shard(): found index={index!r} and count={count!r}, wanted both or neither")
    mine, of = _whole("index", index), _whole("count", count)
    if not 0 <= mine < of:
        raise UsageError(f"shard(): found index={mine} and count={of}, wanted an index from 0 to below the count")
    return mine, of


def _whole(name: str, value: int) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise UsageError(f"shard(): found {name}={value!r}, wanted a whole number") from None


def _order(length: int, shuffle: bool, seed: int) -> range | list[int]:
    if not shuffle:
        return range(length)
    import random  # it loads hashlib

    order = list(range(length))
    random.Random(_whole("seed", seed)).shuffle(order)
    return order


def _picked(order: range | list[int], index: int, count: int, drop_last: bool) -> range | list[int]:
    if not drop_last:
        return order[index::count]
    size = len(order) // count
    return order[index * size : (index + 1) * size]


def _length(data: Any) -> int:
    """How many items `data` has. Raises UsageError where it cannot be sharded."""
    if _is_of_hugging_face(data):
        return len(data)
    shape = getattr(data, "shape", None)
    if shape is not None and not hasattr(data, "iloc") and not isinstance(data, Mapping):
        if len(shape) == 0:
            raise UsageError(f"shard(): found {_kind(data)} and no dimensions, wanted one dimension or more")
        return int(shape[0])  # len() of a sparse matrix is an error
    if isinstance(data, (str, bytes, bytearray)):
        raise UsageError(
            f"shard(): found {_kind(data)}, wanted a list of things; shard(list(text)) is every count-th of its "
            "characters"
        )
    if isinstance(data, Sequence) or hasattr(data, "iloc"):
        return len(data)
    raise UsageError(f"shard(): found {_kind(data)}, wanted a list, a tuple or an array; {_instead(data)}")


def _is_of_hugging_face(data: Any) -> bool:
    """Whether `data` is a data set of Hugging Face, which has a shape and an order, and is indexed by columns too."""
    has_rows = hasattr(data, "select") and hasattr(data, "num_rows") and not isinstance(data, Mapping)
    return has_rows and _is_named(data, "datasets")


def _is_named(data: Any, package: str) -> bool:
    """Whether the class of `data` is of the package called so, which need not be there."""
    return type(data).__module__.partition(".")[0] == package


def _instead(data: Any) -> str:
    if _is_named(data, "datasets"):
        if isinstance(data, Mapping):
            return 'each of its splits is a data set: shard(data["train"])'
        return "it is read as a stream: data.shard(num_shards=here.count, index=here.index), with here = current()"
    if isinstance(data, Mapping):
        return "shard(sorted(data)) is a part of its keys"
    if isinstance(data, Set):
        return "a set has another order in every process, shard(sorted(data)) has not"
    if hasattr(data, "__len__"):
        return "shard(range(len(data))) is the numbers of this shard's items"
    if hasattr(data, "__iter__"):
        return "it has no length: shard(list(data)) reads all of it in every shard"
    return "it has no items"


def _taken(data: Any, picked: range | list[int]) -> Any:
    """The items of `data` with the numbers `picked`, as the type of `data`."""
    if _is_of_hugging_face(data):
        return data.select(picked)
    if hasattr(data, "iloc"):
        return data.iloc[_subscript(picked)]
    if hasattr(data, "shape"):
        return data[_subscript(picked)]
    if isinstance(data, (list, tuple, range)) and isinstance(picked, range):
        return data[picked.start : picked.stop : picked.step]
    items = [data[at] for at in picked]
    return tuple(items) if isinstance(data, tuple) else items


def _subscript(picked: range | list[int]) -> slice | list[int]:
    """What takes the numbers `picked` along a first axis; an empty list has no type that an array could go by."""
    if isinstance(picked, range):
        return slice(picked.start, picked.stop, picked.step)
    return picked or slice(0, 0)


def _kind(data: Any) -> str:
    return f"data of type {type(data).__name__}"
