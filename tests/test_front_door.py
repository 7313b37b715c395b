"""The names that `import pad_pipeline` gives: frozen, lazy, typed."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

import pad_pipeline

NAMES = {
    "AnnotateConfig": "pad_pipeline.engine.config",
    "Annotator": "pad_pipeline.annotate.annotator",
    "PadRecord": "pad_pipeline.records",
    "Region": "pad_pipeline.records",
    "Tag": "pad_pipeline.records",
    "UserError": "pad_pipeline.errors",
    "annotate": "pad_pipeline.annotate.run",
    "decode_mask": "pad_pipeline.masks",
    "demo": "pad_pipeline.engine.config",
    "fast": "pad_pipeline.engine.config",
    "iter_records": "pad_pipeline.dataset.reader",
    "open_dataset": "pad_pipeline.dataset.reader",
    "paper": "pad_pipeline.engine.config",
    "plot": "pad_pipeline.dataset.plotting",
    "sam3": "pad_pipeline.engine.config",
}
"""What people's code imports, and where it lives: renaming one is a breaking change."""

IMPORT_LIMIT_S = 0.05


def run_fresh(code: str) -> str:
    """What a fresh process prints for this code."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_these_names_are_exported() -> None:
    assert sorted(pad_pipeline.__all__) == sorted([*NAMES, "__version__"])
    assert dir(pad_pipeline) == sorted(pad_pipeline.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'anotate'"):
        _ = pad_pipeline.anotate  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_imported_alone_and_without_ray_where_nothing_runs_on_it(name: str) -> None:
    kind = "class" if name[0].isupper() else "function"
    code = f"""
import inspect, sys
from pad_pipeline import {name}
assert inspect.is{kind}({name}), {name}
assert {name}.__module__ == {NAMES[name]!r}, {name}.__module__
assert "ray" not in sys.modules or {name == "annotate"}
"""
    run_fresh(code)


def test_the_names_stay_what_they_are_whatever_was_imported_before() -> None:
    code = f"""
import {", ".join(sorted(set(NAMES.values())))}
import pad_pipeline
for name, module in {NAMES}.items():
    assert getattr(pad_pipeline, name).__module__ == module, name
"""
    run_fresh(code)


def test_annotate_stays_the_function() -> None:
    """Its package has the same name, which the import system would bind in its place."""
    code = """
import inspect
import pad_pipeline, pad_pipeline.annotate, pad_pipeline.annotate.run
assert inspect.isfunction(pad_pipeline.annotate)
from pad_pipeline.annotate import run, status
from pad_pipeline.annotate.run import annotate
assert pad_pipeline.annotate is annotate is run.annotate
import importlib
importlib.reload(importlib.import_module("pad_pipeline.annotate"))
assert inspect.isfunction(pad_pipeline.annotate)
"""
    run_fresh(code)


def test_importing_the_package_is_fast_and_loads_nothing_heavy() -> None:
    code = """
import sys, time
start = time.perf_counter()
import pad_pipeline
seconds = time.perf_counter() - start
import json
print(json.dumps([seconds, sorted({name.partition(".")[0] for name in sys.modules})]))
"""
    runs = [json.loads(run_fresh(code)) for _ in range(5)]
    assert min(seconds for seconds, _ in runs) < IMPORT_LIMIT_S
    for _, loaded in runs:
        assert "pad_pipeline" in loaded
        assert not {"torch", "ray", "transformers", "numpy", "pyarrow"} & set(loaded)


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(pad_pipeline.__file__).parent / "py.typed").is_file()


@pytest.mark.skipif(importlib.util.find_spec("pyright") is None, reason="pyright is not installed")
def test_pyright_sees_the_types_behind_the_names() -> None:
    snippet = Path(__file__).with_name("front_door_types.py")
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, snippet],
        cwd=snippet.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(done.stdout)
    assert [found["message"] for found in report["generalDiagnostics"]] == []
    assert report["summary"]["filesAnalyzed"] == 1
