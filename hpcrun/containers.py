"""Containers: the command line that runs a program inside an image, by the runtime that the site has.

Pure: words in, words out. What is filled in becomes a whole argument or a part of one, and never code of a shell.
docs/settings.md says what a site configures.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from hpcrun.config import PLACEHOLDER, Containers
from hpcrun.errors import SpecError
from hpcrun.fields import shown

Mount = tuple[str, str, bool]
"""(source, target, read only)."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_NOT_IN_MOUNTS = set(',:"\\')
"""What separates or quotes in the mount options of one runtime or another."""
_PYXIS_READS = set("$`")
"""Pyxis writes mounts into a shell script, which would carry these out."""

_STEP = (
    'exec srun --overlap --nodes=1 --ntasks=1 --nodelist="${SLURMD_NODENAME:?is not set: pyxis needs a job of Slurm}" '
    '--export=ALL --cpu-bind=none "$@"'
)
"""A step of one process on this very node, with the environment and all CPUs of the process that starts it."""


def wrapped(
    command: Sequence[str],
    *,
    image: str,
    mounts: Sequence[Mount],
    cwd: str,
    folders: Sequence[str],
    gpus: bool,
    shm: int | None,
    containers: Containers,
) -> tuple[str, ...]:
    """The command line that runs `command` inside `image`, in the directory `cwd`.

    It has the host's network and the environment that it is started with. Besides `mounts` (the spec's) and those of
    the site every one of `folders` is there, read-write and at its own path; where two want the same target, a folder
    wins over the spec and the spec over the site. `shm` is the size of /dev/shm in MiB.
    Raises SpecError where the site has no runtime, or the runtime cannot be told this image or these paths.
    """
    _check_image(image, containers)
    there = _all_mounts(mounts, folders, containers)
    if containers.runtime == "pyxis":
        return _pyxis(command, _enroot_name(image, cwd), there, cwd, gpus, containers)
    if containers.runtime == "command":
        return _templated(command, image, there, cwd, gpus, shm, containers)
    return _apptainer(command, image, there, cwd, gpus, containers)


def check_bare(mounts: Sequence[Mount]) -> None:
    """See that `mounts` hold where there is no container to make them: a folder is there, at its own path, already.

    Raises SpecError.
    """
    for source, target, read_only in mounts:
        if os.path.normpath(source) != os.path.normpath(target):
            raise SpecError(
                f"found {source} to be seen as {target} without an image; wanted an image, or {source} on both sides: "
                "without a container a folder is where it is",
                field="mounts",
            )
        if read_only:
            raise SpecError(
                f"found {source} to be read-only without an image; wanted an image, or a folder that its permissions "
                "guard",
                field="mounts",
            )


def _check_image(image: str, containers: Containers) -> None:
    if not image or image.startswith("-") or any(ord(char) < 32 or char == "\x7f" for char in image):
        raise SpecError(f"found {shown(image)}, wanted the name or path of a container image", field="image")
    if containers.runtime is None:
        raise SpecError(
            f"found the image {image!r}, and no container runtime is configured; wanted [containers] with a runtime in "
            "hpcrun.toml (docs/settings.md), or a spec without image",
            field="image",
        )


def _all_mounts(mounts: Sequence[Mount], folders: Sequence[str], containers: Containers) -> list[Mount]:
    """Every mount once, each before those below it; the root stays the image's own."""
    own = [(folder, folder, False) for folder in folders if os.path.normpath(folder) != "/"]
    by_target: dict[str, Mount] = {}
    for source, target, read_only in (*containers.mounts, *mounts, *own):
        by_target[os.path.normpath(target)] = (source, os.path.normpath(target), read_only)
    found = sorted(by_target.values(), key=lambda mount: mount[1].split("/"))
    refused = _NOT_IN_MOUNTS | (_PYXIS_READS if containers.runtime == "pyxis" else set())
    for path in (path for mount in found for path in mount[:2]):
        if any(char in refused or ord(char) < 32 or char == "\x7f" for char in path):
            raise SpecError(
                f"found the path {shown(path)}, which {containers.runtime} cannot be told to mount; wanted a path "
                f"without {' '.join(sorted(refused))} and control characters, or a spec without image",
                field="image",
            )
    return found


