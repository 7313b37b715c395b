"""Known models from servers, files and a hub into the models folder."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pad_pipeline.errors import UserError
from pad_pipeline.models import catalogue, fetch
from pad_pipeline.models.catalogue import find
from pad_pipeline.models.known_models import KnownModel
from pad_pipeline.models.references import resolve
from tests.golden_data import golden_dir
from tests.models.file_server import FileServer, serving

FILE = "sam_tiny.safetensors"


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "models"
    monkeypatch.setenv("PAD_MODELS", str(folder))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return folder


@pytest.fixture
def server() -> Iterator[FileServer]:
    checkpoint = (golden_dir("sam_tiny") / "checkpoint.safetensors").read_bytes()
    with serving({f"/{FILE}": checkpoint}) as server:
        yield server


@pytest.fixture
def known(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> KnownModel:
    """A SAM of toy size as the only known model."""
    known = KnownModel(
        reference="sam_tiny",
        role="segmenter",
        title="SAM, toy size",
        source=f"{server.url}/{FILE}",
        file=FILE,
        size_gb=0.002,
        convert="sam",
        sha256=hashlib.sha256(server.files[f"/{FILE}"]).hexdigest(),
    )
    monkeypatch.setattr(catalogue, "KNOWN", (known,))
    return known


def test_a_file_is_downloaded_checked_and_converted(
    known: KnownModel, server: FileServer, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 10_000)
    server.cuts = [700_000]
    assert fetch.fetch("sam_tiny") == models / "sam_tiny" == resolve("sam_tiny") == find(known)
    assert json.loads((models / "sam_tiny/config.json").read_text())["model_type"] == "sam"
    assert [start for _, _, start in server.requests] == [0, 700_000]
    assert fetch.fetch(FILE) == models / "sam_tiny"  # its file's name means it too
    assert len(server.requests) == 2
    assert not list((models / fetch.DOWNLOADS).glob("*/*"))


def test_a_file_of_the_users_must_be_the_released_one(
    known: KnownModel, server: FileServer, models: Path, tmp_path: Path
) -> None:
    path = tmp_path / "mirror.safetensors"
    path.write_bytes(server.files[f"/{FILE}"] + b"x")
    with pytest.raises(UserError, match=r"mirror.safetensors is not the released file"):
        fetch.fetch("sam_tiny", path)
    with pytest.raises(UserError, match=r"there is no file at .*nowhere"):
        fetch.fetch("sam_tiny", tmp_path / "nowhere")
    assert not (models / "sam_tiny").exists()
    path.write_bytes(server.files[f"/{FILE}"])
    assert fetch.fetch("sam_tiny", path) == models / "sam_tiny"
    assert server.requests == []
    assert path.exists()


def test_another_address_and_a_file_that_lies_there_already(
    known: KnownModel, server: FileServer, models: Path
) -> None:
    server.files["/mirror"] = server.files.pop(f"/{FILE}")
    with pytest.raises(UserError, match="HTTP 404"):
        fetch.fetch("sam_tiny")
    fetch.fetch("sam_tiny", f"{server.url}/mirror")
    shutil.rmtree(models / "sam_tiny")
    (models / FILE).write_bytes(server.files["/mirror"])
    before = len(server.requests)
    fetch.fetch("sam_tiny")
    assert len(server.requests) == before


def test_a_conversion_that_fails_keeps_the_download(
    known: KnownModel, server: FileServer, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def convert(*arguments: object) -> None:
        raise UserError("no space")

    monkeypatch.setattr("pad_pipeline.models.convert.convert", convert)
    with pytest.raises(UserError, match="no space"):
        fetch.fetch("sam_tiny")
    monkeypatch.undo()
    monkeypatch.setenv("PAD_MODELS", str(models))
    monkeypatch.setattr(catalogue, "KNOWN", (known,))
    fetch.fetch("sam_tiny")
    assert len(server.requests) == 1


def test_an_unknown_name_is_answered_with_the_known_ones(models: Path) -> None:
    with pytest.raises(UserError, match=r"'sam9' is none of the \d+ known models: ram, ram-plus"):
        fetch.fetch("sam9")
    with pytest.raises(UserError, match=r"repository of several files, .* HF_ENDPOINT"):
        fetch.fetch("facebook/sam-vit-base", "somewhere")


def test_a_models_folder_that_is_none_is_named(
    known: KnownModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PAD_MODELS", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cannot write to .*file"):
        fetch.fetch("sam_tiny")


REPOSITORY = "facebook/sam-vit-base"

Fetch = Callable[[], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def hub(models: Path) -> Iterator[tuple[FileServer, Fetch]]:
    """A hub behind HF_ENDPOINT, which is read when a process starts."""
    names = {"config.json": b"{}", "model.safetensors": bytes(200_000), "other.onnx": b"x"}
    with serving({f"/{REPOSITORY}/{name}": data for name, data in names.items()}) as server:
        environment = {name: value for name, value in os.environ.items() if "proxy" not in name}
        environment |= {"HF_ENDPOINT": server.url, "HF_HUB_DISABLE_XET": "1"}
        environment |= {"HF_HUB_OFFLINE": "0"}
        words = [sys.executable, "-m", "pad_pipeline", "models", "fetch", REPOSITORY]
        yield (
            server,
            lambda: subprocess.run(
                words, env=environment, capture_output=True, text=True, check=False, timeout=120
            ),
        )


def test_a_repository_comes_from_a_mirror_of_the_hub(
    hub: tuple[FileServer, Fetch], models: Path
) -> None:
    server, run = hub
    server.cuts = [90_000]  # of the weights
    done = run()
    assert (done.returncode, done.stdout) == (0, f"{REPOSITORY} is in {models / REPOSITORY}\n")
    files = sorted(path.name for path in (models / REPOSITORY).rglob("*"))
    assert files == ["config.json", "model.safetensors"]
    assert (models / REPOSITORY / "model.safetensors").stat().st_size == 200_000


def test_a_gated_repository_says_where_to_accept_its_terms(
    hub: tuple[FileServer, Fetch], models: Path
) -> None:
    server, run = hub
    server.gated.add(REPOSITORY)
    done = run()
    assert done.returncode == 1
    assert f"accept them at {server.url}/{REPOSITORY}, then log in" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (models / REPOSITORY).exists()
