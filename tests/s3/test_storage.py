"""Storage on S3: names, prefixes, many files, pieces, and what a kill leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from pad_pipeline.storage import s3 as store
from tests.s3.conftest import Bucket, use
from tests.s3.faults import Fault, every, first, seeded
from tests.s3.server import serve

NAMES = [
    *("a b", "ü ß 图", "a#b", "a?b", "a%20b", "a+b", "a::b", "a?versionId=3", "[x]*{1}", "a&b=c"),
    *("'\"<>", "a~b", "a=b;c,d", "x" * 200, "😀.jpg"),
]
MANY = 1100
"""More than one answer of S3 lists."""


def test_any_name(bucket: Bucket) -> None:
    folder = f"{bucket.url}/names"
    for name in NAMES:
        storage.write_atomic(storage.join(folder, name), name.encode())
    assert storage.list_files(folder) == sorted(NAMES)
    for name in NAMES:
        url = storage.join(folder, name)
        assert storage.exists(url)
        assert storage.read_bytes(url) == name.encode()
        with storage.open_read(url) as file:
            assert file.read() == name.encode()
        storage.remove(url)
    assert not storage.exists(folder)


def test_prefixes_are_no_folders(bucket: Bucket) -> None:
    storage.write_atomic(f"{bucket.url}/run/below/x", b"1")
    storage.write_atomic(f"{bucket.url}/alone/x", b"2")
    for url, there, is_folder in [
        *(("ru", False, False), ("run/bel", False, False), ("run/below", True, True)),
        *(("run/below/", True, True), ("run", True, True), ("alone", True, True)),
        *(("alone/x", True, False), ("alone/x/y", False, False), ("", True, True)),
    ]:
        assert storage.exists(f"{bucket.url}/{url}") == there, url
        assert storage.is_folder(f"{bucket.url}/{url}") == is_folder, url
    assert storage.list_files(f"{bucket.url}/alone/") == ["x"]
    assert storage.list_files(f"{bucket.url}/nothing") == []
    with pytest.raises(UserError, match="should be a folder to write to, but it is a file"):
        storage.check_writable(f"{bucket.url}/alone/x")


def test_what_another_process_writes_is_seen_at_once(bucket: Bucket) -> None:
    url = f"{bucket.url}/run"
    fs, remote = storage.filesystem(url)
    assert storage.list_files(url) == []
    fs.find(remote)
    for number in range(3):
        _other().pipe_file(f"{remote}/{number}", b"x")
        assert storage.list_files(url) == [str(n) for n in range(number + 1)]
        assert storage.exists(f"{url}/{number}")
        before = storage.version(f"{url}/{number}")
        _other().pipe_file(f"{remote}/{number}", b"longer")
        assert storage.version(f"{url}/{number}") != before
        assert storage.read_bytes(f"{url}/{number}") == b"longer"


def _other() -> store.S3:
    return store.S3(skip_instance_cache=True, use_listings_cache=False)


def test_markers_of_folders_are_no_files(bucket: Bucket) -> None:
    """The empty file `folder/` that the consoles of object stores make."""
    marker = {
        "Contents": [{"Key": "run/", "Size": 0}, {"Key": "run/x", "Size": 1}],
        "CommonPrefixes": [{"Prefix": "run/below/"}],
    }
    fs, _ = storage.filesystem(bucket.url)

    async def answer(method: str, *args: object, **options: object) -> dict:
        assert method == "list_objects_v2"
        return marker

    fs._call_s3 = answer
    assert storage.list_files(f"{bucket.url}/run") == ["x"]


def test_many_files(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{number:05d}" for number in range(MANY)]
    (tmp_path / "many" / "flat").mkdir(parents=True)
    for name in names:
        (tmp_path / "many" / "flat" / name).touch()
    for number in range(30):
        folder = tmp_path / "many" / "run" / f"{number % 5}" / "deep"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}").touch()
    with serve(tmp_path) as server:
        use(monkeypatch, **server.environment())
        assert storage.list_files("s3://many/flat") == names
        storage.write_atomic("s3://many/run2", b"beside")
        storage.remove_tree("s3://many/run")
        storage.remove_tree("s3://many/run")
        assert not storage.exists("s3://many/run")
        assert storage.read_bytes("s3://many/run2") == b"beside"


@pytest.mark.parametrize("seed", [1, 2])
def test_a_third_of_all_requests_fail(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(store, "FIRST_DELAY_S", 0.01)
    monkeypatch.setattr(store, "MAX_DELAY_S", 0.05)
    kinds = [Fault("busy"), Fault("reset"), Fault("lost"), Fault("cut"), Fault("slow", 0.05)]
    bucket.faults.plan = seeded(seed, 1 / 3, *kinds)
    url = f"{bucket.url}/run"
    storage.check_writable(url)
    for number in range(12):
        storage.write_atomic(f"{url}/{number:02d}", b"%d" % number * 5000)
    assert storage.list_files(url) == [f"{number:02d}" for number in range(12)]
    for number in range(12):
        assert storage.read_bytes(f"{url}/{number:02d}") == b"%d" % number * 5000
        assert storage.exists(f"{url}/{number:02d}")
        with storage.open_read(f"{url}/{number:02d}") as file:
            file.seek(4000)
            assert file.read() == (b"%d" % number * 5000)[4000:]
        storage.remove(f"{url}/{number:02d}")
    storage.remove_tree(url)
    assert storage.list_files(url) == []
    assert {fault.kind for fault in bucket.faults.done} == {fault.kind for fault in kinds}


def test_an_answer_after_three_seconds_is_waited_for(bucket: Bucket) -> None:
    storage.write_atomic(f"{bucket.url}/x", b"1")
    bucket.faults.plan = first(1, Fault("slow", 3.0))
    assert storage.read_bytes(f"{bucket.url}/x") == b"1"
    assert [method for method, _ in bucket.faults.requests] == ["PUT", "GET"]


def test_large_files_go_in_pieces(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setattr(store, "FIRST_DELAY_S", 0.01)
    monkeypatch.setattr(store, "PART_BYTES", 50_000)
    url, data = f"{bucket.url}/large", os.urandom(333_333)
    bucket.faults.plan = every(3, Fault("busy"))
    storage.write_atomic(url, data)
    assert storage.read_bytes(url) == data
    path = tmp_path_factory.mktemp("copy") / "x"
    storage.download(url, path)
    assert path.read_bytes() == data
    storage.upload(path, f"{url}-2")
    assert storage.read_bytes(f"{url}-2") == data
    assert sum("partNumber" in path for _, path in bucket.faults.requests) >= 7


def test_a_lost_answer_to_the_end_of_an_upload(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "PART_BYTES", 50_000)
    data = os.urandom(222_222)

    def plan(count: int, method: str, path: str) -> Fault | None:
        is_end = method == "POST" and "uploadId" in path
        return Fault("lost") if is_end and not bucket.faults.done else None

    bucket.faults.plan = plan
    storage.write_atomic(f"{bucket.url}/large", data)
    assert len(bucket.faults.done) == 1
    assert storage.read_bytes(f"{bucket.url}/large") == data


def test_half_an_upload_is_never_seen(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "RETRY_TIMEOUT_S", 0.3)
    monkeypatch.setattr(store, "PART_BYTES", 50_000)
    url = f"{bucket.url}/run/large"
    storage.write_atomic(url, b"old")
    bucket.faults.plan = lambda count, method, path: (
        Fault("busy") if "partNumber=3" in path else None
    )
    with pytest.raises(UserError, match=r"cannot write s3://.*/large: .* answers 503 SlowDown"):
        storage.write_atomic(url, os.urandom(222_222))
    assert storage.read_bytes(url) == b"old"
    assert storage.list_files(f"{bucket.url}/run") == ["large"]
    fs, _ = storage.filesystem(url)
    assert not fs.call_s3("list_multipart_uploads", Bucket=bucket.url[5:]).get("Uploads")


KILLED = """
import os, sys
from pad_pipeline import storage
from pad_pipeline.storage import s3
s3.PART_BYTES, s3.MAX_CONCURRENT_PARTS = 50_000, 1
storage.write_atomic(sys.argv[1], os.urandom(1_000_000))
"""


def test_an_upload_that_was_killed_is_cleared_away(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{bucket.url}/run/large"
    storage.write_atomic(url, b"old")
    process = subprocess.Popen([sys.executable, "-c", KILLED, url])
    # The fifth piece is never answered, so the upload is under way whenever the kill comes.
    bucket.faults.plan = lambda count, method, path: (
        Fault("slow", 2.0) if "partNumber=5" in path else None
    )
    deadline = time.monotonic() + 60
    while not any("partNumber=5" in path for _, path in bucket.faults.requests):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    fs, _ = storage.filesystem(url)
    assert storage.read_bytes(url) == b"old"
    assert storage.list_files(f"{bucket.url}/run") == ["large"]
    uploads = {"method": "list_multipart_uploads", "Bucket": bucket.url[5:]}
    assert len(fs.call_s3(**uploads)["Uploads"]) == 1
    storage.check_writable(f"{bucket.url}/run")
    assert len(fs.call_s3(**uploads)["Uploads"]) == 1, "it may still be under way elsewhere"
    monkeypatch.setattr(storage.atomic, "STALE_UPLOAD", timedelta(0))
    storage.check_writable(f"{bucket.url}/ru")
    assert len(fs.call_s3(**uploads)["Uploads"]) == 1, "it is not below that folder"
    storage.check_writable(f"{bucket.url}/run")
    assert not fs.call_s3(**uploads).get("Uploads")
    assert storage.read_bytes(url) == b"old"
