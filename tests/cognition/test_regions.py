from __future__ import annotations

import json
from pathlib import Path

import pytest

from pad_pipeline import masks
from pad_pipeline.cognition.regions import FrameRegion, named_regions, tagged_regions
from pad_pipeline.cognition.run import make_conversations
from pad_pipeline.dataset.reader import iter_records, open_dataset
from pad_pipeline.errors import UserError
from pad_pipeline.geometry import geometry
from tests.cognition.samples import entry, read_lines, small_config, write_model, write_source
from tests.train.scenes import write_annotations

PLACED = geometry("squash", 200, 100, 64)


def test_named_regions_share_the_frame_out() -> None:
    for name, number in (("whole", 1), ("halves", 4), ("quarters", 4)):
        regions = named_regions((name,), 64, 16)
        assert len(regions) == len({region.words for region in regions}) == number
        assert sum(r.width * r.height for r in regions) == 64**2 * (2 if name == "halves" else 1)
    assert named_regions(("quarters",), 64, 16)[2] == FrameRegion(
        "the lower left quarter of", 0, 32, 32, 64
    )


def test_a_size_that_codes_do_not_divide_is_refused() -> None:
    assert named_regions(("whole",), 48, 16)
    for name in ("halves", "quarters"):
        with pytest.raises(UserError, match=r"take a multiple of 32, such as 64"):
            named_regions((name,), 48, 16)
    with pytest.raises(UserError, match=r"take a multiple of 16, such as 16"):
        named_regions(("whole",), 8, 16)


def test_boxes_grow_to_whole_codes_of_the_frame() -> None:
    # 200 x 100 pixels on 64 x 64: x by 0.32, y by 0.64
    found = tagged_regions(["dog"], [(30.0, 30.0, 60.0, 50.0)], PLACED, 8)
    assert found == [FrameRegion("the part with the dog of", 8, 16, 24, 32)]


def test_boxes_that_a_tag_does_not_name_alone_or_that_lie_outside_are_left_out() -> None:
    boxes = [(0.0, 0.0, 50.0, 50.0), (100.0, 0.0, 150.0, 50.0), (190.0, 90.0, 260.0, 130.0)]
    found = tagged_regions(["dog", "dog", "cat"], boxes, PLACED, 8)
    assert found == [FrameRegion("the part with the cat of", 56, 56, 64, 64)]
    cropped = geometry("crop", 200, 100, 64)
    assert tagged_regions(["cat"], [(0.0, 0.0, 40.0, 40.0)], cropped, 8) == []


def test_masks_of_a_data_set_are_asked_about_by_their_tags(tmp_path: Path) -> None:
    dataset = write_annotations(tmp_path, 5)
    entries = [
        {
            "id": str(n),
            "image": f"{n:04d}.png",
            "conversations": [
                {"from": "human", "value": "<image>"},
                {"from": "gpt", "value": "A scene."},
            ],
        }
        for n in range(5)
    ]
    source = tmp_path / "source.json"
    source.write_text(json.dumps(entries))
    config = small_config(write_model(tmp_path), size=64, geometry="squash")
    arguments = {"images": str(tmp_path / "images"), "region_dataset": str(dataset)}
    report = make_conversations(str(source), str(tmp_path / "out"), config, **arguments)
    records = {record.image_id: record for record in iter_records(open_dataset(str(dataset)))}
    tagged = 0
    for line in read_lines(tmp_path / "out"):
        record = records[line["image"]]
        high = line["cognition"][0]
        tag = high["region"].removeprefix("the part with the ").removesuffix(" of")
        if tag == high["region"].removesuffix(" of"):
            continue
        tagged += 1
        [region] = [region for region in record.labels if region.tag == tag]
        mask = masks.decode(region.rle_mask, record.height, record.width)
        covered = geometry("squash", record.width, record.height, 64).coverage(mask, 8)
        x0, y0, x1, y1 = (side // 8 for side in high["box"])
        grid = covered.reshape(8, 8) > 0
        assert grid[y0:y1, x0:x1].sum() == grid.sum()  # all of it, in as few codes as can be
        assert grid[y0:y1, x0:x1].any(0).all()
        assert grid[y0:y1, x0:x1].any(1).all()
        assert high["grid"] == [y1 - y0, x1 - x0]
        question = line["conversations"][high["turn"]]["value"]
        assert f"the part with the {tag} of this image" in question
    assert tagged == report.counts.num_tagged > 2
    assert f"{tagged} about a tagged region" in report.lines()[1]


def test_a_data_set_of_other_images_is_named_and_the_regions_are_those_of_the_frame(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = write_annotations(tmp_path, 1)
    source = write_source(tmp_path / "in", [entry(7)], [7])
    config = small_config(write_model(tmp_path))
    report = make_conversations(
        str(source), str(tmp_path / "out"), config, region_dataset=str(dataset)
    )
    assert (report.counts.num_asked, report.counts.num_tagged) == (1, 0)
    assert "its ids are like '0000.png', theirs like '00007.png'" in caplog.text
