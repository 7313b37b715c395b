"""A viewer on the example data set, asked through its application without a port."""

from __future__ import annotations

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


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The example data set; its images are in `images` beside it."""
    records = example.example_records()
    example.write_dataset(tmp_path / "data", records)
    example.write_images(tmp_path / "images", records)
    return tmp_path / "data"


@pytest.fixture
def client(data: Path) -> TestClient:
    return ask(data, images=str(data.parent / "images"))


def ask(data: Path | str, **options) -> TestClient:
    """A client of a viewer on `data`, as a browser on this machine is one."""
    app = make_app(open_viewer(str(data), **options))
    return TestClient(app, base_url="http://127.0.0.1:8500")
