"""Probes: when a process is ready, as pydantic models. The words are nv-sflow's and Kubernetes'."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

import pydantic
from pydantic import AfterValidator, BeforeValidator

from hpcrun import address, quantity
from hpcrun.expressions import OPEN
from hpcrun.fields import Source, canonical, shown
from hpcrun.later import in_words
from hpcrun.values import Command, Count, Model, Text


def _is_known(text: str) -> bool:
    """Whether `text` is what the nodes see, but for their own names: no variable or expression is to be resolved."""
    return "$(" not in text and OPEN not in text


def _port(text: str) -> str:
    if _is_known(text) and address.port(text) is None:
        raise ValueError(f"found {shown(text)}, wanted {address.PORT}, or $(NAME) for one of a variable")
    return text


def _url(text: str) -> str:
    try:
        if _is_known(text):
            address.parts(in_words(text))
    except ValueError as error:
        raise ValueError(f"found {shown(text)}, {error}") from error
    return text


Port = Annotated[Text, AfterValidator(_port)]
Url = Annotated[Text, AfterValidator(_url)]


class TcpPort(Model):
    """Passes when something accepts connections."""

    port: Port
    host: Text = "127.0.0.1"


class HttpGet(Model):
    """Passes when the answer is 2xx or 3xx."""

    url: Url
    headers: dict[str, Text] = {}


class HttpPost(HttpGet):
    """As `HttpGet`, for a request that sends `body`."""

    body: Text = ""


class LogWatch(Model):
    """Passes when the log holds `match_count` matches of a pattern, wherever in its lines."""

    regex_pattern: Text | None = None
    match_pattern: Text | None = None
    """A plain text, or ``re:PATTERN``."""
    match_count: Count = 1

    @pydantic.model_validator(mode="after")
    def _one(self) -> LogWatch:
        if (self.regex_pattern is None) == (self.match_pattern is None):
            raise ValueError("wanted one of regex_pattern and match_pattern")
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"found {shown(self.pattern)}, which is no regular expression: {error}") from error
        return self

    @property
    def pattern(self) -> str:
        """What is searched for, as a regular expression."""
        text = self.match_pattern if self.regex_pattern is None else self.regex_pattern
        prefix = next((word for word in ("re:", "regex:") if (text or "").startswith(word)), "")
        rest = (text or "")[len(prefix) :]
        return rest if prefix or self.regex_pattern is not None else re.escape(rest)


class Exec(Model):
    """Passes when the command exits with 0."""

    command: Command


KINDS = ("tcp_port", "http_get", "http_post", "log_watch", "exec")
"""Fields of a probe of which each is a check."""


class Probe(Model):
    """When a process is ready: one check, and how often it is made. The words are nv-sflow's and Kubernetes'."""

    tcp_port: TcpPort | None = None
    http_get: HttpGet | None = None
    http_post: HttpPost | None = None
    log_watch: LogWatch | None = None
    exec: Exec | None = None
    delay: Annotated[float, BeforeValidator(quantity.seconds)] = 0.0
    """Seconds before the first check."""
    interval: Annotated[float, BeforeValidator(quantity.duration)] | None = None
    """Seconds between two checks; by default 20 ms at first and 100 ms at most."""
    each_check_timeout: Annotated[float, BeforeValidator(quantity.duration)] = 5.0
    timeout: Annotated[float, BeforeValidator(quantity.duration)] | None = None
    """Seconds until it must have passed; the run's start_timeout holds as well."""
    success_threshold: Count = 1
    """How many checks in a row must pass."""

    @pydantic.model_validator(mode="after")
    def _one(self) -> Probe:
        if sum(getattr(self, kind) is not None for kind in KINDS) != 1:
            raise ValueError(f"wanted exactly one of {', '.join(KINDS[:-1])} and {KINDS[-1]}")
        return self

    @property
    def kind(self) -> str:
        """Which of `KINDS` it is."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)


class TaskTcpPort(Model):
    """Passes when something accepts connections."""

    port: Port
    host: Text | None = None
    """The task's own node by default."""
    on_node: Literal["first", "each"] = "first"
    """Whether the first of the task's nodes is asked, or each of them."""


class TaskHttpGet(HttpPost):
    """Passes when the answer is 2xx or 3xx."""


class TaskLogWatch(LogWatch):
    """Passes when a log holds `match_count` lines that match a pattern (searched for anywhere in the line)."""

    logger: Text | None = None
    """The task whose log it is; the probe's own by default."""


class TaskProbe(Probe):
    """When a task of a workflow is ready, or has failed. nv-sflow's defaults hold, but for `interval`."""

    tcp_port: TaskTcpPort | None = None  # type: ignore[assignment]  # a task may be on several nodes
    http_get: TaskHttpGet | None = None
    log_watch: TaskLogWatch | None = None
    each_check_timeout: Annotated[float, BeforeValidator(quantity.duration)] = 30.0
    timeout: Annotated[float, BeforeValidator(quantity.duration)] = 1200.0
    """Seconds until it must have passed; of no meaning for a failure."""
    failure_threshold: Count = 3
    """How many checks in a row must hit, where it is one for failure."""


_CHECKS: dict[type[Probe], dict[str, type[Model]]] = {
    Probe: {"tcp_port": TcpPort, "http_get": HttpGet, "http_post": HttpPost, "log_watch": LogWatch, "exec": Exec},
    TaskProbe: {
        "tcp_port": TaskTcpPort, "http_get": TaskHttpGet, "http_post": HttpPost, "log_watch": TaskLogWatch,
        "exec": Exec,
    },
}  # fmt: skip


def short(value: object) -> object:
    """A probe whose ``exec`` may be the list of its command alone, with that as a mapping."""
    if isinstance(value, Mapping) and "exec" in value and isinstance(value["exec"], list):
        return {**value, "exec": {"command": value["exec"]}}
    return value


def spelled(source: Source, model: type[Probe] = Probe) -> Source:
    """`source`, a probe, with every key in its one spelling. Raises SpecError for a key that there is not."""
    if isinstance(source.values.get("exec"), list):  # short for its command
        command = Source({"command": source.values["exec"]}, {(): source.place(("exec",))}, (*source.prefix, "exec"))
        source = source.replaced("exec", command)
    found = canonical(source, list(model.model_fields), {}, {})
    for name, check in _CHECKS[model].items():
        if isinstance(found.values.get(name), dict):
            found = found.replaced(name, canonical(found.inner(name), list(check.model_fields), {}, {}))
    return found


TaskProbeGiven = Annotated[TaskProbe, BeforeValidator(short)]
"""A task's probe; ``exec: [COMMAND]`` is short for ``exec: {command: [COMMAND]}``."""
