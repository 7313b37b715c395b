"""Two data sets beside each other."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from starlette.testclient import TestClient

from pad_pipeline.view.addresses import of_image
from tests.dataset.example import example_records, write_dataset
from tests.view.html import page


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
