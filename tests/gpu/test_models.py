"""The models on a GPU: as the original in float32, as good in bfloat16 and compiled."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from pad_pipeline.annotate.annotator import Annotator
from pad_pipeline.engine.config import demo
from pad_pipeline.models.base import Runtime
from pad_pipeline.models.constants import Constants
from pad_pipeline.models.grounding_dino.deformable_attention import Levels, sample_points_with_torch
from pad_pipeline.models.grounding_dino.encode import encode_images
from pad_pipeline.models.grounding_dino.forward import detect_pairs
from pad_pipeline.models.grounding_dino.phrases import encode_texts
from pad_pipeline.models.grounding_dino.prompts import build_prompts
from pad_pipeline.models.registry import load_detector
from pad_pipeline.models.resize import resize_uint8, resize_with_pillow
from pad_pipeline.records import PadRecord
from pad_pipeline.resampling import Filter
from pad_pipeline.scenes.generator import Scene, generate_scene
from pad_pipeline.scenes.quality import Quality, measure
from pad_pipeline.scenes.writer import HELD_OUT_SEED
from pad_pipeline.verify.records import SHIPPED
from pad_pipeline.verify.run import verify
from tests.golden_data import golden_dir

MODELS = ["ram_tiny", "ram_plus_tiny", "gdino_tiny", "sam_tiny", "pipeline_e2e", "preprocess"]
NUM_SCENES = 32


@pytest.mark.parametrize("name", MODELS)
def test_recorded_outputs_of_the_original_pass_on_the_gpu(name: str) -> None:
    rows = verify(golden_dir(name), runtime=Runtime("cuda"))
    wrong = [row for row in rows if not row.ok]
    assert wrong == [], "\n".join(map(str, wrong))


def test_the_embedded_models_find_on_the_gpu_what_is_recorded() -> None:
    rows = verify(SHIPPED, runtime=Runtime("cuda"))
    wrong = [row for row in rows if not row.ok]
    assert wrong == [], "\n".join(map(str, wrong))


@pytest.mark.parametrize("filter", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(480, 640), (1, 900), (2500, 3100)])
def test_the_gpu_resizes_as_pillow_does(filter: Filter, shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).choice(np.array([0, 255], np.uint8), size=(*shape, 3))
    for size in (384, 1024):
        by_gpu = resize_uint8(noise, size, size, filter, "cuda")
        assert by_gpu.is_cuda
        assert torch.equal(by_gpu.cpu(), resize_with_pillow(noise, size, size, filter))


@pytest.mark.parametrize("sides", [2, 4])
@pytest.mark.parametrize(("heads", "width", "levels"), [(8, 32, 4), (4, 24, 3)])
def test_the_deformable_kernel_reads_what_torch_reads(
    sides: int, heads: int, width: int, levels: int
) -> None:
    from pad_pipeline.models.grounding_dino.deformable_triton import sample_points

    shapes = [(37, 50), (19, 25), (10, 13), (1, 2)][:levels]
    where, points, rows, queries = torch.device("cuda"), 4, 3, 77
    maps = Levels.of(shapes, where)
    random = torch.Generator("cuda").manual_seed(0)
    draw = partial(torch.randn, generator=random, device=where)
    values = draw(rows, sum(h * w for h, w in shapes), heads * width)
    offsets = 20 * draw(rows, queries, heads, levels, points, 2)  # many lie outside
    attention = draw(rows, queries, heads, levels, points)
    reference = draw(rows, queries, levels, sides).sigmoid()
    ours = sample_points(values, offsets, attention, reference, maps.starts, maps.sizes)
    by_torch = sample_points_with_torch(values, offsets, attention, reference, maps)
    assert by_torch.abs().max() > 0.1
    torch.testing.assert_close(ours, by_torch, atol=1e-5, rtol=1e-5)


def test_a_pass_of_the_detector_waits_for_nothing_but_its_answers(scenes: list[Scene]) -> None:
    detector: Any = load_detector("embedded", Runtime("cuda", "bfloat16"))
    size = detector.input_size(*scenes[0].image.shape[:2])
    alike = [s for s in scenes if detector.input_size(*s.image.shape[:2]) == size]
    images, tags = [scene.image for scene in alike], [scene.tags for scene in alike]
    detector.detect(images, tags)  # what is kept from here on is waited for once
    prompts = [build_prompts(names, detector.tokenizer)[0] for names in tags]
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.inference_mode():
            encoded = encode_images(detector.network, detector.pixels(images))
            texts = encode_texts(detector.network, [prompt.token_ids for prompt in prompts])
            logits, boxes = detect_pairs(detector.network, encoded, texts)
            detector.score(prompts, logits, boxes)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_what_one_stream_makes_another_may_read() -> None:
    kept: Constants[torch.Tensor] = Constants(2**20)
    streams = [torch.cuda.Stream() for _ in range(2)]
    for key in range(64):
        found = []
        for stream in streams:
            with torch.cuda.stream(stream):
                value = kept.get(key, lambda key=key: slowly(key))
                found.append((value + 0).sum())
        torch.cuda.synchronize()
        assert [int(total) for total in found] == [1024 * key] * 2


def slowly(number: int) -> torch.Tensor:
    """1,024 times `number`, which are there some milliseconds after the call."""
    torch.cuda._sleep(10_000_000)
    return torch.full((1024,), number, device="cuda")


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [generate_scene(HELD_OUT_SEED + index) for index in range(NUM_SCENES)]


@pytest.fixture(scope="module")
def by_cpu(scenes: list[Scene]) -> list[PadRecord]:
    return annotate(scenes, device="cpu", dtype="float32")


@pytest.fixture(autouse=True)
def memory_given_back() -> Iterator[None]:
    yield
    gc.collect()
    torch.cuda.empty_cache()


def annotate(scenes: list[Scene], **options: object) -> list[PadRecord]:
    annotator = Annotator(replace(demo(), **options))  # pyright: ignore[reportArgumentType]
    return annotator.annotate([scene.image for scene in scenes])


def test_in_float32_the_records_are_those_of_the_cpu(
    scenes: list[Scene], by_cpu: list[PadRecord]
) -> None:
    by_gpu = annotate(scenes, device="cuda", dtype="float32")
    for ours, theirs in zip(by_gpu, by_cpu, strict=True):
        assert ours.error is None
        assert [tag.tag for tag in ours.tags] == [tag.tag for tag in theirs.tags]
        assert [region.tag for region in ours.labels] == [region.tag for region in theirs.labels]
        for mine, other in zip(ours.labels, theirs.labels, strict=True):
            assert mine.bbox == pytest.approx(other.bbox, abs=0.5)
            assert mine.score == pytest.approx(other.score, abs=0.01)
            assert mine.area == pytest.approx(other.area, rel=0.02, abs=8)


@pytest.mark.parametrize("compiled", [False, True])
def test_bfloat16_finds_as_much_as_float32(
    scenes: list[Scene], by_cpu: list[PadRecord], compiled: bool
) -> None:
    exact = measure(by_cpu, scenes)
    found = measure(annotate(scenes, device="cuda", dtype="bfloat16", compile=compiled), scenes)
    assert figures(found) == pytest.approx(figures(exact), abs=0.02)


def figures(quality: Quality) -> list[float]:
    return [quality.tag_f1, quality.ap50, quality.mask_iou]


def test_without_memory_images_fail_by_name_and_with_it_they_are_found(
    scenes: list[Scene], by_cpu: list[PadRecord], caplog: pytest.LogCaptureFixture
) -> None:
    annotator = Annotator(replace(demo(), device="cuda", dtype="float32"))
    images = [scene.image for scene in scenes]
    taken = fill_all_but(mib=24)
    starved = annotator.annotate(images)
    del taken
    torch.cuda.empty_cache()
    assert "out of memory with a batch of" in caplog.text
    failed = [record.error for record in starved if record.error is not None]
    assert failed
    assert {error.type for error in failed} == {"OutOfMemoryError"}
    for ours, theirs in zip(annotator.annotate(images), by_cpu, strict=True):
        assert ours.error is None
        assert [region.tag for region in ours.labels] == [region.tag for region in theirs.labels]


def fill_all_but(mib: int) -> list[torch.Tensor]:
    """Takes the GPU's memory but for a rest."""
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    return [torch.empty(free - mib * 2**20, dtype=torch.uint8, device="cuda")]
