"""Named codespecs: versioned and immutable, one file a version, in a folder that a group may share.

    <registry>/<name>/<n>.yaml      version n, from 1, in the one spelling of every field; linked once, never rewritten

A version is written under a name of its own and linked to its number. That fails where somebody else was first, so two
who create at once get a version each. Who reads a version did not write it: it is checked each time.
docs/codespecs.md is the reference.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import io
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from hpcrun import codespec, specfile
from hpcrun.codespec import Codespec
from hpcrun.config import Config
from hpcrun.errors import SpecError, UsageError
from hpcrun.fields import Source, shown, suggestion

_FILE = re.compile(r"([1-9][0-9]{0,8})\.yaml")
_LONGEST = 2**20
"""Characters of a version; more is no codespec that anybody wrote."""
_REFERENCES = ((("codespec",), "job"), (("worker", "codespec"), "worker"))
"""Where a run's spec may name a codespec, and of which kind that has to be."""


@dataclasses.dataclass(frozen=True)
class Found:
    """One version of a named codespec: its values as their author wrote them, and what they mean."""

    name: str
    version: int
    source: Source
    codespec: Codespec

    @property
    def reference(self) -> str:
        """What names this version and no other."""
        return f"{self.name}/versions/{self.version}"


def folder(config: Config) -> str:
    """Where named codespecs are kept: the setting `codespecs`, else a folder in `home`."""
    return os.path.abspath(os.path.expanduser(config.codespecs) or os.path.join(config.home, "codespecs"))


def create(registry: str, name: str, source: Source) -> int:
    """Keep the codespec `source` as `name`; its version: the latest one where that says the same, else a new one.

    Raises SpecError for a name or codespec that cannot be used, UsageError where the registry cannot be written.
    """
    _check_name(name)
    spelled = codespec.spelled(source)
    made = codespec.checked(spelled)
    text = as_yaml(_normal(spelled.values, made.kind))
    if len(text) > _LONGEST:
        raise spelled.error((), f"found a codespec of {len(text)} characters, wanted {_LONGEST} at most")
    newest = _newest(registry, name)
    while not _same(registry, name, newest, made):
        if _linked(_path(registry, name, newest + 1), text):
            return newest + 1
        newest = max(_newest(registry, name), newest + 1)  # NFS may list a folder as it was a while ago
    return newest


def read(registry: str, name: str, version: int | None = None) -> Found:
    """The version of the codespec `name`, by default its latest.

    Raises SpecError where there is none, and with the file's name where it cannot be read or is no codespec.
    """
    _check_name(name)
    there = versions(registry, name)
    if not there:
        raise SpecError(_no_name(registry, name))
    if version is not None and version not in there:
        known = str(there[0]) if len(there) == 1 else f"{there[0]} to {there[-1]}"
        raise SpecError(
            f"found no version {version} of the codespec {name!r} in {registry}, wanted {known}; "
            f"`hpcrun codespec list` shows the latest ones"
        )
    number = there[-1] if version is None else version
    spelled = codespec.spelled(_parsed(_path(registry, name, number)))
    made = codespec.checked(spelled)
    source = Source({"kind": made.kind, **spelled.values}, spelled.places, spelled.prefix)
    return Found(name, number, source, made)


def latest(registry: str, prefix: str = "") -> list[tuple[str, int]]:
    """Every codespec whose name starts with `prefix`, alphabetically, with its latest version.

    Raises SpecError where the registry cannot be read.
    """
    names = [name for name in _names(registry) if name.startswith(prefix)]
    return [(name, newest) for name in names if (newest := _newest(registry, name))]


def versions(registry: str, name: str) -> list[int]:
    """The versions of the codespec `name`, ascending; none where there is no such codespec.

    Raises SpecError where its folder cannot be read.
    """
    found = map(_FILE.fullmatch, _entries(os.path.join(registry, name)))
    return sorted(int(match[1]) for match in found if match)


def pinned(source: Source, registry: str) -> tuple[Source, dict[str, Codespec]]:
    """`source`, a run's spec spelled already, naming versions of codespecs only; and these codespecs by reference.

    Raises SpecError at the field for a codespec that there is not, or of the wrong kind.
    """
    models: dict[str, Codespec] = {}
    for path, kind in (*_REFERENCES, *_of_tasks(source.values)):
        text = _named(source.values, path)
        if text is None:
            continue
        found = _resolved(source, path, text, registry)
        if found.codespec.kind != kind:
            problem = f"found a codespec of kind {found.codespec.kind}, wanted one of kind {kind} here"
            raise source.error(path, problem)
        models[found.reference] = found.codespec
        source = source.under(Source(specfile.at(path, found.reference, "").values, {}))
    return source, models


