"""The graph of a plan, as Mermaid text or as a drawing: what runs, and what waits for what. Pure.

Replicas of a task stand in one frame; where they are many, one node stands for all of them.
"""

from __future__ import annotations

import dataclasses
import html
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hpcrun import later
from hpcrun.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpcrun.plan import Plan, Probe, Role, Task

_APART = 8
"""Replicas of a task that are drawn one by one."""
_LETTERS = 60
"""Characters of a node's second line."""


@dataclasses.dataclass(frozen=True)
class Node:
    """A task, one replica of it, or all of them."""

    title: str
    note: str
    """What it needs and how it becomes ready, on a line of its own; empty where there is nothing to say."""
    service: bool
    """Whether what needs it starts when it is ready, and not when it has ended."""
    frame: str
    """The frame that it stands in with the other replicas; empty for none."""


@dataclasses.dataclass(frozen=True)
class Graph:
    """Nodes in the order of the plan, and from which to which there are arrows, by their places."""

    nodes: tuple[Node, ...]
    arrows: tuple[tuple[int, int], ...]


def of(plan: Plan) -> Graph:
    """The graph of what the run of `plan` starts.

    A run without tasks is one node, with another one for the workers that its job waits for.
    """
    if plan.tasks:
        return _of_tasks(plan.tasks)
    title = plan.name if plan.sweep is None else plan.sweep.task
    if plan.sweep is not None and plan.shards <= _APART:
        return Graph(tuple(Node(plan.sweep.name(at), "", False, title) for at in range(plan.shards)), ())
    if plan.sweep is not None:
        title = f"{plan.sweep.name(0)} … {plan.sweep.name(plan.shards - 1)}"
    job = Node(title, _joined(f"{plan.shards} shards" if plan.sharded else "", _gpus(plan.job.gpus)), False, "")
    if plan.worker is None:
        return Graph((job,), ())
    worker = Node(f"worker × {plan.worker.replicas}", _joined(*_endpoints(plan.worker)), True, "")
    return Graph((worker, job), ((0, 1),))


def _of_tasks(tasks: Sequence[Task]) -> Graph:
    groups: dict[str, list[Task]] = {}
    for task in tasks:
        groups.setdefault(task.of, []).append(task)
    nodes: list[Node] = []
    places: dict[str, int] = {}
    for replicas in groups.values():
        replicas.sort(key=lambda task: task.replica)
        for at, task in enumerate(replicas):
            places[task.name] = len(nodes) + (at if len(replicas) <= _APART else 0)
        nodes += _nodes(replicas)
    found = {(places[needed], places[task.name]): None for task in tasks for needed in task.needs}
    return Graph(tuple(nodes), tuple((start, end) for start, end in found if start != end))


def _nodes(replicas: Sequence[Task]) -> list[Node]:
    """The nodes of one task: one for each of its replicas, or where they are many one for all."""
    first, last, count = replicas[0], replicas[-1], len(replicas)
    chain = count > 1 and replicas[0].name in replicas[1].needs
    how = "in sequence" if chain else "in parallel"
    service = bool(first.readiness)
    ready = " and ".join(map(spelled, first.readiness))
    note = _joined(_gpus(len(first.devices) * len(first.nodes)), _spread(first), f"ready: {ready}" if ready else "")
    if count > _APART:
        return [Node(f"{first.name} … {last.name}", _joined(f"{count} {how}", note), service, "")]
    frame = f"{first.of}: {count} {how}" if count > 1 else ""
    return [Node(task.name, note, service, frame) for task in replicas]


def _gpus(count: int) -> str:
    return f"{count} GPU{'s' if count > 1 else ''}" if count else ""


def _spread(task: Task) -> str:
    return f"{len(task.nodes)} nodes" if len(task.nodes) > 1 else ""


def _endpoints(worker: Role) -> list[str]:
    ports = [f"{name} on {f'port {port}' if port else 'a free port'}" for name, port in worker.endpoints.items()]
    return [*ports, *([f"ready: {spelled(worker.readiness)}"] if worker.readiness else [])]


def _joined(*parts: str) -> str:
    text = ", ".join(part for part in parts if part)
    return text if len(text) <= _LETTERS else text[: _LETTERS - 1] + "…"


