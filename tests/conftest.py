"""Fixtures for the tests of the command line; what the Makefile relies on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli import place as cli_place


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse tests marked `ray` outside of tests/ray, where `make test` would not run them."""
    folder = Path(__file__).parent / "ray"
    on_ray = [item for item in items if item.get_closest_marker("ray")]
    lost = [item.nodeid for item in on_ray if folder not in item.path.parents]
    if lost:
        raise pytest.UsageError(f"tests marked `ray` belong into tests/ray: {lost}")


@pytest.fixture(scope="session")
def cli_place_made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    cli_place.make(folder)
    return folder


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """No cluster far and wide, and none is started."""
    from pad_pipeline.engine import ray_session

    def init(**options: object) -> None:
        assert not options.get("num_cpus"), "this test must not start Ray"
        raise ConnectionError("nobody is there")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray_session, "find_bootstrap_address", lambda temp_dir: None)
    monkeypatch.setattr(ray_session.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray_session.ray, "init", init)
    monkeypatch.setattr(ray_session.ray, "shutdown", lambda: None)


@pytest.fixture
def here(
    cli_place_made: Path, without_ray: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """The folder with everything as the working folder; calls must leave it as it is."""
    place = cli_place_made
    (place / "others").mkdir(exist_ok=True)
    (place / "others/other.parquet").write_bytes(b"PAR1")
    before = cli_place.files(place)
    monkeypatch.chdir(place)
    monkeypatch.setenv("PAD_MODELS", str(place / "no models"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    yield place
    after = cli_place.files(place)
    assert {name for name in after if after[name] != before.get(name)} == set()
    assert before.keys() == after.keys()
