"""A viewer on the example data set, called in this process without a port."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from pad_pipeline.view.app import make_app
from pad_pipeline.view.server import open_viewer
from tests.dataset import example


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for every test."""
    monkeypatch.setenv("PAD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def shared_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example data set, which no test may change; its images are in `images` beside it."""
    folder = tmp_path_factory.mktemp("view")
    records = example.example_records()
    example.write_dataset(folder / "data", records)
    example.write_images(folder / "images", records)
    return folder / "data"


@pytest.fixture(scope="session")
def client(shared_data: Path) -> TestClient:
    """A client of one viewer for all tests that only read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAD_CACHE", str(shared_data.parent / "cache"))
        return open_client(shared_data, images=str(shared_data.parent / "images"))


@pytest.fixture
def data(shared_data: Path, tmp_path: Path) -> Path:
    """A copy of the example data set and of its images, for a test that changes them."""
    for name in ("data", "images"):
        shutil.copytree(shared_data.parent / name, tmp_path / name)
    return tmp_path / "data"


def open_client(data: Path | str, **options) -> TestClient:
    """A client of a new viewer on `data`, as a browser on this machine is one."""
    app = make_app(open_viewer(str(data), **options))
    return TestClient(app, base_url="http://127.0.0.1:8500")
