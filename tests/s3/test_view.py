"""The viewer on a data set and images behind S3: the same pages, masks and pictures."""

from __future__ import annotations

from pathlib import Path

from pad_pipeline import storage
from pad_pipeline.dataset.stats import compute_stats
from pad_pipeline.view.addresses import of_image
from tests.dataset.example import example_records, write_dataset, write_images
from tests.s3.conftest import Bucket
from tests.view.conftest import open_client


def upload(folder: Path, url: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            storage.write_atomic(storage.join(url, name), path.read_bytes())


def test_pages_masks_and_pictures_come_from_the_bucket(
    bucket: Bucket, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("PAD_CACHE", str(tmp_path / "cache"))
    records = example_records()
    write_dataset(tmp_path / "data", records)
    write_images(tmp_path / "images", records)
    for name in ("data", "images"):
        upload(tmp_path / name, f"{bucket.url}/{name}")
    client = open_client(f"{bucket.url}/data", images=f"{bucket.url}/images")
    grid = client.get("/")
    assert "1–7 of 7" in grid.text
    assert "cannot be read" not in grid.text
    image_id = records[0].image_id
    assert records[0].labels[0].rle_mask in client.get(of_image(image_id, "api/record")).text
    for kind in ("thumb", "picture", "layer/0/fill"):
        answer = client.get(of_image(image_id, kind))
        assert answer.status_code == 200
        assert "x-picture" not in answer.headers, kind
    assert client.get("/api/records?tag=apple").json()["total"] == 2
    assert (
        client.get("/healthz").json()["regions"] == compute_stats(f"{bucket.url}/data").num_regions
    )
