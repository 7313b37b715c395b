"""The page of one image."""

from __future__ import annotations

import json
import re

from starlette.testclient import TestClient

from pad_pipeline.view.addresses import of_image
from tests.dataset.example import example_records
from tests.view.html import page


def test_the_page_of_an_image_has_all_of_its_record(client: TestClient) -> None:
    one = example_records()[4]
    found = page(client, of_image(one.image_id))
    for text in (one.image_id, one.caption, "0.70", "0.60", "1.00", "40 × 30 px", "2 regions"):
        assert text in found.text
    assert json.loads(client.get(of_image(one.image_id, "api/record")).text)["size"] == [40, 30]
    assert re.search(r'"rle_mask": "[^"]+"', found.text)
    boxes = [attrs for kind, attrs in found.elements if attrs.get("class") == "box"]
    assert len(boxes) == 2
    assert found.all("svg", "aria-label") == [one.caption]
    rels = {attrs["rel"]: attrs["href"] for kind, attrs in found.elements if "rel" in attrs}
    assert rels["prev"] == of_image(example_records()[3].image_id)
    assert rels["next"] == of_image(example_records()[5].image_id)
    filtered = page(client, of_image(one.image_id, query="tag=tree"))
    assert "1 of 1" in filtered.text
    assert not filtered.all("a", "rel")
