"""Two chunks in flight on a GPU: the same records, and one upload for each image."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from pad_pipeline.annotate.annotator import to_sample
from pad_pipeline.engine.build import build_chain
from pad_pipeline.engine.config import demo
from pad_pipeline.engine.lanes import Lanes, open_lanes
from pad_pipeline.engine.sample import to_record
from pad_pipeline.models import device_image
from pad_pipeline.records import PadRecord
from pad_pipeline.scenes.generator import generate_scene


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_two_chunks_in_flight_have_the_records_of_one(dtype) -> None:
    config = replace(demo(), device="cuda", dtype=dtype)
    lanes = Lanes(open_lanes(partial(build_chain, config), 2, lambda seconds: lambda *work: None))
    images = [generate_scene(seed).image for seed in range(16)]
    # sizes of their own, so that what is kept by size is made anew on both streams
    images = [np.ascontiguousarray(image[: 190 + k]) for k, image in enumerate(images)]

    def run(first: int) -> list[PadRecord]:
        chunk = [to_sample(k, images[k]) for k in range(first, first + 4)]
        with lanes.take() as use:
            return [to_record(sample) for sample in use.lane.stage(chunk)]

    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(run, [0, 4, 8, 12] * 8))
    alone = [run(first) for first in (0, 4, 8, 12)]
    assert together == alone * 8
    assert any(record.labels for records in alone for record in records)


def test_the_models_of_a_worker_share_the_upload_of_an_image(monkeypatch) -> None:
    uploads: list[tuple[int, ...]] = []
    upload = device_image.upload

    def count(values: np.ndarray, device: torch.device) -> torch.Tensor:
        if values.dtype == np.uint8:
            uploads.append(values.shape)
        return upload(values, device)

    monkeypatch.setattr(device_image, "upload", count)
    chain = build_chain(replace(demo(), device="cuda", dtype="float32"), {})
    image = generate_scene(0).image
    [done] = chain([to_sample(0, encode(image))])
    assert done.masks
    assert uploads == [image.shape]


def encode(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()
