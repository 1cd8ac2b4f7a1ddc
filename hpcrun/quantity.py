"""Amounts as people write them: memory in MiB, durations in seconds."""

from __future__ import annotations

import re

_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", re.IGNORECASE)
_MIB = {"K": 1 / 1024, "": 1, "M": 1, "G": 1024, "T": 1024 * 1024}
_DURATION = re.compile(
    r"(?:(?P<d>\d+(?:\.\d+)?)d)?(?:(?P<h>\d+(?:\.\d+)?)h)?(?:(?P<m>\d+(?:\.\d+)?)m)?(?:(?P<s>\d+(?:\.\d+)?)s?)?"
)
_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_CLOCK = re.compile(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)")


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
