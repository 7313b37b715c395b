"""Hub ids: the newest commit where a hub answers, the cache where none does."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from pad_pipeline.errors import UserError
from pad_pipeline.models import hub
from pad_pipeline.models.references import fingerprint

HUB_ID = "owner/model"


class FakeHub(http.server.BaseHTTPRequestHandler):
    """Knows one model and answers as the real hub does: a redirection, both naming the commit."""

    def do_HEAD(self) -> None:
        if self.path == f"/{HUB_ID}/resolve/main/config.json":
            self.send_response(307)
            self.send_header("Location", "/api/resolve-cache/models/config.json")
            self.send_header("X-Repo-Commit", "c0ffee")
        elif self.path == "/api/resolve-cache/models/config.json":
            self.send_response(200)
            self.send_header("X-Repo-Commit", "c0ffee")
        elif self.path == "/owner/overloaded/resolve/main/config.json":
            self.send_response(503)
        else:
            self.send_response(404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def fake_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    point_at(address, monkeypatch)
    yield address
    server.shutdown()
    server.server_close()
    thread.join()


def point_at(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        address + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(
        "huggingface_hub.file_download.HUGGINGFACE_CO_URL_TEMPLATE",
        address + "/{repo_id}/resolve/{revision}/{filename}",
        raising=False,
    )


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("PAD_MODELS", str(tmp_path / "models"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "hub"


def put_in_cache(cache: Path, *files: str) -> Path:
    repository = cache / f"models--{HUB_ID.replace('/', '--')}"
    snapshot = repository / "snapshots" / "abc123"
    for path in (repository / "refs" / "main", *(snapshot / file for file in files)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("abc123")
    return snapshot


def test_the_hub_says_which_commit_is_the_newest(fake_hub: str, cache: Path) -> None:
    put_in_cache(cache, "config.json", "model.safetensors")
    assert fingerprint(HUB_ID) == f"hub:{HUB_ID}@c0ffee"
    with pytest.raises(UserError, match=r"model 'owner/typo' was not found .* \(HTTP 404\)"):
        fingerprint("owner/typo")
    with pytest.raises(UserError, match=r"is not in the cache .* cannot be reached"):
        fingerprint("owner/overloaded")


def test_a_snapshot_of_the_newest_commit_is_fetched(
    fake_hub: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    patterns: list[list[str]] = []

    def download(hub_id: str, allow_patterns: list[str], cache_dir: Path, local_dir: None) -> str:
        patterns.append(allow_patterns)
        if "*.bin" in allow_patterns:
            (tmp_path / "pytorch_model.bin").write_text("")
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert hub.snapshot_of(HUB_ID) == tmp_path
    assert patterns == [["*.json", "*.txt", "*.safetensors"], ["*.json", "*.txt", "*.bin"]]


def test_without_a_network_the_cache_serves(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point_at("http://127.0.0.1:9", monkeypatch)  # nobody listens there
    with pytest.raises(UserError, match=r"is not in the cache .* cannot be reached"):
        fingerprint(HUB_ID)
    snapshot = put_in_cache(cache, "config.json")
    with pytest.raises(UserError, match="is not in the cache"):
        hub.snapshot_of(HUB_ID)  # the weights are missing
    put_in_cache(cache, "model.safetensors")
    assert hub.snapshot_of(HUB_ID) == snapshot
    assert fingerprint(HUB_ID) == f"hub:{HUB_ID}@abc123"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub.commit_of(HUB_ID) == "abc123"
