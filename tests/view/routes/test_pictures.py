"""Thumbnails, pictures and mask layers, and what stands in for a missing one."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from starlette.testclient import TestClient

from pad_pipeline.view.addresses import of_image
from tests.dataset.example import ellipse, example_records, record, region, write_dataset
from tests.view.conftest import open_client
from tests.view.html import page


def test_pictures_are_pictures(client: TestClient) -> None:
    one = example_records()[0]
    for kind, form in (("thumb", "JPEG"), ("picture", "JPEG"), ("annotated", "PNG")):
        answer = client.get(of_image(one.image_id, kind))
        image = Image.open(io.BytesIO(answer.content))
        assert image.format == form
        assert image.width / image.height == pytest.approx(40 / 30, rel=0.02)
    fill, rim = (
        Image.open(io.BytesIO(client.get(of_image(one.image_id, f"layer/0/{part}")).content))
        for part in ("fill", "rim")
    )
    assert fill.size == rim.size
    share = sum(fill.getchannel("A").histogram()[128:]) / (fill.width * fill.height)
    assert share == pytest.approx(one.labels[0].area / 1200, rel=0.03)
    assert client.get(of_image(one.image_id, "layer/9/fill")).status_code == 404


def test_a_picture_that_is_missing_is_shown_as_missing(data: Path) -> None:
    (data.parent / "images" / example_records()[0].image_id).unlink()
    client = open_client(data, images=str(data.parent / "images"))
    answer = client.get(of_image(example_records()[0].image_id, "thumb"))
    assert answer.status_code == 200
    assert answer.headers["x-picture"] == "missing"
    found = page(client, of_image(example_records()[0].image_id))
    assert "the image is not there" in found.text
    assert "--images" not in found.text  # the others are there


def test_a_damaged_mask_leaves_the_page_whole(tmp_path: Path) -> None:
    good = region("apple", ellipse(12, 10, 8, 7))
    one = record(0, [good, replace(good, rle_mask="!!!", tag="boat")], uri=str(tmp_path / "x.png"))
    Image.new("RGB", (40, 30)).save(tmp_path / "x.png")
    client = open_client(Path(write_dataset(tmp_path / "data", [one])))
    assert "boat" in page(client, of_image(one.image_id)).text
    assert client.get(of_image(one.image_id, "layer/1/fill")).headers["x-picture"] == "missing"
    assert "x-picture" not in client.get(of_image(one.image_id, "layer/0/fill")).headers
