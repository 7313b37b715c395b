"""Images go to a device once, whichever models read them there; a CPU stands in for the device."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pad_pipeline.models import device_image, registry, resize
from pad_pipeline.models.base import Runtime
from pad_pipeline.models.device_image import DeviceImage, pixels_on
from pad_pipeline.scenes.generator import generate_scene


@pytest.fixture
def uploads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of all images that are uploaded; images are resized on the device."""
    shapes: list[tuple[int, ...]] = []
    upload = device_image.upload

    def count(values: np.ndarray, device: torch.device) -> torch.Tensor:
        if values.dtype == np.uint8:
            shapes.append(values.shape)
        return upload(values, device)

    monkeypatch.setattr(device_image, "upload", count)
    monkeypatch.setattr(resize, "resizes_on", lambda device: True)
    return shapes


def test_three_models_share_the_one_upload_of_an_image(uploads: list[tuple[int, ...]]) -> None:
    arrays = [generate_scene(seed).image for seed in range(2)]
    tagger, detector, segmenter = (
        getattr(registry, f"load_{role}")("embedded", Runtime())
        for role in ("tagger", "detector", "segmenter")
    )

    def run(images: list[np.ndarray]) -> list:
        tags = tagger.tag(images)
        boxes = detector.detect(images, [[tag.tag for tag in of_image] for of_image in tags])
        return [tags, segmenter.segment(images, [of_image.xyxy for of_image in boxes])]

    shared = run([array.view(DeviceImage) for array in arrays])
    assert uploads == [array.shape for array in arrays]
    uploads.clear()
    assert run(arrays) == shared
    assert len(uploads) == 6


def test_what_is_made_of_an_image_has_no_copy_of_it(uploads: list[tuple[int, ...]]) -> None:
    image = np.arange(60, dtype=np.uint8).reshape(4, 5, 3).view(DeviceImage)
    assert pixels_on(image, "cpu") is pixels_on(image, "cpu")
    for other in (image[::-1], image.copy(), image + np.uint8(1)):
        assert np.array_equal(pixels_on(other, "cpu").numpy(), other)
    assert len(uploads) == 4


def test_an_image_is_uploaded_as_it_was(uploads: list[tuple[int, ...]]) -> None:
    image = np.arange(60, dtype=np.uint8).reshape(4, 5, 3).copy()
    copy = pixels_on(image.view(DeviceImage), "cpu")
    image[:] = 0
    assert copy.tolist() == np.arange(60).reshape(4, 5, 3).tolist()
