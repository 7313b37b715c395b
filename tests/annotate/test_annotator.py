"""Annotating in this process with tags and boxes that are given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pad_pipeline import storage
from pad_pipeline.annotate.annotator import Annotator
from pad_pipeline.engine.config import AnnotateConfig, DetectConfig, TagConfig, demo
from pad_pipeline.errors import UserError
from pad_pipeline.scenes.generator import generate_scene

NOT_LOADED = "a/model/that/is/not/there"


def with_boxes() -> AnnotateConfig:
    return replace(
        demo(),
        tag=TagConfig(model=NOT_LOADED),
        detect=DetectConfig(model=NOT_LOADED, from_="boxes"),
    )


def with_classes(**changes: object) -> AnnotateConfig:
    return replace(demo(), tag=TagConfig(model=NOT_LOADED, from_="classes"), **changes)


def test_classes_in_place_of_a_tagger() -> None:
    scene = generate_scene(3)
    words = sorted({*scene.tags})
    annotator = Annotator(with_classes(classes=", ".join(words)))
    [record] = annotator.annotate([scene.image])
    assert [(tag.tag, tag.score, tag.origin) for tag in record.tags] == [
        (word, 1.0, "classes") for word in words
    ]
    assert {region.tag for region in record.labels} <= set(words)
    assert record.status == "ok"
    # other words for one call
    [record] = annotator.annotate([scene.image], classes=words[:1])
    assert [tag.tag for tag in record.tags] == words[:1]
    assert annotator.annotate([scene.image], classes=f"{words[0]}.") == [record]


def test_boxes_in_place_of_tagger_and_detector() -> None:
    scene, other = generate_scene(3), generate_scene(4)
    annotator = Annotator(with_boxes())
    boxes = [(10, 20, 60, 70), {"bbox": (12, 20, 60, 71), "label": "cat", "score": 0.5}]
    first, second = annotator.annotate([scene.image, other.image], boxes=[boxes, []])
    assert [(one.tag, one.bbox, one.score) for one in first.labels] == [
        ("object", (10, 20, 60, 70), 1.0),
        ("cat", (12, 20, 60, 71), 0.5),
    ]
    assert [tag.tag for tag in first.tags] == ["object", "cat"]
    assert all(one.origin == "boxes" and one.area > 0 for one in first.labels)
    assert second.status == "empty"


def test_what_is_not_given_is_refused() -> None:
    image = generate_scene(3).image
    annotator = Annotator(with_boxes())
    with pytest.raises(UserError, match="no boxes are given for 0, and no detector is loaded"):
        annotator.annotate([image])
    with pytest.raises(UserError, match="image 0: box 1 has no area"):
        annotator.annotate([image], boxes=[[(5, 5, 5, 9)]])
    with pytest.raises(UserError, match="image 0: box 1 should be four numbers"):
        annotator.annotate([image], boxes=[["dog"]])
    with pytest.raises(ValueError, match="1 images, but 2 boxes"):
        annotator.annotate([image], boxes=[[], []])
    annotator = Annotator(with_classes())
    with pytest.raises(UserError, match="no classes are given for 0"):
        annotator.annotate([image])
    with pytest.raises(UserError, match="classes holds no words"):
        annotator.annotate([image], classes=[])


def test_what_is_asked_of_boxes_and_masks_reaches_the_models() -> None:
    image = generate_scene(3).image
    [plain] = Annotator(demo()).annotate([image])
    assert len(plain.labels) >= 2
    assert all(one.stability is None for one in plain.labels)
    best, *others = plain.labels
    detect = replace(
        demo().detect,
        second="embedded",
        negative=best.tag,
        thresholds=", ".join(f"{one.tag}=0" for one in others if one.tag != best.tag),
    )
    [record] = Annotator(replace(demo(), detect=detect, min_stability=0.01)).annotate([image])
    # the second detector is the first, so all boxes have its consent, and lower ones join them
    assert {one.tag for one in record.labels} == {one.tag for one in others} - {best.tag}
    assert all(0 < (one.stability or 0) <= 1 for one in record.labels)
    [record] = Annotator(replace(demo(), min_area=best.area, max_area=best.area)).annotate([image])
    assert best.area in {one.area for one in record.labels}
    assert {one.area for one in record.labels} == {best.area}
    [record] = Annotator(replace(demo(), min_predicted_iou=1.0)).annotate([image])
    assert record.status == "empty"


def test_images_in_every_form(tmp_path: Path) -> None:
    scene = generate_scene(3)
    picture = Image.fromarray(scene.image)
    path = tmp_path / "scene.png"
    picture.save(path)
    storage.write_atomic("memory://annotator/scene.png", path.read_bytes())
    config = with_boxes()
    forms = [scene.image, picture, path.read_bytes(), str(path), path]
    forms += ["memory://annotator/scene.png", "memory://annotator/gone.png", tmp_path / "gone.png"]
    forms += [Image.fromarray(np.zeros((4, 4), np.float32))]
    boxes = [[(10, 20, 60, 70)]] * len(forms)
    *same, no_url, no_file, no_pixels = Annotator(config).annotate(forms, boxes=boxes)
    assert [one.image_id for one in same] == [
        *("0", "1", "2", str(path), str(path), "memory://annotator/scene.png")
    ]
    assert [one.uri for one in same[3:]] == [one.image_id for one in same[3:]]
    assert len({(one.width, one.height, one.labels[0].rle_mask) for one in same}) == 1
    assert same[0].labels[0].mask.shape == scene.image.shape[:2]
    assert same[3].plot(picture).tobytes() == same[3].plot().tobytes()
    for one, stage in ((no_url, "read"), (no_file, "read"), (no_pixels, "decode")):
        assert one.error is not None
        assert one.error.stage == stage
    with pytest.raises(ValueError, match="image 1: the image is float64 of shape"):
        Annotator(config).annotate([scene.image, np.zeros((3, 3, 3))], boxes=[[], []])
