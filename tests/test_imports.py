"""Who may import whom, read from the sources; and what the command line leaves unloaded."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pad_pipeline"

LAYERS = (
    ("errors",),
    ("limits", "progress"),
    ("records", "boxes", "masks", "polygons", "given", "given_masks", "record_pictures"),
    ("geometry", "resampling", "normalisation", "images", "region_masks", "record_json"),
    ("storage", "ports", "secret", "evaluate/measures"),
    ("dataset/manifest", "review"),
    ("sources", "drawing", "scenes"),
    ("dataset", "models"),
    ("similarity",),
    ("export", "engine", "ground_truth"),
    ("importer", "cognition"),
    ("annotate", "serve", "train", "view", "verify"),
    ("evaluate", "scenes/demo", "photos"),
    ("reproduce",),
    ("cli",),
    ("__main__",),
)
"""The parts of the package from the bottom to the top. A part imports itself and what lies below,
and of its own layer only what `BESIDE` names."""

BESIDE = {
    "geometry": {"normalisation", "resampling"},
    "masks": {"boxes"},
    "given": {"masks", "given_masks"},
    "given_masks": {"masks"},
    "record_pictures": {"masks"},
    "records": {"record_pictures"},
}
"""Parts of their own layer that a part may import."""

NOT_BELOW = {
    "models": {"dataset/manifest", "review", "sources", "drawing", "scenes", "evaluate/measures"},
    "engine": {"dataset", "dataset/manifest", "review", "drawing", "scenes", "evaluate/measures"},
    "view": {"models", "engine", "scenes", "evaluate/measures"},
    "cognition": {"drawing", "export", "scenes", "similarity", "evaluate/measures"},
    "train": {"scenes", "export"},
    "importer": {"models", "engine", "drawing", "scenes", "evaluate/measures"},
    "annotate": {"review", "drawing", "export", "scenes", "evaluate/measures", "cognition"},
    "serve": {"cognition"},
    "verify": {
        "cognition",
        *("storage", "sources", "drawing", "dataset", "dataset/manifest", "review", "scenes"),
        "evaluate/measures",
    },
}
"""What a part does not need although it lies below."""

RAY_FILES = re.compile(
    r"engine/ray_\w+|annotate/stream|serve/\w+|train/run/on_ray|cognition/on_ray"
    r"|evaluate/generation/on_ray|reproduce/on_ray"
)
"""The files that may import Ray: models, stages and the training step run where it is not."""


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).as_posix().removesuffix(".py"), path


def imported(name: str, text: str) -> Iterator[str]:
    """Dotted names of all that a module imports, wherever in it, for types too."""
    package = ("pad_pipeline", *name.split("/")[:-1])
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join((*package[: len(package) - node.level + 1], base)).rstrip(".")
            # "from package import name" may import the module "package.name"
            yield from (f"{base}.{alias.name}" for alias in node.names)


def module_of(dotted: str, names: Collection[str]) -> str | None:
    """Our module that a dotted name belongs to, as a path; None for another package's."""
    words = dotted.split(".")
    if words[0] != "pad_pipeline":
        return None
    for end in range(len(words), 0, -1):
        path = "/".join(words[1:end])
        for name in (path, f"{path}/__init__".lstrip("/")):
            if name in names:
                return name
    raise AssertionError(f"there is no module {dotted}")


def part_of(name: str) -> str:
    """The part of the package that a module belongs to: the longest that its path begins with."""
    parts = [part for layer in LAYERS for part in layer]
    found = [part for part in parts if name == part or name.startswith(f"{part}/")]
    assert found, f"{name} belongs to no part: give it a place in LAYERS"
    return max(found, key=len)


def may_import(part: str, other: str) -> bool:
    level = {part: index for index, layer in enumerate(LAYERS) for part in layer}
    if part == other or other in BESIDE.get(part, ()):
        return True
    return level[other] < level[part] and other not in NOT_BELOW.get(part, ())


