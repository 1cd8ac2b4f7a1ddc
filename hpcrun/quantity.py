"""Amounts as people write them: memory in MiB, durations in seconds."""

from __future__ import annotations

import math
import re

_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", re.IGNORECASE)
_MIB = {"K": 1 / 1024, "": 1, "M": 1, "G": 1024, "T": 1024 * 1024}
_DURATION = re.compile(
    r"(?:(?P<d>\d+(?:\.\d+)?)d)?(?:(?P<h>\d+(?:\.\d+)?)h)?(?:(?P<m>\d+(?:\.\d+)?)m)?(?:(?P<s>\d+(?:\.\d+)?)s?)?"
)
_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_CLOCK = re.compile(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)")
_LIMIT = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")


def memory(text: str | int | float) -> int:
    """MiB in `text`, rounded up: ``8G``, ``512M``, ``1.5GiB``, or a number of MiB.

    As in sbatch's ``--mem``, a number without a unit is MiB and K, M, G, T are powers of 1024; ``Gi`` is the same.
    Raises ValueError for anything else.
    """
    match = _MEMORY.fullmatch(str(text).strip())
    if not match:
        raise ValueError(f"found {text!r}, wanted an amount of memory such as 8G, 512M or 1.5GiB")
    mib = float(match[1]) * _MIB[match[2].upper()]
    whole = int(mib) + (mib > int(mib))
    if whole < 1:
        raise ValueError(f"found {text!r}, wanted at least 1M of memory")
    return whole


def duration(text: str | int | float) -> float:
    """Seconds in `text`: a number of seconds, ``90s``, ``15m``, ``1h30m``, ``2d``, or a clock ``[days-]HH:MM:SS``.

    Raises ValueError for anything else, and for nothing or less.
    """
    written = str(text).strip().lower()
    clock = _CLOCK.fullmatch(written)
    if clock:
        days, hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        found = float(days * 86400 + hours * 3600 + minutes * 60 + seconds)
    else:
        match = _DURATION.fullmatch(written)
        if not match or not written:
            raise ValueError(f"found {text!r}, wanted a duration such as 90s, 15m, 1h30m or 01:30:00")
        found = sum(float(match[unit]) * _SECONDS[unit] for unit in _SECONDS if match[unit])
    if found <= 0:
        raise ValueError(f"found {text!r}, wanted a duration above zero")
    return found


def seconds(text: str | int | float) -> float:
    """As `duration`, and 0 is allowed."""
    return 0.0 if str(text).strip() in ("0", "0.0", "0s") else duration(text)


def time_limit(text: str) -> float:
    """Seconds in what sbatch's ``--time`` takes and scontrol prints; infinite where there is no limit.

    ``90`` and ``90:30`` are minutes, ``1:30:00`` hours, ``2-12``, ``2-12:30`` and ``2-12:30:00`` days (man sbatch).
    Raises ValueError for anything else.
    """
    written = text.strip().upper()
    if written in ("UNLIMITED", "INFINITE", "-1"):
        return math.inf
    match = _LIMIT.fullmatch(written)
    if not match:
        raise ValueError(f"found {text!r}, wanted a time limit such as 90, 1:30:00 or 2-12:30:00")
    days, *rest = match.groups()
    parts = [int(part) for part in rest if part is not None]
    units = (3600, 60, 1) if days or len(parts) == 3 else (60, 1)
    return float(int(days or 0) * 86400 + sum(part * unit for part, unit in zip(parts, units, strict=False)))


def spell(seconds: float) -> str:
    """A duration as `duration` reads it: ``1d2h``, ``28m50s``."""
    rest, parts = math.floor(seconds), []
    for unit in ("d", "h", "m", "s"):
        count, rest = divmod(rest, _SECONDS[unit])
        parts += [f"{count}{unit}"] if count else []
    return "".join(parts) or "0s"


_KUBERNETES = re.compile(r"(\d+(?:\.\d+)?)([eE]\d+|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?")
_SCALE = {"": 1.0, "m": 1e-3, "k": 1e3} | {
    unit + i: base ** (power + 2) for i, base in (("", 1000.0), ("i", 1024.0)) for power, unit in enumerate("MGTPE")
} | {"Ki": 1024.0}  # fmt: skip


def _kubernetes(text: str | int | float, what: str) -> float:
    match = _KUBERNETES.fullmatch(str(text).strip()) if not isinstance(text, bool) else None
    if not match:
        raise ValueError(f"found {text!r}, wanted {what}")
    unit = match[2] or ""
    return float(match[1] + unit) if unit[1:].isdecimal() else float(match[1]) * _SCALE[unit]


def kubernetes_cpus(text: str | int | float) -> int:
    """Whole CPUs in a Kubernetes quantity, rounded up: ``500m`` is 1, ``1.5`` is 2.

    Raises ValueError for anything else (Kubernetes' API conventions, Quantity).
    """
    wanted = "an amount of CPUs such as 2, 0.5 or 500m"
    found = math.ceil(_kubernetes(text, wanted))
    if found < 1:
        raise ValueError(f"found {text!r}, wanted {wanted}, above zero")
    return found


def kubernetes_memory(text: str | int | float) -> int:
    """MiB in a Kubernetes quantity, rounded up: ``1Gi``, ``500M`` (powers of 1000), or a number of bytes.

    Raises ValueError for anything else.
    """
    wanted = "an amount of memory such as 1Gi, 512Mi or a number of bytes"
    found = math.ceil(_kubernetes(text, wanted) / 2**20)
    if found < 1:
        raise ValueError(f"found {text!r}, wanted {wanted}, above zero")
    return found


def kubernetes_count(text: str | int | float) -> int:
    """A whole number in a Kubernetes quantity. Raises ValueError for anything else."""
    found = _kubernetes(text, "a whole number")
    if found != int(found):
        raise ValueError(f"found {text!r}, wanted a whole number")
    return int(found)
