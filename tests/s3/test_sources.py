"""Every kind of source on S3 gives what it gives on the disk, while a fifth of the answers fail."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pad_pipeline import storage
from pad_pipeline.sources import list_source, read_many
from pad_pipeline.storage import s3 as store
from tests.s3.conftest import Bucket
from tests.s3.faults import Fault, seeded

NAMES = ["a b.png", "below/c#d.png", "below/e%20f.png", "below/deeper/ü?.png", "z::y.png"]


def write_sources(folder: Path) -> dict[str, str]:
    """The same images as every kind of source; kind -> path below `folder`."""
    images = {}
    for number, name in enumerate(NAMES):
        sink = io.BytesIO()
        Image.new("RGB", (20, 16), (number * 40, 0, 0)).save(sink, "PNG")
        images[name] = sink.getvalue()
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(images[name])
    with zipfile.ZipFile(folder / "all.zip", "w") as archive:
        for name, data in images.items():
            archive.writestr(name, data)
    (folder / "tars").mkdir()
    with tarfile.open(folder / "tars" / "0.tar", "w") as tar:
        for name, data in images.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    table = pa.table({"id": NAMES, "image": list(images.values()), "caption": NAMES})
    pq.write_table(table, folder / "all.parquet", row_group_size=2)
    entries = [
        {"image": f"./{name}", "conversations": [{"from": "gpt", "value": name}]} for name in NAMES
    ]
    (folder / "llava.json").write_text(json.dumps(entries))
    return {
        "folder": "images",
        "folder/": "images/",
        "zip": "all.zip",
        "tar": "tars",
        "pattern": "tars/*.tar",
        "parquet": "all.parquet",
        "llava": "llava.json",
    }


@pytest.mark.parametrize("kind", ["folder", "folder/", "zip", "tar", "pattern", "parquet", "llava"])
def test_a_source_on_s3(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(store, "FIRST_DELAY_S", 0.01)
    source = write_sources(tmp_path)[kind]
    root = f"{bucket.url}/data set"
    for path in tmp_path.rglob("*"):
        if path.is_file():
            storage.upload(path, storage.join(root, path.relative_to(tmp_path).as_posix()))
    kinds = [Fault("busy"), Fault("reset"), Fault("lost"), Fault("cut")]
    bucket.faults.plan = seeded(1, 1 / 5, *kinds)
    before = len(bucket.faults.requests)
    expected = list(list_source(f"{tmp_path}/{source}"))
    found = list(list_source(f"{root}/{source}"))
    assert [(row.image_id, row.caption) for row in found] == [
        (row.image_id, row.caption) for row in expected
    ]
    assert len(found) == len(NAMES)
    data = read_many(expected)
    assert all(isinstance(item, bytes) for item in data)
    assert read_many(found) == data
    assert len(bucket.faults.requests) - before < 100


def test_a_small_image_is_one_request(bucket: Bucket, tmp_path: Path) -> None:
    write_sources(tmp_path)
    for name in NAMES:
        storage.upload(tmp_path / "images" / name, storage.join(bucket.url, name))
    rows = list(list_source(bucket.url))
    bucket.faults.requests.clear()
    assert all(isinstance(item, bytes) for item in read_many(rows))
    assert len(bucket.faults.requests) == len(NAMES)


def test_what_fails_for_good_stands_in_the_images_place(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "RETRY_TIMEOUT_S", 0.3)
    write_sources(tmp_path)
    for name in NAMES:
        storage.upload(tmp_path / "images" / name, storage.join(bucket.url, name))
    rows = list(list_source(bucket.url))
    bucket.faults.plan = lambda count, method, path: Fault("busy") if "a%20b" in path else None
    items = read_many(rows)
    assert [isinstance(item, storage.RetriesExhausted) for item in items] == [
        row.image_id == "a b.png" for row in rows
    ]
    storage.remove(rows[1].uri)
    assert isinstance(read_many(rows)[1], FileNotFoundError)
