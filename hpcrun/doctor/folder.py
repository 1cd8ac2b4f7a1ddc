"""The folder of the run folders, as the login node sees it. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from hpcrun.doctor.facts import FOLDER, Facts, Finding, Folder, State

LITTLE = 1 << 30
"""Bytes below which a folder is nearly full."""
FULL = 64 << 20
"""Bytes below which it is as good as full: the runtime alone takes a megabyte a run, and logs come on top."""
FEW = 10_000
"""Files below which a folder is nearly full: a shard leaves two."""
NO_MORE = 200
_ELSEWHERE = "export HPCRUN_HOME=/a/folder/that/nodes/share, or `home` in hpcrun.toml"


def examine(facts: Facts) -> Iterator[Finding]:
    """Every finding on it that needs no node."""
    folder = facts.folder
    if folder.error:
        yield _finding(
            "place",
            "problem",
            f"cannot write to {folder.path}: {folder.error}",
            "No run can be submitted: its folder is made there.",
            _ELSEWHERE,
        )
        return
    yield _finding("place", "ok", folder.path + (f", on {folder.kind}" if folder.kind else ""))
    yield _privacy(folder)
    yield _operations(folder)
    yield _space(folder)


def _finding(name: str, state: State, found: str, meaning: str = "", todo: str = "") -> Finding:
    return Finding(FOLDER, name, state, found, meaning, todo)


def _privacy(folder: Folder) -> Finding:
    owner = next(iter(folder.strangers.items()), None)
    if owner:
        return _finding(
            "privacy",
            "problem",
            f"{owner[0]} belongs to user {owner[1]}",
            "Its owner can replace what your jobs run.",
            _ELSEWHERE,
        )
    for path, mode in folder.modes.items():
        # With the sticky bit nobody moves what is not theirs; /tmp may stand above.
        if mode & 0o022 and not mode & 0o1000:
            return _finding(
                "privacy",
                "problem",
                f"{path} has mode {mode:04o}: {'everybody' if mode & 0o002 else 'your group'} may write there",
                "They can replace the scripts and programs that your jobs run.",
                f"chmod go-w {path}",
            )
    mode = folder.modes.get(folder.path, 0o700)
    if mode & 0o077:
        whom = "everybody" if mode & 0o007 else "your group"
        return _finding(
            "privacy",
            "problem",
            f"{folder.path} has mode {mode:04o}: open to {whom}",
            f"Run folders are made with mode 0700, so logs and environments stay closed; {whom} sees which runs there "
            "are and when, and all of a run whose folder is opened by mistake.",
            f"chmod 700 {folder.path}",
        )
    return _finding("privacy", "ok", "mode 0700: only you see your runs")


def _operations(folder: Folder) -> Finding:
    if folder.refused:
        said = "; ".join(f"{what}: {problem}" for what, problem in folder.refused.items())
        return _finding(
            "file system",
            "problem",
            f"refused here: {said}",
            "Claims and records of shards stand on these: without them a shard may run twice, or not at all.",
            _ELSEWHERE,
        )
    return _finding("file system", "ok", "hard links, exclusive creation, renaming and locks work here")


def _space(folder: Folder) -> Finding:
    free, files = folder.free, folder.files
    if free is None:
        return _finding("space", "not checked", "the file system does not tell")
    said = amount(free) + (f" and {files:,} files" if files is not None else "") + " free"
    full = free < FULL or (files is not None and files < NO_MORE)
    if full or free < LITTLE or (files is not None and files < FEW):
        return _finding(
            "space",
            "problem" if full else "note",
            said,
            "Where a disk is full, programs lose their output and shards their records. A shard leaves two files, and "
            "what its program writes.",
            f"du -sh {folder.path}; remove old runs there, or {_ELSEWHERE}",
        )
    return _finding("space", "ok", f"{said} (a quota may leave less)")


def amount(count: int) -> str:
    """``1.5 GiB`` of bytes."""
    value, units = float(count), ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")
    step = 0
    while value >= 1024 and step < len(units) - 1:
        value, step = value / 1024, step + 1
    return f"{value:.1f} {units[step]}" if step and value < 100 else f"{value:.0f} {units[step]}"
