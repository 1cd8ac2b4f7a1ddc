"""Where settings are kept, and those that are plain to see there: most commands need to know no more than ``home``.

`hpcrun.config` reads, checks and names the mistakes of all of them, which takes pydantic and 0.1 s.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

SITE_FILE = "/etc/hpcrun/hpcrun.toml"
PROJECT_FILE = "hpcrun.toml"
DEFAULTS = {"home": "~/.hpcrun", "poller": "squeue"}
"""The settings that can be had at a glance."""
SETTINGS = frozenset((
    *DEFAULTS, "cluster", "node_python", "templates", "prologue", "grace", "lost_after", "check_limits", "codespecs",
    "defaults", "node_pools", "machines", "containers",
))  # fmt: skip
"""Every key that a settings file may have; the fields of `hpcrun.config.Config`."""


def at_a_glance(field: str, environ: Mapping[str, str], cwd: str) -> str | None:
    """The setting `field` that holds in the directory `cwd`.

    None where it is not plain to see: a file cannot be read, has a key that there is not, or another kind of value.
    `hpcrun.config.load` knows then, or says what is wrong.
    """
    found: object = DEFAULTS[field]
    for path in files(environ, cwd):
        values = _read(path)
        if values is None or not values.keys() <= SETTINGS:
            return None
        found = values.get(field, found)
    found = environ.get(f"HPCRUN_{field.upper()}") or found
    return found if isinstance(found, str) else None


def home_at_a_glance(environ: Mapping[str, str], cwd: str) -> str | None:
    """The setting ``home`` as an absolute path; None as `at_a_glance` has it."""
    found = at_a_glance("home", environ, cwd)
    if found is None:
        return None
    path = os.path.abspath(below_home(found, environ))
    return path if is_plain(path) else None


def _read(path: str) -> dict[str, object] | None:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except (OSError, ValueError):
        return None


def below_home(text: str, environ: Mapping[str, str]) -> str:
    """The path `text`, with a ``~`` at its beginning replaced by a home directory."""
    if text == "~" or text.startswith("~/"):
        return environ.get("HOME", os.path.expanduser("~")) + text[1:]
    return os.path.expanduser(text)


def is_plain(path: str) -> bool:
    """Whether Slurm can name `path`: it has no control characters."""
    return not any(ord(char) < 32 or char == "\x7f" for char in path)


def files(environ: Mapping[str, str], cwd: str) -> list[str]:
    """The settings files that hold in the directory `cwd`, those that win last."""
    user = environ.get("XDG_CONFIG_HOME") or below_home("~/.config", environ)
    named = environ.get("HPCRUN_CONFIG")
    candidates = [SITE_FILE, os.path.join(user, "hpcrun", "hpcrun.toml"), _nearest(cwd)]
    return [path for path in candidates if path and os.path.exists(path)] + ([named] if named else [])


def _nearest(cwd: str) -> str | None:
    folder = os.path.abspath(cwd)
    while True:
        path = os.path.join(folder, PROJECT_FILE)
        if os.path.exists(path):
            return path
        if folder == os.path.dirname(folder):
            return None
        folder = os.path.dirname(folder)
