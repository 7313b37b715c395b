"""The files around the package agree with each other: metadata, locked versions, hooks, CI."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pre_commit.clientlib import load_config

import pad_pipeline

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCK = [
    Requirement(line)
    for line in (ROOT / "requirements-dev.lock").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]


def required() -> list[Requirement]:
    """What `pip install '.[dev]'` asks for, the extras that `dev` names included."""
    project = PYPROJECT["project"]
    found, open_extras = list(map(Requirement, project["dependencies"])), ["dev"]
    while open_extras:
        for text in project["optional-dependencies"][open_extras.pop()]:
            requirement = Requirement(text)
            if requirement.name == project["name"]:
                open_extras += requirement.extras
            else:
                found.append(requirement)
    return found


@pytest.mark.parametrize("python", ["3.11", "3.12"])
def test_the_lock_pins_one_version_of_every_development_requirement(python: str) -> None:
    environment = {
        **default_environment(),
        "python_version": python,
        "python_full_version": f"{python}.9",
    }
    pins: dict[str, list[str]] = {}
    for line in LOCK:
        if line.marker is None or line.marker.evaluate(environment):
            pins.setdefault(canonicalize_name(line.name), []).append(str(line.specifier))
    assert len(pins) > 100
    assert {name: pin for name, pin in pins.items() if len(pin) != 1} == {}
    requirements = required()
    assert len(requirements) > 20
    for requirement in requirements:
        [pin] = pins.get(canonicalize_name(requirement.name), ["missing"])
        assert pin.startswith("=="), f"{requirement} is not in requirements-dev.lock; make it anew"
        assert requirement.specifier.contains(pin.removeprefix("==")), f"{requirement} but {pin}"


def test_the_lock_is_a_constraints_file_that_any_index_serves() -> None:
    for line in LOCK:
        assert not line.extras, line  # pip refuses extras in a constraints file
        assert line.url is None, line
        assert "+" not in str(line.specifier), line  # as in torch's +cpu, which only some have


def test_make_install_takes_the_locked_versions() -> None:
    assert "--constraint requirements-dev.lock --editable '.[dev]'" in dry_run("install")


def test_the_hooks_run_what_make_test_lints() -> None:
    config = load_config(ROOT / ".pre-commit-config.yaml")  # raises where its form is wrong
    [repository] = config["repos"]
    linted = [line.strip() for line in dry_run("test").splitlines()]
    hooks = [" ".join([hook["entry"], *hook["args"]]) for hook in repository["hooks"]]
    assert len(hooks) == 3
    assert set(hooks) <= set(linted)
    # every lint command, which are those before the tests, has a hook
    assert len(hooks) == sum(bool(re.match(r"\S*/(ruff|pyright) ", line)) for line in linted)


def test_the_workflow_runs_the_check_of_every_change() -> None:
    text = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    job = yaml.safe_load(text)["jobs"]["test"]
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert commands == [".ci/run"]
    assert (ROOT / ".ci/run").stat().st_mode & 0o111
    supported = {
        entry.removeprefix("Programming Language :: Python :: ")
        for entry in PYPROJECT["project"]["classifiers"]
        if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", entry)
    }
    assert set(job["strategy"]["matrix"]["python"]) == supported


def test_the_change_log_has_the_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    [first, *_] = re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)
    assert first == pad_pipeline.__version__


def dry_run(target: str) -> str:
    """The commands of a make target, whatever is up to date."""
    command = ["make", "--directory", str(ROOT), "--always-make", "--dry-run", target]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.replace("\\\n\t\t", "").replace("  ", " ")


CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_contributing_says_how_to_add_each_thing_in_ten_lines() -> None:
    sections = re.split(r"^## ", CONTRIBUTING, flags=re.MULTILINE)
    adding = {text.splitlines()[0]: text for text in sections if text.startswith("Add ")}
    assert list(adding) == ["Add a model family", "Add a stage", "Add a source", "Add an export"]
    for title, text in adding.items():
        assert len(text.strip().splitlines()) <= 2 + 10, title


def test_what_contributing_names_is_there() -> None:
    quoted = re.findall(r"`([^`\n]+)`", CONTRIBUTING)
    paths = [name for name in quoted if re.match(r"(pad_pipeline|tests)/", name)]
    assert len(paths) > 20
    missing = [name for name in paths if "NAME" not in name and not (ROOT / name).exists()]
    assert missing == []
    # a name stands before the path of the file that defines it: `NAME` (`path`)
    text = " ".join(CONTRIBUTING.split())
    defined = re.findall(
        r"`(\w+)`(?:, `\w+`)*(?: (?:or|and) `\w+`)?,? \(`(pad_pipeline/[^`]+)`", text
    )
    assert len(defined) >= 10
    for name, path in defined:
        source = (ROOT / path).read_text(encoding="utf-8")
        pattern = rf"^\s*(?:def|class) {name}\b|^{name}\b|^    {name}:"
        assert re.search(pattern, source, re.MULTILINE), f"{path} does not define {name}"
    targets = re.findall(r"^make ([\w-]+)", CONTRIBUTING, re.MULTILINE)
    assert targets == ["install", "test-fast", "test"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