def _apptainer(
    command: Sequence[str], image: str, mounts: Sequence[Mount], cwd: str, gpus: bool, containers: Containers
) -> tuple[str, ...]:
    gpu = (["--nv"] if containers.gpu is None else containers.gpu) if gpus else []
    binds = [word for mount in mounts for word in ("--bind", _colons(mount))]
    named = image if _SCHEME.match(image) or _is_path(image) else f"docker://{image}"
    return (str(containers.runtime), "exec", *gpu, "--pwd", cwd, *binds, *containers.options, named, *command)


def _colons(mount: Mount) -> str:
    source, target, read_only = mount
    return f"{source}:{target}:ro" if read_only else f"{source}:{target}"


def _is_path(image: str) -> bool:
    return image.startswith(("/", "./", "../")) or image.endswith((".sif", ".sqsh"))


def _pyxis(
    command: Sequence[str], image: str, mounts: Sequence[Mount], cwd: str, gpus: bool, containers: Containers
) -> tuple[str, ...]:
    """A step of its own on this node, whose command line a shell completes with the node's name.

    Raises SpecError for the argument ``:``, at which srun takes the next component of a heterogeneous job to begin.
    """
    if ":" in command:
        raise SpecError(
            "found the argument ':', which srun takes for the end of a command; wanted another one, or a script",
            field="command",
        )
    options = [*(containers.gpu or () if gpus else ()), *containers.options]
    places = [f"--container-mounts={','.join(map(_colons, mounts))}"] if mounts else []
    entry = [] if "--container-entrypoint" in options else ["--no-container-entrypoint"]
    where = (f"--container-image={image}", f"--container-workdir={cwd}", *places, *entry)
    return ("sh", "-c", _STEP, "sh", *where, *options, "--", *command)


def _enroot_name(image: str, cwd: str) -> str:
    """`image` as enroot reads it: an absolute path, or ``[USER@][REGISTRY#]IMAGE[:TAG]``."""
    if _is_path(image):
        return os.path.normpath(os.path.join(cwd, image))
    name = image.removeprefix("docker://")
    registry, slash, rest = name.partition("/")
    host = registry.rpartition("@")[2]
    plain = not slash or _SCHEME.match(name) or "#" in name or host == "docker.io"
    return name if plain or not ("." in host or ":" in host or host == "localhost") else f"{registry}#{rest}"


def _templated(
    command: Sequence[str],
    image: str,
    mounts: Sequence[Mount],
    cwd: str,
    gpus: bool,
    shm: int | None,
    containers: Containers,
) -> tuple[str, ...]:
    """The site's own template, filled in; a word with ``{shm}`` is left out where the spec asks for none."""
    facts = {"image": image, "workdir": cwd, "shm": str(shm)}
    words: list[str] = []
    for word in containers.command:
        if word == "{mounts}":
            words += [part for mount in mounts for part in _mount_words(mount, containers)]
        elif word == "{gpu}":
            words += (containers.gpu or []) if gpus else []
        elif shm is not None or "{shm}" not in word:
            words.append(_filled(word, facts))
    return (*words, *command)


def _mount_words(mount: Mount, containers: Containers) -> list[str]:
    source, target, read_only = mount
    if read_only and not any("{mode}" in word for word in containers.mount):
        raise SpecError(
            f"found {target} to mount read-only, and the site's `mount` has no {{mode}} to say so; wanted it writable",
            field="mounts",
        )
    facts = {"source": source, "target": target, "mode": "ro" if read_only else "rw"}
    return [_filled(word, facts) for word in containers.mount]


def _filled(word: str, facts: Mapping[str, str]) -> str:
    return PLACEHOLDER.sub(lambda match: facts[match[1]], word)
