"""The package as a user gets it: built, installed outside the checkout, and run from there.

All of it is marked `ray`, as the demo starts one, so that the package is built only once.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import pad_pipeline

ROOT = Path(__file__).parents[2]
MAX_WHEEL_BYTES = 16 * 1024 * 1024

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    run([sys.executable, "-m", "hatchling", "build", "--target", "sdist", "-d", folder], ROOT)
    [archive] = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sdist: what that leaves out is missing here too."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--quiet"]
    run([sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", folder, sdist], folder)
    [path] = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel; returns its folder of programs.

    It shares this environment's other packages, which are gigabytes, by their path alone: the .pth
    file with which this environment finds the checkout is not read from there.
    """
    folder = tmp_path_factory.mktemp("environment")
    run([sys.executable, "-m", "venv", "--without-pip", folder], folder)
    scheme = sysconfig.get_path("purelib", "venv", {"base": str(folder)})
    shared = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    Path(scheme, "shared.pth").write_text("\n".join(sorted(shared)) + "\n", encoding="utf-8")
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    pip = [sys.executable, "-m", "pip", "--python", programs / "python", "install", "--quiet"]
    run([*pip, "--no-deps", "--no-index", wheel], folder)
    return programs


def run(command: list[str | Path], place: Path) -> str:
    """Run a command in `place`, with nothing of the checkout on its path; returns its stdout."""
    hidden = ("PYTHON", "RAY_", "PAD_", "VIRTUAL_ENV")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
    environment["RAY_ADDRESS"] = "local"  # workers of a Ray that runs already have the checkout
    done = subprocess.run(
        list(map(str, command)), cwd=place, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


def test_the_wheel_holds_the_package_alone(wheel: Path) -> None:
    assert wheel.stat().st_size <= MAX_WHEEL_BYTES
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        [metadata_file] = [name for name in names if name.endswith(".dist-info/METADATA")]
        metadata = Parser().parsestr(archive.read(metadata_file).decode())
    information = metadata_file.removesuffix("METADATA")
    assert {name for name in names if not name.startswith(("pad_pipeline/", information))} == set()
    assert not [name for name in names if "__pycache__" in name or "golden" in name]
    tracked = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "pad_pipeline").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "pad_pipeline/py.typed" in tracked
    assert tracked <= set(names)
    assert metadata["Name"] == "pad-pipeline"
    assert metadata["Version"] == pad_pipeline.__version__
    assert metadata["Author"] == "the pad-pipeline developers"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("Project-URL") == ["Paper, https://arxiv.org/abs/2505.17316"]


def test_the_sdist_holds_what_its_tests_need(sdist: Path) -> None:
    for name in ("pyproject.toml", "README.md", "LICENSE", "Makefile", "requirements-dev.lock"):
        assert (sdist / name).is_file(), name
    for folder in ("pad_pipeline", "tests", "tools", "examples", "benchmarks", "deploy", "docs"):
        assert (sdist / folder).is_dir(), folder
    assert not [path for path in sdist.rglob("*") if path.name in ("__pycache__", ".venv")]
    for link in ("overview.png", "viewer.png"):  # the README shows them
        assert (sdist / "docs/pictures" / link).is_file()


def test_the_installed_package_is_the_wheels(installed: Path, tmp_path: Path) -> None:
    code = "import sys, pad_pipeline; print(pad_pipeline.__file__, *sys.path, sep='\\n')"
    found, *path = run([installed / "python", "-I", "-c", code], tmp_path).splitlines()
    assert Path(found).is_relative_to(installed.parent)
    assert str(ROOT) not in path
    version = run([installed / "pad-pipeline", "--version"], tmp_path)
    assert version == f"pad-pipeline {pad_pipeline.__version__}\n"


def test_models_verify_runs_on_the_data_of_the_wheel(installed: Path, tmp_path: Path) -> None:
    report = run([installed / "pad-pipeline", "models", "verify"], tmp_path)
    assert "scene_0.png boxes" in report
    assert report.endswith("all agree\n")


def test_models_verify_runs_on_the_data_of_the_sdist(
    installed: Path, sdist: Path, tmp_path: Path
) -> None:
    """The outputs of the original code are megabytes, so the sdist brings them, not the wheel."""
    command = [installed / "pad-pipeline", "models", "verify", sdist / "tests/golden/sam_tiny"]
    assert "landscape.low_res_masks" in run(command, tmp_path)


def test_the_demo_runs_from_the_installed_wheel(installed: Path, tmp_path: Path) -> None:
    options = ["--num-images", "6", "--output", "demo"]
    run([installed / "pad-pipeline", "demo", *options], tmp_path)
    assert (tmp_path / "demo/overview.png").stat().st_size > 10_000
    assert "ok" in run([installed / "pad-pipeline", "validate", "demo/annotations"], tmp_path)
