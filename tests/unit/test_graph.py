"""The graph of a plan: as text that Mermaid reads, as a drawing, and on the command line."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from unit.made import plan
from unit.tasked import PROBE, replicas, sweep, task, workflow

from hpcrun import graph
from hpcrun.cli import main

BENCH = workflow(
    task("server", service=True, devices=(0, 1)),
    *replicas("bench", [16, 32], "server", chain=True),
    task("report", "bench_32"),
)


def arrows(drawn: graph.Graph) -> set[tuple[str, str]]:
    """From which title to which there is an arrow."""
    return {(drawn.nodes[start].title, drawn.nodes[end].title) for start, end in drawn.arrows}


def test_mermaid() -> None:
    """A service is round, and what needs it follows on a dotted arrow; replicas stand in a frame."""
    assert graph.mermaid(graph.of(BENCH)) == (
        "flowchart TD\n"
        '  t0(["server<br/>2 GPUs, ready: tcp 8000"])\n'
        '  subgraph frame1["bench: 2 in sequence"]\n'
        '    t1["bench_16"]\n'
        '    t2["bench_32"]\n'
        "  end\n"
        '  t3["report"]\n'
        "  t0 -. ready .-> t1\n"
        "  t1 --> t2\n"
        "  t2 --> t3\n"
    )


def test_frames_do_not_leak() -> None:
    """Of two tasks with replicas, one behind the other, each has a frame of its own, and the next has none."""
    text = graph.mermaid(graph.of(workflow(*replicas("a", [1, 2]), *replicas("b", [1, 2]), task("c", "b_1", "b_2"))))
    assert text.count("subgraph") == text.count("  end\n") == 2
    assert text.index("subgraph") < text.index("  end\n") < text.rindex("subgraph") < text.rindex("  end\n")
    assert text.rindex("  end\n") < text.index('t4["c"]')


def test_many_replicas_are_one_node() -> None:
    """Ten parallel servers and a sweep of twelve after them are two nodes and one arrow."""
    servers = replicas("server", range(10), service=True)
    bench = replicas("bench", range(12), *(one.name for one in servers), chain=True)
    drawn = graph.of(workflow(*servers, *bench, task("end", bench[-1].name)))
    assert [node.title for node in drawn.nodes] == ["server_0 … server_9", "bench_0 … bench_11", "end"]
    assert drawn.nodes[0].note == "10 in parallel, ready: tcp 8000"
    assert drawn.nodes[1].note == "12 in sequence"
    assert arrows(drawn) == {
        ("server_0 … server_9", "bench_0 … bench_11"), ("bench_0 … bench_11", "end")
    }  # fmt: skip


def test_what_mermaid_would_read_as_its_own() -> None:
    """Quotes, brackets and arrows in a probe are spelt by their codes."""
    probe = dataclasses.replace(PROBE, kind="log_watch", pattern='"up" --> [#1]')
    text = graph.mermaid(graph.of(workflow(task("a", readiness=(probe,)))))
    assert '(["a<br/>ready: log /#34;up#34; --#62; #91;#35;1#93;/"])' in text


def test_runs_without_tasks() -> None:
    """A sweep shows its points, a job with workers what it waits for."""
    assert [node.title for node in graph.of(sweep("16", "32")).nodes] == ["train_16", "train_32"]
    assert [node.title for node in graph.of(sweep(*map(str, range(20)))).nodes] == ["train_0 … train_19"]
    worker = {"command": ["serve"], "endpoints": {"rpc": 8000}, "replicas": 3}
    drawn = graph.of(plan(name="recon", worker=worker))
    assert arrows(drawn) == {("worker × 3", "recon")}
    assert drawn.nodes[0].note == "rpc on port 8000"


def test_svg() -> None:
    """The drawing has a box for each node with its name in it, a frame, and an arrow for each dependency."""
    drawn = ElementTree.fromstring(graph.svg(graph.of(BENCH)))
    classes = [found.get("class") for found in drawn.iter() if found.get("class")]
    assert (classes.count("node"), classes.count("edge"), classes.count("cluster")) == (4, 3, 1)
    text = {found.text for found in drawn.iter("{http://www.w3.org/2000/svg}text")}
    assert {"server", "2 GPUs, ready: tcp 8000", "bench_16", "bench_32", "report"} <= text


def test_svg_of_hostile_text() -> None:
    """Whatever a probe looks for stands in the drawing as it is."""
    probe = dataclasses.replace(PROBE, kind="log_watch", pattern='<b>&"up"\\n')
    text = "".join(ElementTree.fromstring(graph.svg(graph.of(workflow(task("a", readiness=(probe,)))))).itertext())
    assert 'ready: log /<b>&"up"\\n/' in text


def test_svg_keeps_standard_error_clean(capfd: pytest.CaptureFixture[str]) -> None:
    """What the drawing library says of fonts reaches nobody."""
    graph.svg(graph.of(BENCH))
    assert capfd.readouterr().err == ""


def compiled(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(main, ["compile", *words], prog_name="hpcrun")
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HPCRUN_CLUSTER", "local")
    return tmp_path


def test_graph_of_the_command_line(here: Path) -> None:
    """The value of --graph may be left out, before a spec, a program, -- or other options."""
    (here / "spec.yaml").write_text("command: [train]\nname: x\n")
    text = 'flowchart TD\n  t0["x"]\n'
    assert compiled("--graph", "spec.yaml") == compiled("--graph", "mermaid", "spec.yaml") == text
    assert compiled("--graph", "-n", "x", "train", "--graph", "svg") == text
    assert compiled("-n", "x", "--graph", "--", "train") == text
    assert compiled("--graph", "svg", "spec.yaml").startswith("<?xml")
    assert compiled("-n", "--graph", "true").startswith("--graph: ")


def test_graph_into_a_file(here: Path) -> None:
    """The end of its name says which; its path is printed."""
    (here / "spec.yaml").write_text("command: [train]\n")
    assert compiled("--graph", "out.svg", "spec.yaml") == "out.svg\n"
    assert re.search(r"<svg.*</svg>", (here / "out.svg").read_text(), re.DOTALL)
    assert compiled("--graph=out.mmd", "spec.yaml") == "out.mmd\n"
    assert (here / "out.mmd").read_text().startswith("flowchart")
    assert "wanted a file that can be written (No such file" in compiled("--graph=no/x.svg", "spec.yaml", code=2)
    assert "found 'png', wanted mermaid, svg, or a file called" in compiled("--graph=png", "spec.yaml", code=2)


def test_svg_without_the_library(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says what to install, and that Mermaid needs nothing."""
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    said = compiled("--graph", "svg", "true", code=2)
    assert said == (
        "hpcrun: error: found no pygraphviz, wanted it to draw the graph: pip install 'hpcrun[graph]'; Mermaid text, "
        "`--graph` alone, needs nothing\n"
    )
    assert compiled("--graph", "true").startswith("flowchart")
