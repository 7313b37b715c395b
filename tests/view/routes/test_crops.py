"""The page of objects: every order and page of it, and the pictures."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from pad_pipeline.view.addresses import of_image
from pad_pipeline.view.crops import CropsQuery, list_crops
from pad_pipeline.view.source import DataSet
from tests.dataset.example import ellipse, example_records, record, region, write_dataset
from tests.view.html import page


def shown(client: TestClient, query: str) -> list[tuple[str, str]]:
    """(image, number) of the regions on a page."""
    found = page(client, f"/crops{query}")
    pattern = re.compile(r"/image/\d+%2F0*(\d+)\.png\?region=(\d+)")
    links = (pattern.fullmatch(link) for link in found.all("a", "href"))
    return [(match[1] or "0", match[2]) for match in links if match]


def test_regions_are_shown_in_the_order_asked_for(client: TestClient) -> None:
    assert shown(client, "") == [
        *(("6", "0"), ("0", "0"), ("4", "0"), ("4", "1"), ("3", "0"), ("0", "1")),
    ]
    assert shown(client, "?tag=apple") == [("0", "0"), ("3", "0")]
    assert shown(client, "?tag=apple&reverse=1") == [("3", "0"), ("0", "0")]
    assert shown(client, "?sort=area&min_score=0.6")[-1] == ("6", "0")
    assert shown(client, "?sort=iou")[0] == ("4", "0")
    assert shown(client, "?min_iou=0.9") == [("4", "0")]
    assert "no tag called" in page(client, "/crops?tag=nothing", 404).text
    assert "No region passes" in page(client, "/crops?min_area=99999").text
    assert "expected sort to be one of" in page(client, "/crops?sort=x", 400).text


@pytest.mark.parametrize("sort", ["score", "area", "iou"])
def test_pages_taken_together_are_the_whole_order(tmp_path: Path, sort: str) -> None:
    make = np.random.default_rng(1)
    records = [
        record(
            number,
            [
                region("a", ellipse(20, 15, *make.integers(2, 9, 2)), *make.random(2).round(1))
                for _ in range(4)
            ],
        )
        for number in range(30)
    ]
    index = DataSet(write_dataset(tmp_path / "data", records)).index
    key = {"score": "score", "area": "area", "iou": "predicted_iou"}[sort]
    for reverse in (False, True):
        rows = []
        for number in range(1, 19):
            query = CropsQuery.model_validate({"sort": sort, "reverse": reverse, "page": number})
            found, total, at = list_crops(index, query, 7)
            assert (total, at) == (120, number)
            rows += found
        places = [(r["position"], r["number"]) for r in rows]
        assert sorted(set(places)) == sorted(places)
        assert len(places) == 120
        sign = 1 if reverse else -1
        assert places == [
            (r["position"], r["number"])
            for r in sorted(rows, key=lambda r: (sign * r[key], r["position"], r["number"]))
        ]


def test_a_crop_holds_the_region_and_dims_the_rest(client: TestClient) -> None:
    name = example_records()[0].image_id
    crop, plain = (
        np.asarray(Image.open(io.BytesIO(client.get(address).content))).astype(int)
        for address in (
            of_image(name, "crop/0"),
            of_image(name, "crop/0", "dimmed=0"),
        )
    )
    assert crop.shape == plain.shape
    middle, corner = (crop.shape[0] // 2, crop.shape[1] // 2), (3, 3)
    assert np.abs(crop[middle] - plain[middle]).max() < 8
    assert plain[corner].max() - crop[corner].max() > 60
    assert client.get(of_image(name, "crop/9")).status_code == 404