def graph(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Which of our modules each of ours imports; the package's own page, `__init__`, left out."""
    edges: dict[str, set[str]] = {}
    for name, text in sources.items():
        found = {module_of(dotted, sources) for dotted in imported(name, text)}
        edges[name] = {other for other in found if other and other != "__init__"} - {name}
    return edges


def upward_arrows(edges: Mapping[str, Collection[str]]) -> list[str]:
    return [
        f"{name} imports {other}"
        for name, others in edges.items()
        if name != "__init__"
        for other in sorted(others)
        if not may_import(part_of(name), part_of(other))
    ]


def circles(edges: Mapping[str, Collection[str]]) -> list[tuple[str, ...]]:
    """Groups of modules that import each other."""
    try:
        tuple(TopologicalSorter(edges).static_order())
    except CycleError as error:
        return [tuple(error.args[1])]
    return []


def sources() -> dict[str, str]:
    return {name: path.read_text(encoding="utf-8") for name, path in modules()}


def test_every_part_imports_only_what_lies_below() -> None:
    edges = graph(sources())
    assert {part_of(name) for name in edges if name != "__init__"} == {
        part for layer in LAYERS for part in layer
    }
    assert upward_arrows(edges) == []


def test_no_modules_import_each_other_for_types_either() -> None:
    assert circles({n: e for n, e in graph(sources()).items() if n != "__init__"}) == []


def test_the_exceptions_name_what_would_be_allowed() -> None:
    level = {part: index for index, layer in enumerate(LAYERS) for part in layer}
    assert all(level[other] < level[part] for part in NOT_BELOW for other in NOT_BELOW[part])
    assert all(level[other] == level[part] for part in BESIDE for other in BESIDE[part])


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("records", "from pad_pipeline import storage"),
        ("models/ram/tagger", "from pad_pipeline.engine.stages import Chain"),
        ("dataset/stats", "    from ..annotate import report"),
        ("sources/folder", "import pad_pipeline.engine.config"),
        ("scenes/quality", "from pad_pipeline.dataset import reader"),
        ("train/loop", "from pad_pipeline.evaluate import analysis"),
        ("serve/app", "from pad_pipeline.annotate.run import annotate"),
        ("engine/plan", "if True:\n    from pad_pipeline.annotate.run import annotate"),
    ],
)
def test_an_upward_arrow_would_be_seen(name: str, line: str) -> None:
    text = f"def use():\n{line}\n" if line.startswith(" ") else line
    assert len(upward_arrows(graph({**sources(), name: text}))) == 1


def test_a_circle_of_types_would_be_seen() -> None:
    line = "if TYPE_CHECKING:\n    from pad_pipeline.dataset.stats_plot import draw_page"
    found = circles(graph({**sources(), "dataset/stats": line}))
    assert found
    assert {"dataset/stats", "dataset/stats_plot"} <= set(found[0])


def test_ray_is_imported_by_its_own_files_alone() -> None:
    users = [
        name
        for name, text in sources().items()
        if any(other.split(".")[0] == "ray" for other in imported(name, text))
    ]
    assert [name for name in users if not RAY_FILES.fullmatch(name)] == []
    assert users, "nothing imports Ray: this test reads the wrong files"


def test_parquet_is_read_on_the_calling_thread_alone() -> None:
    """With Arrow's threads, one short command in twenty ended in SIGABRT on a busy machine."""
    readers = re.compile(r"\b(pq|parquet)\.(ParquetFile|read_table|ParquetDataset)\(")
    users = [name for name, path in modules() if readers.search(path.read_text(encoding="utf-8"))]
    assert users == ["storage/parquet"]


LOADED = """
import json, sys
from pad_pipeline.cli.main import main
try:
    main({arguments!r})
except SystemExit as stop:
    assert not stop.code, stop.code
roots = {{name.partition(".")[0] for name in sys.modules}}
print(json.dumps(sorted(roots)), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["annotate", "--help"],
        ["serve", "--help"],
        ["export", "--help"],
        ["models", "verify", "--help"],
        ["train", "pretrain", "--help"],
        ["view", "--help"],
        ["analyze", "--help"],
        ["--version"],
        ["train", "export", "--version"],
    ],
)
def test_help_loads_neither_torch_nor_ray(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(arguments=arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "pad-pipeline" in done.stdout
    loaded = set(json.loads(done.stderr))
    assert "pad_pipeline" in loaded
    heavy = {"torch", "ray", "transformers", "matplotlib", "scipy", "pandas"}
    heavy |= {"fastapi", "uvicorn", "duckdb"}
    assert loaded.isdisjoint(heavy)
