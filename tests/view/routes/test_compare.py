"""Two data sets beside each other."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from starlette.testclient import TestClient

from pad_pipeline.review.log import review_url
from pad_pipeline.view.addresses import of_image
from tests.dataset.example import ellipse, example_records, region, write_dataset
from tests.view.conftest import open_client
from tests.view.html import page
from tests.view.truth import write_truth


def test_two_data_sets_are_compared(client: TestClient, tmp_path: Path) -> None:
    assert "without" not in page(client, "/compare").text
    stricter = [
        replace(one, labels=tuple(label for label in one.labels if label.score >= 0.5))
        for one in example_records()[:6]
    ]
    other = write_dataset(tmp_path / "other", stricter)
    found = page(client, f"/compare?other={other}")
    assert re.search(r"6\s+images in both", found.text)
    assert re.search(r"1\s+of them differ", found.text)
    assert "1 only here" in found.text
    marked = [attrs for _, attrs in found.elements if "marked" in (attrs.get("class") or "")]
    assert len(marked) == 1
    # Each side shows its own masks: that of the region which only one has is on one picture.
    address = of_image(example_records()[0].image_id, "thumb")
    pictures = [link for link in found.all("img", "src") if link.startswith(address)]
    here, there = (np.asarray(Image.open(io.BytesIO(client.get(p).content))) for p in pictures)
    assert here.shape == there.shape
    assert (np.abs(here.astype(int) - there).max(axis=2) > 20).mean() > 0.01
    assert "1–5 of 5" in page(client, f"/compare?other={other}&show=same").text
    one = page(client, f"/compare?other={other}&image={example_records()[0].image_id}")
    assert "sail boat" in one.text
    assert "nothing is there" in page(client, "/compare?other=/nowhere", 400).text
    # Another web site gets no folder of this machine read.
    answer = client.get(f"/compare?other={other}", headers={"sec-fetch-site": "cross-site"})
    assert "images in both" not in answer.text


def agreement(client: TestClient, address: str) -> tuple[int, int, str]:
    """(images in both, those that differ, regions without a counterpart here / there)"""
    text = " ".join(page(client, address).text.split())
    both, differ, alone = (
        re.search(pattern, text)
        for pattern in (
            r"(\d+) images in both",
            r"(\d+) of them differ",
            r"(\d+ / \d+) regions without",
        )
    )
    assert both
    assert differ
    assert alone
    return int(both[1]), int(differ[1]), alone[1]


def test_masks_are_compared_as_well_as_boxes(client: TestClient, tmp_path: Path) -> None:
    changed = []
    for number, one in enumerate(example_records()):
        labels = list(one.labels)
        if number == 0:  # the same box, another mask
            halved = ellipse(12, 10, 8, 7)
            halved[10:, :12] = halved[:10, 12:] = False
            labels[0] = replace(labels[0], rle_mask=region("", halved).rle_mask)
        if number == 3:
            labels[0] = replace(labels[0], rle_mask="~~")
        changed.append(replace(one, labels=tuple(labels)))
    other = write_dataset(tmp_path / "other", changed)
    assert agreement(client, f"/compare?other={other}&iou=1") == (7, 0, "0 / 0")
    assert agreement(client, f"/compare?other={other}&by=masks") == (7, 2, "2 / 2")
    assert "1 pair of regions with a mask" in page(client, f"/compare?other={other}&by=masks").text
    assert agreement(client, f"/compare?other={other}&by=masks&iou=0.4") == (7, 1, "1 / 1")
    assert "expected iou between" in page(client, f"/compare?other={other}&iou=0", 400).text


def test_a_coco_file_is_either_side(client: TestClient, tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "truth.json")
    assert agreement(client, f"/compare?other={truth}") == (6, 4, "3 / 3")
    assert "missing" not in client.get(f"/compare?other={truth}").text
    images = [
        {"id": n + 1, "file_name": one.image_id.rpartition("/")[2], "width": 40, "height": 30}
        for n, one in enumerate(example_records()[:6])
    ]
    flat = write_truth(tmp_path / "flat.json", images=images)  # names without their folders
    assert agreement(client, f"/compare?other={flat}") == (6, 4, "3 / 3")
    here = open_client(truth)
    assert agreement(here, f"/compare?other={flat}&by=masks&iou=1") == (6, 0, "0 / 0")
    assert "1–6 of 6" in page(here, "/").text
    assert review_url(truth, None) == str(tmp_path / "truth_review.jsonl")
    (tmp_path / "odd.json").write_text('{"licenses": []}')
    odd = page(client, f"/compare?other={tmp_path / 'odd.json'}", 400).text
    assert "names no image" in odd
    assert "nothing is there" in page(client, "/compare?other=/nowhere.json", 400).text
