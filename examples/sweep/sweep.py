"""Tries every combination of codec, level and unit on Python's own source files; each shard tests a subset.

What is swept: zlib, bz2 or lzma; how hard it tries; all files as one stream, or each file by itself. What is measured:
how much smaller the data gets, and how many megabytes a second go in and come out again.

    hpcrun run examples/sweep/sweep.yaml

By itself, without hpcrun, it tries everything in one process and writes to ./results.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import platform
import sysconfig
import time
from pathlib import Path

CODECS = {"zlib": "level", "bz2": "compresslevel", "lzma": "preset"}
LEVELS = (1, 3, 6)  # above 6, xz takes 700 MB and is no better on data of this size
UNITS = ("whole", "each")


def main() -> None:
    index = int(os.environ.get("HPCRUN_SHARD_INDEX", "0"))
    shards = int(os.environ.get("HPCRUN_SHARD_COUNT", "1"))
    results = Path(os.environ.get("HPCRUN_RESULTS_DIR", "results"))

    library = Path(sysconfig.get_paths()["stdlib"])
    files = [path.read_bytes() for path in sorted(library.glob("*.py"))]
    # The codec comes first, so that a stride hands each shard a share of the slow ones.
    combinations = list(itertools.product(CODECS, LEVELS, UNITS))
    mine = [measure(*combination, files) for combination in combinations[index::shards]]

    part = {
        "shard": index,
        "shards": shards,
        "data": [platform.python_version(), len(files), sum(map(len, files))],
        "combinations": len(combinations),
        "rows": mine,
    }
    save(results / f"sweep-{index}-of-{shards}.json", part)
    print(f"shard {index} of {shards}: {len(mine)} of {len(combinations)} combinations, {best_of(mine)}")


def best_of(rows: list[dict[str, object]]) -> str:
    """The row that packs tightest, in words."""
    measured = [row for row in rows if "ratio" in row]
    if not measured:
        return "none measured"
    best = max(measured, key=lambda row: row["ratio"])
    return "the tightest {codec} {level} {unit} with {ratio:.3f}".format_map(best)


def measure(codec: str, level: int, unit: str, files: list[bytes]) -> dict[str, object]:
    """How `codec` does on `files`; only what was asked for where this Python came without the codec."""
    row: dict[str, object] = {"codec": codec, "level": level, "unit": unit}
    try:
        module = importlib.import_module(codec)
    except ImportError:
        return row
    data = [b"".join(files)] if unit == "whole" else files
    begin = time.process_time()
    packed = [module.compress(piece, **{CODECS[codec]: level}) for piece in data]
    middle = time.process_time()
    unpacked = [module.decompress(piece) for piece in packed]
    end = time.process_time()
    if unpacked != data:
        raise RuntimeError(f"{codec} at level {level} did not give back what it got")
    size = sum(map(len, data))
    megabytes = size / 1e6
    row["ratio"] = size / sum(map(len, packed))
    row["pack"], row["unpack"] = megabytes / max(middle - begin, 1e-6), megabytes / max(end - middle, 1e-6)
    return row


def save(path: Path, part: object) -> None:
    """Write the whole file or none of it: whoever reads the folder never sees half a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(part), encoding="utf-8")
    os.replace(temporary, path)


if __name__ == "__main__":
    main()