def spelled(probe: Probe) -> str:
    """A probe in a few words: ``tcp 8000``."""
    if probe.kind == "tcp_port":
        return f"tcp {probe.port}"
    if probe.kind == "log_watch":
        where = f" in the log of {probe.watched}" if probe.watched else ""
        return f"log /{probe.pattern}/{where}"
    if probe.kind == "exec":
        return later.in_words(f"exec {' '.join(probe.command)}")
    return later.in_words(f"{probe.kind.partition('_')[2]} {probe.url}")


def mermaid(graph: Graph) -> str:
    """`graph` as the text of a Mermaid flowchart. Dotted arrows start from what has only to be ready."""
    lines = ["flowchart TD"]
    frame = ""
    for place, node in enumerate(graph.nodes):
        if node.frame != frame:
            lines += ["  end"] if frame else []
            lines += [f'  subgraph frame{place}["{_quoted(node.frame)}"]'] if node.frame else []
            frame = node.frame
        opening, closing = ("([", "])") if node.service else ("[", "]")
        text = _quoted(node.title) + (f"<br/>{_quoted(node.note)}" if node.note else "")
        lines.append(f'  {"  " if frame else ""}t{place}{opening}"{text}"{closing}')
    lines += ["  end"] if frame else []
    for start, end in graph.arrows:
        arrow = "-. ready .->" if graph.nodes[start].service else "-->"
        lines.append(f"  t{start} {arrow} t{end}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Text for between quotes in Mermaid, which has codes for what it would read as its own."""
    return re.sub(r"[^\w .,:/…×-]", lambda found: f"#{ord(found[0])};", text)


def svg(graph: Graph) -> str:
    """`graph` as SVG, laid out by Graphviz.

    Raises UsageError where its library is not installed.
    """
    try:
        from pygraphviz import AGraph  # an extra, and 30 ms
    except ImportError as error:
        raise UsageError(
            "found no pygraphviz, wanted it to draw the graph: pip install 'hpcrun[graph]'; Mermaid text, `--graph` "
            "alone, needs nothing"
        ) from error
    drawing = AGraph(directed=True, rankdir="TB", nodesep="0.3", ranksep="0.45", bgcolor="white")
    drawing.node_attr.update(shape="box", style="filled", fillcolor="#f5f5f5", color="#666666", margin="0.15,0.08")
    drawing.node_attr.update(fontname="Helvetica", fontsize="12")
    drawing.edge_attr.update(color="#666666", arrowsize="0.7", fontname="Helvetica", fontsize="9")
    for place, node in enumerate(graph.nodes):
        kind = {"style": "rounded,filled", "fillcolor": "#e3f1e5"} if node.service else {}
        drawing.add_node(f"t{place}", label=_label(node), **kind)
    for frame in dict.fromkeys(node.frame for node in graph.nodes if node.frame):
        inside = [f"t{place}" for place, node in enumerate(graph.nodes) if node.frame == frame]
        drawing.add_subgraph(
            inside, name=f"cluster_{inside[0]}", label=_html(frame, 10), color="#bbbbbb", style="rounded",
            labeljust="l", fontname="Helvetica", fontsize="10",
        )  # fmt: skip
    for start, end in graph.arrows:
        ready = {"style": "dashed", "label": " ready"} if graph.nodes[start].service else {}
        drawing.add_edge(f"t{start}", f"t{end}", **ready)
    with _in_silence():
        drawn: bytes = drawing.draw(format="svg", prog="dot")
    return drawn.decode()


def _label(node: Node) -> str:
    """Title and note of a node as rows of a set height: without fonts Graphviz makes lines too low."""
    rows = [(node.title, 12), *([(node.note, 9)] if node.note else [])]
    cells = "".join(f'<tr><td height="{size + 5}">{_html(text, size)[1:-1]}</td></tr>' for text, size in rows)
    return f'<<table border="0" cellborder="0" cellspacing="0" cellpadding="0">{cells}</table>>'


def _html(text: str, size: int) -> str:
    return f'<<font point-size="{size}">{html.escape(text)}</font>>'


@contextmanager
def _in_silence() -> Iterator[None]:
    """Keep standard error from what fontconfig says there of the machine's settings, which it reads on the way."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
