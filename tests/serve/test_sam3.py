"""The service around a SAM 3: presence in its answers, and no boxes for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pad_pipeline.engine.build import build_chain
from pad_pipeline.engine.config import sam3
from pad_pipeline.engine.sample import Sample
from tests.models.sam3 import tiny
from tests.serve.service import Service, cause, play, png


def test_answers_have_masks_and_presence_and_boxes_are_refused(tmp_path: Path) -> None:
    preset = sam3()
    model = str(tiny.write_model(tmp_path))
    config = replace(
        preset,
        tag=replace(preset.tag, from_="classes"),
        detect=replace(preset.detect, model=model, box_threshold=0.3),
        device="cpu",
        dtype="float32",
    )
    stages = build_chain(config, {})

    async def annotate(sample: Sample) -> Sample:
        return stages([sample])[0]

    async def scenario(service: Service):
        fields = {"classes": "dog, red car"}
        found = await service.post(content=png(), params=fields)
        boxes = await service.post(content=png(), params=fields | {"boxes": "[[1, 2, 9, 9]]"})
        return found, boxes, await service.post(content=png())

    found, boxes, untagged = play(scenario, annotate, config=config, timeout_s=25.0)
    record = found.json()
    assert found.status_code == 200, record
    assert [(tag["tag"], tag["presence"] > 0) for tag in record["tags"]] == [
        ("dog", True),
        ("red car", True),
    ]
    assert record["labels"]
    assert all(label["rle_mask"] for label in record["labels"])
    assert cause(boxes) == cause(untagged) == (422, "bad_parameter")
    assert "no segmenter is loaded that finds their masks" in boxes.text
