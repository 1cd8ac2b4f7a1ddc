"""Amounts of memory and time."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun import quantity


@pytest.mark.parametrize(
    ("text", "mib"),
    [
        ("8G", 8192), ("8g", 8192), ("8GB", 8192), ("8Gi", 8192), ("8GiB", 8192), ("8 GiB", 8192), ("512M", 512),
        ("512", 512), (512, 512), ("1.5G", 1536), ("2T", 2 * 1024**2), ("1K", 1), ("1025K", 2), ("0.5", 1), (" 3M ", 3),
    ],
)  # fmt: skip
def test_memory(text: str | int, mib: int) -> None:
    """As in sbatch: no unit is MiB, units are powers of 1024; parts of a MiB are rounded up."""
    assert quantity.memory(text) == mib


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90), ("90", 90), (90, 90), (1.5, 1.5),
        ("15m", 900), ("1h30m", 5400), ("2d", 172800), ("1d2h3m4s", 93784),
        ("0.5h", 1800), ("01:30:00", 5400), ("1-00:00:01", 86401), ("1H", 3600),
    ],
)  # fmt: skip
def test_duration(text: str | float, seconds: float) -> None:
    """Seconds, units in falling order, or Slurm's clock."""
    assert quantity.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "G", "8X", "-1", "1e3", "8 G G", "0", "0G", "NaN", "1,5G"])
def test_no_memory(text: str) -> None:
    """What is no amount, or nothing, is refused with what was found."""
    with pytest.raises(ValueError, match=r"found .*, wanted"):
        quantity.memory(text)


@pytest.mark.parametrize(
    "text", ["", "soon", "-1", "1m1h", "1:30", "01:30", "0", "0s", "00:00:00", "inf", "1s1", "5 m"]
)
def test_no_duration(text: str) -> None:
    """What is no duration, ambiguous, or nothing, is refused with what was found."""
    with pytest.raises(ValueError, match=r"found .*, wanted"):
        quantity.duration(text)


@given(st.integers(1, 10**12))
def test_memory_units_agree(amount: int) -> None:
    """The same amount in two units is the same memory."""
    assert quantity.memory(f"{amount}G") == quantity.memory(f"{amount * 1024}M") == amount * 1024


@given(st.integers(0, 99), st.integers(0, 999), st.integers(0, 59), st.integers(1, 59))
def test_duration_spellings_agree(days: int, hours: int, minutes: int, seconds: int) -> None:
    """A clock and units say the same."""
    clock = f"{days}-{hours}:{minutes:02d}:{seconds:02d}"
    assert quantity.duration(clock) == quantity.duration(f"{days}d{hours}h{minutes}m{seconds}s")


@given(st.text())
def test_any_text(text: str) -> None:
    """Whatever is given, the answer is a positive amount or a ValueError."""
    for read in (quantity.memory, quantity.duration):
        try:
            amount = read(text)
        except ValueError:
            continue
        assert amount > 0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 5400), ("90:30", 5430), ("1:30:00", 5400), ("01:30:05", 5405), ("2-12", 216000), ("2-12:30", 217800),
        ("2-12:30:10", 217810), ("1-00:00:00", 86400), ("0", 0), (" 5 ", 300), ("UNLIMITED", math.inf),
        ("infinite", math.inf), ("-1", math.inf),
    ],
)  # fmt: skip
def test_time_limits(text: str, seconds: float) -> None:
    """What sbatch's --time takes, and what scontrol prints of a partition."""
    assert quantity.time_limit(text) == seconds


@pytest.mark.parametrize("text", ["", "NONE", "soon", "1:2:3:4", "1-", "-5", "1.5", "2h"])
def test_what_is_no_time_limit(text: str) -> None:
    """Everything else is refused."""
    with pytest.raises(ValueError, match="wanted a time limit such as"):
        quantity.time_limit(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59.9, "59s"), (60, "1m"), (1730, "28m50s"), (3600, "1h"), (93784, "1d2h3m4s")]
)
def test_durations_are_spelled_as_they_are_read(seconds: float, text: str) -> None:
    """Whoever copies a duration from a message gets it."""
    assert quantity.spell(seconds) == text
    assert seconds < 1 or quantity.duration(text) == int(seconds)
