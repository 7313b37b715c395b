"""PAD JSON."""

from __future__ import annotations

import json

from pad_pipeline import masks
from pad_pipeline.export.formats import export
from tests.dataset.example import (
    HEIGHT,
    WIDTH,
    example_records,
)


def test_pad_json_is_table_9(url, tmp_path):
    dest = tmp_path / "out" / "pad.json"
    report = export(url, str(dest), "pad-json")
    assert (report.num_images, report.num_regions, report.left_out) == (6, 6, {"failed": 1})
    assert report.state == "finished"
    rows = json.loads(dest.read_text(encoding="utf-8"))
    wanted = [one for one in example_records() if one.status != "failed"]
    assert [row["image_id"] for row in rows] == [one.image_id for one in wanted]
    for row, one in zip(rows, wanted, strict=True):
        assert list(row) == ["image_id", "size", "caption", "labels"]
        assert row["size"] == [WIDTH, HEIGHT]
        assert row["caption"] == (one.caption or "")
        for label, source in zip(row["labels"], one.labels, strict=True):
            assert list(label) == ["tag", "bbox", "rle_mask"]
            assert label["bbox"] == list(source.bbox)
            mask = masks.decode(label["rle_mask"], row["size"][1], row["size"][0])
            assert mask.sum() == source.area
    assert "çay — bardağı" in dest.read_text(encoding="utf-8")
