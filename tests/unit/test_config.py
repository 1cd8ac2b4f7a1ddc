"""Settings: which file wins, what holds without any, and what they mean."""

from __future__ import annotations

from pathlib import Path

import pytest
from unit.made import plan

from hpcrun import config, settings_files
from hpcrun.errors import ConfigError


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Path]:
    """Where the files of site, user and project are; none is there yet."""
    (tmp_path / "project" / "below").mkdir(parents=True)
    (tmp_path / "home" / ".config" / "hpcrun").mkdir(parents=True)
    monkeypatch.setattr(settings_files, "SITE_FILE", str(tmp_path / "site.toml"))
    return {
        "site": tmp_path / "site.toml",
        "user": tmp_path / "home" / ".config" / "hpcrun" / "hpcrun.toml",
        "project": tmp_path / "project" / "hpcrun.toml",
    }


def load(tmp_path: Path, **environ: str) -> config.Config:
    return config.load({"HOME": str(tmp_path / "home"), **environ}, str(tmp_path / "project" / "below"))


def test_without_any(files: dict[str, Path], tmp_path: Path) -> None:
    """Without files and variables: run folders under HOME, the cluster found out, Sylphx's machines, no pools."""
    found = load(tmp_path)
    assert found.home == str(tmp_path / "home" / ".hpcrun")
    assert (found.cluster, found.node_python, found.grace, found.node_pools) == ("auto", "python3", 10.0, {})
    assert found.machines == config.TIERS


def test_who_wins(files: dict[str, Path], tmp_path: Path) -> None:
    """Site, user, project, then HPCRUN_CONFIG's file, then the environment; each wins over those before it."""
    said = []
    for name, path in {**files, "named": tmp_path / "named.toml"}.items():
        path.write_text(f'node_python = "/{name}"\n')
        environ = {"HPCRUN_CONFIG": str(path)} if name == "named" else {}
        said.append(load(tmp_path, **environ).node_python)
    said.append(load(tmp_path, HPCRUN_CONFIG=str(tmp_path / "named.toml"), HPCRUN_NODE_PYTHON="/variable").node_python)
    assert said == ["/site", "/user", "/project", "/named", "/variable"]


SEEN = [
    ("", "", "{home}/.hpcrun"),
    ('home = "/site"', "", "/site"),
    ('home = "/site"', 'home = "~/runs"\n[machines.nano]\ncpus = 2', "{home}/runs"),
    ("grace = 5", 'cluster = "local"', "{home}/.hpcrun"),
    ('home = "/site"\n[defaults]\ncpus = "many"', "", "/site"),  # of no matter to who asks where runs are
]
NOT_SEEN = ['hoem = "/site"', "home = 3", "home =", 'home = "/a\\nb"', 'Home = "/site"']


@pytest.mark.parametrize(("site", "project", "wanted"), SEEN)
def test_home_at_a_glance(files: dict[str, Path], tmp_path: Path, site: str, project: str, wanted: str) -> None:
    """Most commands ask for nothing else: the same as when all settings are read, without reading them."""
    files["site"].write_text(site)
    files["project"].write_text(project)
    environ = {"HOME": str(tmp_path / "home")}
    cwd = str(tmp_path / "project" / "below")
    assert settings_files.home_at_a_glance(environ, cwd) == wanted.format(home=tmp_path / "home") == load(tmp_path).home
    assert settings_files.home_at_a_glance({**environ, "HPCRUN_HOME": "/other"}, cwd) == "/other"


@pytest.mark.parametrize("text", NOT_SEEN)
def test_mistakes_are_not_overlooked(files: dict[str, Path], tmp_path: Path, text: str) -> None:
    """Whatever is not plain is left to who reads all settings, and says what is wrong with them."""
    files["site"].write_text(text)
    environ, cwd = {"HOME": str(tmp_path / "home")}, str(tmp_path)
    assert settings_files.home_at_a_glance(environ, cwd) is None


def test_every_setting_is_known_by_name() -> None:
    """The names that a glance takes for settings are those there are."""
    assert set(config.Config.model_fields) - {"places"} == settings_files.SETTINGS


def test_tables_are_merged(files: dict[str, Path], tmp_path: Path) -> None:
    """A project adds pools to the site's and changes one key of a pool without losing the others."""
    files["site"].write_text('[node_pools.gpu]\npartition = "g"\nqos = "normal"\n[node_pools.big]\npartition = "b"\n')
    files["project"].write_text('[node_pools.gpu]\nqos = "high"\n[machines.nano]\ncpus = 2\n')
    found = load(tmp_path)
    assert found.node_pools == {
        "gpu": config.NodePool(partition="g", qos="high"), "big": config.NodePool(partition="b")
    }  # fmt: skip
    assert found.machines["nano"] == config.Machine(cpus=2)
    assert found.machines["2xlarge"] == config.Machine(cpus=8, memory=16384)


def test_xdg(files: dict[str, Path], tmp_path: Path) -> None:
    """XDG_CONFIG_HOME says where the user's file is."""
    files["user"].write_text("grace = 1\n")
    (tmp_path / "xdg" / "hpcrun").mkdir(parents=True)
    (tmp_path / "xdg" / "hpcrun" / "hpcrun.toml").write_text("grace = 2\n")
    assert load(tmp_path, XDG_CONFIG_HOME=str(tmp_path / "xdg")).grace == 2.0


def test_empty_variable(files: dict[str, Path], tmp_path: Path) -> None:
    """A variable that is set to nothing is not set."""
    assert load(tmp_path, HPCRUN_CLUSTER="", HPCRUN_HOME="").cluster == "auto"


@pytest.mark.parametrize(("given", "home"), [("~/x", "{home}/x"), ("~", "{home}"), ("/a/../b", "/b")])
def test_home(files: dict[str, Path], tmp_path: Path, given: str, home: str) -> None:
    """home is an absolute path; ~ is HOME."""
    assert load(tmp_path, HPCRUN_HOME=given).home == home.format(home=tmp_path / "home")


def test_defaults_of_specs(files: dict[str, Path], tmp_path: Path) -> None:
    """[defaults] may use any spelling, and knows where each stands."""
    files["user"].write_text('[defaults]\nmem = "4G"\n\n[defaults.sbatch]\nqos = "high"\n')
    found = load(tmp_path).default_fields()
    assert found.values == {"memory": "4G", "sbatch": {"qos": "high"}}
    assert (found.place(("memory",)).line, found.place(("sbatch", "qos")).line) == (2, 5)


def test_prologue_of_site_and_spec() -> None:
    """The site's prologue runs before the spec's own."""
    made = plan(config=config.Config(prologue="module load x"), prologue="set -u")
    assert made.prologue == "module load x\nset -u"


def test_facts(files: dict[str, Path], tmp_path: Path) -> None:
    """An error about settings is a ConfigError with file, line and field."""
    files["site"].write_text('\n[node_pools.a]\npartion = "x"\n')
    with pytest.raises(ConfigError) as caught:
        load(tmp_path)
    assert (caught.value.file, caught.value.line, caught.value.field) == (str(files["site"]), 3, "node_pools.a.partion")
