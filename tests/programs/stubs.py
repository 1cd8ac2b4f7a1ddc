"""Runs a page's program with what the page leaves to the reader; every call leaves a line."""

import glob
import os
import runpy
import sys


def leave(line):
    path = os.path.join(os.environ["HPCRUN_RESULTS_DIR"], os.environ["HPCRUN_SHARD_INDEX"])
    with open(path, "a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def train_and_write(symbols, out):
    for symbol in symbols:
        leave(f"{symbol} {out}")


glob.glob = lambda pattern: [pattern.replace("*", str(number)) for number in range(5)]

runpy.run_path(
    sys.argv[1],
    init_globals={
        "load_universe": lambda: list("ABCDEFG"),
        "train_and_write": train_and_write,
        "data": [f"item {number}" for number in range(10)],
        "process": leave,
        "process_records": lambda start, end: leave(f"records {start} {end}"),
        "train_and_evaluate": lambda lr, batch_size: leave(f"{lr} {batch_size}"),
        "process_file": leave,
    },
)
