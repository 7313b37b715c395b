"""Every script of examples/ runs as its first lines say, on a few drawn scenes."""

from __future__ import annotations

import ast
import re
import runpy
import shlex
import shutil
from pathlib import Path

import pytest

from pad_pipeline import iter_records, open_dataset
from tests.train.scenes import write_annotations

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `pad-pipeline demo` leaves it, with the scenes' own regions."""
    folder = tmp_path_factory.mktemp("examples") / "demo"
    write_annotations(folder, 12)
    shutil.copy(folder / "images/0000.png", folder / "images/scene_00000.png")
    return folder


def run(
    name: str,
    demo: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """Run an example with the arguments that its docstring shows; returns what it printed."""
    path = EXAMPLES / f"{name}.py"
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    [command] = re.findall(rf"^ *python examples/{name}\.py (.+)$", docstring, re.MULTILINE)
    monkeypatch.chdir(demo.parent)
    monkeypatch.setattr("sys.argv", [str(path), *shlex.split(command)])
    runpy.run_path(str(path), run_name="__main__")
    return capsys.readouterr().out


def test_annotate_images(
    demo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = run("annotate_images", demo, capsys, monkeypatch).splitlines()
    assert lines[0] == "demo/images/scene_00000.png: ok"
    assert len(lines) > 1
    for line in lines[1:]:
        assert re.fullmatch(r"  0\.\d\d [a-z ]+ in \[-?\d+, -?\d+, \d+, \d+\], \d+ pixels", line)


def test_torch_dataset(
    demo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = run("torch_dataset", demo, capsys, monkeypatch).splitlines()
    expected = [
        f"{(3, r.height, r.width)} {(len(r.labels), r.height, r.width)} {[x.tag for x in r.labels]}"
        for r in iter_records(open_dataset(str(demo / "annotations")))
    ]
    assert lines == expected
    assert len(lines) == 12


def test_train_projector(
    demo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = run("train_projector", demo, capsys, monkeypatch).splitlines()
    *steps, last = lines
    assert last == "wrote runs/example/mm_projector.safetensors"
    assert steps[-1].startswith(f"step {len(steps)} of {len(steps)}: caption loss ")
    assert (demo.parent / "runs/example/mm_projector.safetensors").stat().st_size > 0


def test_every_example_is_tested() -> None:
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {path.stem for path in EXAMPLES.glob("*.py")} <= tested
