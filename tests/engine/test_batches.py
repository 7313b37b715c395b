"""Batches: how many images each model is given in a call, and what limits them."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest

from pad_pipeline.annotate.annotator import Annotator
from pad_pipeline.engine.batches import batch_size, fixed_size
from pad_pipeline.engine.config import AnnotateConfig, demo, paper
from pad_pipeline.engine.plan import plan
from pad_pipeline.engine.stages import segment_stage
from pad_pipeline.models import registry
from pad_pipeline.scenes.generator import generate_scene
from tests import fakes

LOADERS = {"tag": "load_tagger", "detect": "load_detector", "segment": "load_segmenter"}
NETWORKS = {
    "tag": lambda tagger: tagger.model.visual_encoder.embeddings,
    "detect": lambda detector: detector.model.model.backbone.conv_encoder.model.swin.embeddings,
    "segment": lambda segmenter: segmenter.model.vision_encoder,
}
"""The image encoder of each model: the part that every batch of images passes once."""


def with_batch_sizes(config: AnnotateConfig, *sizes: int) -> AnnotateConfig:
    """The config with the batch sizes of tag, detect and segment."""
    stages = {
        name: replace(getattr(config, name), batch_size=size)
        for name, size in zip(LOADERS, sizes, strict=True)
    }
    return replace(config, **stages)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """How many images each pass of the embedded models' image encoders holds, by stage."""
    sizes: dict[str, list[int]] = {name: [] for name in LOADERS}

    def watch(name: str, load) -> None:
        def loaded(*arguments, **options):
            model = load(*arguments, **options)
            NETWORKS[name](model).register_forward_pre_hook(
                lambda _module, inputs, keywords: sizes[name].append(
                    len(inputs[0] if inputs else keywords["pixel_values"])
                ),
                with_kwargs=True,
            )
            return model

        monkeypatch.setattr(registry, LOADERS[name], loaded)

    for name, loader in LOADERS.items():
        watch(name, getattr(registry, loader))
    return sizes


def scenes(number: int) -> list[np.ndarray]:
    """One scene so many times: the detector's passes hold images of one size only."""
    return [generate_scene(0).image] * number


def test_every_model_gets_batches_of_the_size_asked_for(passes: dict[str, list[int]]) -> None:
    config = with_batch_sizes(replace(demo(), device="cpu", chunk_size=64), 40, 36, 33)
    records = Annotator(config).annotate(scenes(40))
    assert all(record.status == "ok" for record in records)
    assert passes == {"tag": [40], "detect": [36, 4], "segment": [33, 7]}


def test_a_batch_never_spans_two_chunks(
    passes: dict[str, list[int]], caplog: pytest.LogCaptureFixture
) -> None:
    config = with_batch_sizes(replace(demo(), device="cpu", chunk_size=4), 64, 4, 3)
    with caplog.at_level(logging.WARNING, "pad_pipeline"):
        Annotator(config).annotate(scenes(6))
    assert passes == {"tag": [4, 2], "detect": [4, 2], "segment": [3, 1, 2]}
    [message] = [record.getMessage() for record in caplog.records]
    assert message == (
        "tag.batch_size=64 is above chunk_size=4: batches of 4 images instead, as a batch never "
        "spans two chunks"
    )


def test_each_stage_of_the_pools_and_of_the_service_keeps_to_the_chunk(
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = replace(paper(), device="cpu", layout="pools")
    with caplog.at_level(logging.WARNING, "pad_pipeline"):
        assert [spec.batch_size for spec in plan(config)] == [32, 16, 128, 8]
        assert not caplog.records
        small = replace(config, chunk_size=8)
        assert [spec.batch_size for spec in plan(small)] == [8, 8, 8, 8]
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "tag.batch_size=32 is above chunk_size=8",
        "detect.batch_size=16 is above chunk_size=8",
    ]
    assert batch_size(small, "segment") == 8


def test_the_segmenters_memory_limits_its_batches(caplog: pytest.LogCaptureFixture) -> None:
    class Small(fakes.FakeSegmenter):
        max_images = 3

    stage = segment_stage(Small(), batch_size=8, seconds={})
    assert stage.batch_size == 3
    assert "batches of 3 images instead of 8" in caplog.text
    assert segment_stage(fakes.FakeSegmenter(), batch_size=8, seconds={}).batch_size == 8


def test_batches_are_filled_up_to_the_next_half_of_the_full_size() -> None:
    assert [fixed_size(number, 8) for number in range(1, 9)] == [1, 2, 4, 4, 8, 8, 8, 8]
    assert [fixed_size(number, 5) for number in range(1, 6)] == [1, 2, 3, 5, 5]
    assert fixed_size(9, 8) == 9
    # what is left of a full size where memory runs out and it is halved again and again
    assert all(fixed_size(size, 32) == size for size in (32, 16, 8, 4, 2, 1))
