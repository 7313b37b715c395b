"""Who may import whom, read from the sources; and what the command line leaves unloaded."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pad_pipeline"

BASE = {"errors", "records", "boxes", "masks"}
FILES = BASE | {"images", "storage", "sources"}

ALLOWED: dict[str, set[str]] = {
    "__init__": set(),
    "errors": set(),
    "records": set(),
    "boxes": set(),
    "masks": set(),
    "images": BASE,
    "storage": BASE,
    "sources": FILES,
    "config": FILES,
    "geometry": {"errors"},
    "run_lock": FILES,
    "ray_session": FILES,
    "models": FILES | {"config"},
    "annotate": FILES | {"config", "models", "run_lock", "ray_session", "__init__"},
    "dataset": FILES | {"config"},
    "analysis": FILES | {"geometry"},
    "train": FILES
    | {"config", "geometry", "models", "dataset", "analysis", "run_lock", "ray_session"}
    | {"__init__"},
    "serve": FILES | {"config", "annotate", "dataset", "ray_session", "__init__"},
    "scenes": FILES | {"config", "geometry", "models"},
    "demo": FILES | {"config", "models", "annotate", "dataset", "scenes"},
    "cli_stderr": set(),
    "cli_reports": FILES | {"config", "models", "annotate", "dataset", "scenes", "demo"},
    "view": FILES | {"config", "dataset", "__init__"},
    "reproduce": FILES | {"config", "geometry", "analysis", "train", "scenes"},
    "cli_runs": FILES | {"config", "annotate", "train", "run_lock", "cli_reports"},
    "cli_serve": FILES | {"config", "serve", "cli_reports"},
    "cli_train": FILES | {"train", "cli_reports", "reproduce"},
    "cli_view": {"errors", "dataset", "view", "cli_reports"},
    "cli": FILES
    | {"config", "models", "annotate", "dataset", "demo", "serve", "train"}
    | {"cli_reports", "cli_runs", "cli_serve", "cli_stderr", "cli_train", "cli_view", "__init__"},
    "__main__": {"cli"},
}
"""The parts of the package that each part may import, besides itself."""

MAY_USE_RAY = (
    *("annotate/on_ray", "annotate/workers", "annotate/bounded_queues"),
    *("ray_session", "serve/ingress", "serve/on_ray", "serve/workers", "train/on_ray"),
)


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).as_posix().removesuffix(".py"), path


def imported(path: Path, package: tuple[str, ...]) -> Iterator[str]:
    """Dotted names of everything that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join((*package[: len(package) - node.level + 1], base)).rstrip(".")
            # "from package import name" may import the module "package.name"
            yield from (f"{base}.{alias.name}" for alias in node.names)


def part_of(name: str) -> str:
    """The part of the package that a dotted name of ours belongs to."""
    words = name.split(".")
    return words[1] if len(words) > 1 and words[1] in ALLOWED else "__init__"


def breaches(name: str, path: Path) -> list[str]:
    part = name.split("/")[0]
    package = ("pad_pipeline", *name.split("/")[:-1])
    allowed = ALLOWED[part] | {part}
    return [
        f"{name} imports {other}"
        for other in imported(path, package)
        if other.split(".")[0] == "pad_pipeline" and part_of(other) not in allowed
    ]


def test_every_part_imports_only_what_it_may() -> None:
    found = list(modules())
    assert {name.split("/")[0] for name, _ in found} == set(ALLOWED)
    assert [breach for name, path in found for breach in breaches(name, path)] == []


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("records", "from pad_pipeline import storage"),
        ("models/ram", "from pad_pipeline.annotate.stages import Chain"),
        ("dataset/stats", "    from ..annotate import report"),
        ("sources/folder", "import pad_pipeline.config"),
        ("scenes/quality", "from pad_pipeline.dataset import reader"),
    ],
)
def test_a_breach_would_be_seen(tmp_path: Path, name: str, line: str) -> None:
    path = tmp_path / "module.py"
    path.write_text(f"def use():\n{line}\n" if line.startswith(" ") else line)
    assert len(breaches(name, path)) == 1


def test_ray_is_imported_by_the_files_on_ray_alone() -> None:
    users = [
        name
        for name, path in modules()
        if any(other.split(".")[0] == "ray" for other in imported(path, ()))
    ]
    assert [name for name in users if not name.startswith(MAY_USE_RAY)] == []
    assert users, "nothing imports Ray: this test reads the wrong files"


def test_parquet_is_read_on_the_calling_thread_alone() -> None:
    """With Arrow's threads, one short command in twenty ended in SIGABRT on a busy machine."""
    readers = re.compile(r"\b(pq|parquet)\.(ParquetFile|read_table|ParquetDataset)\(")
    users = [name for name, path in modules() if readers.search(path.read_text(encoding="utf-8"))]
    assert users == ["storage/parquet"]


LOADED = """
import json, sys
from pad_pipeline.cli import main
try:
    main({arguments!r})
except SystemExit as stop:
    assert not stop.code, stop.code
roots = {{name.partition(".")[0] for name in sys.modules}}
print(json.dumps(sorted(roots)), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "arguments", [["--help"], ["annotate", "--help"], ["serve", "--help"], ["--version"]]
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