def _of_tasks(values: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Where the tasks of a workflow may name a codespec."""
    workflow = values.get("workflow")
    tasks = workflow.get("tasks") if isinstance(workflow, dict) else None
    for name in tasks if isinstance(tasks, dict) else ():
        yield ("workflow", "tasks", name, "codespec"), "job"


def _named(values: Mapping[str, Any], path: tuple[str, ...]) -> str | None:
    found: Any = values
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, str) else None


def _resolved(source: Source, path: tuple[str, ...], text: str, registry: str) -> Found:
    try:
        name, version = codespec.reference(text)
        return read(registry, name, version)
    except ValueError as error:
        raise source.error(path, str(error)) from error
    except SpecError as error:
        if error.file:
            raise
        raise source.error(path, error.problem) from error


def _check_name(name: str) -> None:
    if not codespec.NAME.fullmatch(name):
        raise SpecError(
            "codespec names must contain only lower case letters (a-z), numbers (0-9), dashes (-), underscores (_), "
            f"and dots (.); found {shown(name)}"
        )
    if name in (".", ".."):
        raise SpecError(f"found {name!r}, which is a folder's own name; wanted another one")
    if len(name) > 200:
        raise SpecError(f"found a name of {len(name)} characters, wanted 200 at most")


def _no_name(registry: str, name: str) -> str:
    names = [known for known, _ in latest(registry)]
    if not names:
        return f"found no codespec {name!r}; there are none in {registry} yet, `hpcrun codespec create` makes one"
    near = suggestion(name, names)
    return f"found no codespec {name!r} in {registry}.{near} `hpcrun codespec list` shows the ones there are"


def _names(registry: str) -> list[str]:
    return sorted(name for name in _entries(registry) if codespec.NAME.fullmatch(name))


def _entries(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise SpecError(f"cannot read the codespecs: {error.strerror}", file=path) from error


def _newest(registry: str, name: str) -> int:
    return max(versions(registry, name), default=0)


def _path(registry: str, name: str, version: int) -> str:
    return os.path.join(registry, name, f"{version}.yaml")


def _normal(values: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The fields that say something, in the order of the reference."""
    named = {"kind": kind, **values}
    order = dict.fromkeys(["kind", *Codespec.model_fields])  # the kind is what a reader wants to know first
    return {field: named[field] for field in order if not _says_nothing(named.get(field))}


def _says_nothing(value: object) -> bool:
    return value is None or value in ("", [], {})


def _same(registry: str, name: str, version: int, made: Codespec) -> bool:
    """Whether that version says what `made` says; one that cannot be read does not, so that a new one replaces it."""
    try:
        return _meaning(read(registry, name, version).codespec) == _meaning(made)
    except SpecError:
        return False


def _meaning(made: Codespec) -> dict[str, Any]:
    """What two codespecs have in common that say the same: no defaults, and no order where none is meant."""
    said = made.model_dump(exclude_defaults=True)
    values = {field: value for field, value in said.items() if not _says_nothing(value)}
    values["mounts"] = sorted(made.mounts)
    if any("$(" in text for text in made.env.values()):  # each may refer to those before it
        values["env"] = list(made.env.items())
    return values


def as_yaml(values: Mapping[str, Any]) -> str:
    """`values` as YAML, in their order and without aliases."""
    from ruamel.yaml import YAML  # which most runs do without

    out = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.allow_unicode = False
    yaml.width = sys.maxsize
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.representer.ignore_aliases = lambda _data: True
    yaml.dump(dict(values), out)
    return out.getvalue()


def _linked(path: str, text: str) -> bool:
    """Make the file `path` with all of `text` in it; False where there is one already.

    Raises UsageError where it cannot be made.
    """
    parent = os.path.dirname(path)
    try:
        os.makedirs(parent, exist_ok=True)  # with the rights that the umask and a setgid folder above give
        temporary = os.path.join(parent, f".{os.path.basename(path)}.{secrets.token_hex(8)}")
        try:
            _write(temporary, text)
            os.link(temporary, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
    except FileExistsError:
        return False
    except OSError as error:
        where = error.filename or parent
        raise UsageError(
            f"{where}: cannot write the codespec: {error.strerror}; HPCRUN_CODESPECS (or `codespecs` in hpcrun.toml) "
            "chooses another place, and a folder that a group shares has to be writable for it"
        ) from error
    _sync(parent)
    _sync(os.path.dirname(parent))
    return True


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync(path: str) -> None:
    """Bring the entries of a folder to the disk, where the file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _parsed(path: str) -> Source:
    """The values of a version's file, which somebody else may have written."""
    try:
        with open(path, encoding="utf-8", opener=_plain_file) as file:
            text = file.read(_LONGEST + 1)
    except OSError as error:
        raise SpecError(f"cannot read the codespec: {error.strerror}", file=path) from error
    except UnicodeDecodeError as error:
        raise SpecError("found bytes that are not UTF-8, wanted a codespec", file=path) from error
    if len(text) > _LONGEST:
        raise SpecError(f"found more than {_LONGEST} characters, wanted a codespec", file=path)
    if "*" in text and _has_aliases(text):
        raise SpecError("found a YAML alias, wanted a codespec as `hpcrun codespec create` writes it", file=path)
    return specfile.parse(text, path)


def _plain_file(path: str, flags: int) -> int:
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "found a symbolic link, wanted a file") from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "found something else than a file")
    return descriptor


def _has_aliases(text: str) -> bool:
    """Whether aliases stand in `text`: a few lines of them make gigabytes. What is no YAML at all has none."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError
    from ruamel.yaml.events import AliasEvent

    try:
        return any(isinstance(event, AliasEvent) for event in YAML(typ="safe", pure=True).parse(text))
    except (YAMLError, ValueError, RecursionError):
        return False
