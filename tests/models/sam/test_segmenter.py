"""SAM's masks against the original's outputs, whatever the chunks, within bounded memory."""

from __future__ import annotations

import re
import weakref
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pad_pipeline.geometry import longest_side, squash
from pad_pipeline.models.base import Runtime
from pad_pipeline.models.sam import state_dict
from pad_pipeline.models.sam.load import build_sam, load_sam
from pad_pipeline.models.sam.segmenter import SamSegmenter
from pad_pipeline.verify.sam import golden_outputs
from tests.models.sam.helpers import NOT_READ_BY_INFERENCE, bits, differing, from_folder

TOLERANCE = 1e-4


def test_every_golden_tensor_is_made_and_agrees(sam_golden: SimpleNamespace) -> None:
    found = golden_outputs(sam_golden.folder)
    assert set(sam_golden.expected) <= set(found)
    for name, wanted in sam_golden.expected.items():
        ours = found[name]
        if name.endswith("_multi"):  # the folder keeps some boxes of these
            ours = ours[: len(wanted)]
        assert ours.shape == wanted.shape, name
        if name.endswith("masks_packed"):
            continue  # compared pixel by pixel in the next test
        difference = (ours.double() - wanted.double()).abs().max()
        assert difference <= (0 if wanted.dtype == torch.uint8 else TOLERANCE), name


def test_masks_are_the_originals_but_where_its_logit_is_near_zero(
    sam_golden: SimpleNamespace, sam_segmenter: SamSegmenter
) -> None:
    found = sam_segmenter.segment(sam_golden.images, sam_golden.boxes)
    for (name, case), regions in zip(sam_golden.cases.items(), found, strict=True):
        height, width = case["original_size_hw"]
        packed = sam_golden.expected[f"{name}.masks_packed"].numpy()
        wanted = np.unpackbits(packed, axis=1)[:, : height * width].reshape(-1, height, width)
        assert [(mask.height, mask.width) for mask in regions] == [(height, width)] * len(wanted)
        pixels = np.stack([bits(mask) for mask in regions])
        near_zero = case["pixels_with_abs_logit_below"]["1e-4"]
        assert (pixels != wanted).sum() <= near_zero
        assert [mask.area for mask in regions] == pixels.sum((1, 2)).tolist()
        np.testing.assert_allclose(
            [mask.predicted_iou for mask in regions],
            sam_golden.expected[f"{name}.iou_predictions"][:, 0],
            atol=TOLERANCE,
        )


def test_eager_attention_gives_the_same(
    sam_golden: SimpleNamespace, sam_segmenter: SamSegmenter
) -> None:
    eager = from_folder(sam_golden, attention="eager")
    layers = (eager.model.vision_encoder.layers, sam_segmenter.model.vision_encoder.layers)
    assert type(layers[0][0].attn) is not type(layers[1][0].attn)
    for name, image in zip(sam_golden.cases, sam_golden.images, strict=True):
        _, (embedding,) = eager.embed([image])
        wanted = sam_golden.expected[f"{name}.image_embedding"]
        assert (embedding - wanted).abs().max() <= TOLERANCE


@pytest.mark.parametrize("limits", [{"max_boxes": 1}, {"max_boxes": 4}, {"max_images": 1}])
def test_chunks_do_not_change_the_masks(
    sam_golden: SimpleNamespace, sam_segmenter: SamSegmenter, limits: dict[str, int]
) -> None:
    whole = sam_segmenter.segment(sam_golden.images, sam_golden.boxes)
    chunked = from_folder(sam_golden, **limits, max_pixels=1)
    found = chunked.segment(sam_golden.images, sam_golden.boxes)
    assert max(differing(found, whole)) < 1e-4


def test_images_without_boxes_have_no_masks_and_skip_the_encoder(
    sam_golden: SimpleNamespace, sam_segmenter: SamSegmenter
) -> None:
    none = np.zeros((0, 4), np.float32)
    batches: list[int] = []
    hook = sam_segmenter.model.vision_encoder.register_forward_hook(
        lambda _module, inputs, _output: batches.append(len(inputs[0]))
    )
    first, last = sam_golden.images[0], sam_golden.images[-1]
    found = sam_segmenter.segment([first, last, first], [none, sam_golden.boxes[-1], none])
    assert sam_segmenter.segment([first], [none]) == [[]]
    assert sam_segmenter.segment([], []) == []
    hook.remove()
    assert batches == [1]
    assert [len(regions) for regions in found] == [0, len(sam_golden.boxes[-1]), 0]


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (3, 2000)])
def test_images_of_odd_shapes_have_masks(
    size: tuple[int, int], sam_segmenter: SamSegmenter
) -> None:
    image = np.random.default_rng(3).integers(0, 256, (*size, 3), np.uint8)
    boxes = np.array([[0, 0, size[1], size[0]], [-5, -5, 1, 1]], np.float32)
    ((first, second),) = sam_segmenter.segment([image], [boxes])
    assert bits(first).shape == bits(second).shape == size


def test_numbers_that_overflow_are_an_error_not_an_empty_mask(sam_golden: SimpleNamespace) -> None:
    broken = from_folder(sam_golden)
    broken.model.vision_encoder.neck.conv1.weight.data.mul_(float("inf"))
    with pytest.raises(FloatingPointError, match="overflow float32"):
        broken.segment(sam_golden.images[:1], sam_golden.boxes[:1])


class LiveBytes(TorchDispatchMode):
    """Follows how many bytes of tensors made inside it are alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._holders: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                key, size = storage._cdata, storage.nbytes()
                if key not in self._holders:
                    self._holders[key] = 0
                    self.live += size
                self._holders[key] += 1
                weakref.finalize(tensor, self._drop, key, size)
        self.peak = max(self.peak, self.live)
        return result

    def _drop(self, key: int, size: int) -> None:
        self._holders[key] -= 1
        if not self._holders[key]:
            del self._holders[key]
            self.live -= size


def test_memory_does_not_grow_with_the_number_of_boxes(sam_golden: SimpleNamespace) -> None:
    bounded = from_folder(
        sam_golden, max_boxes=16, max_pixels=4 * sam_golden.config["img_size"] ** 2
    )
    image = sam_golden.images[0]
    corners = np.random.default_rng(0).uniform(0, 120, (500, 2, 2)).astype(np.float32)
    boxes = np.concatenate([corners.min(1), corners.max(1) + 5], axis=1)
    decoded: list[int] = []
    bounded.model.mask_decoder.register_forward_hook(
        lambda _module, _inputs, output: decoded.append(len(output[0]))
    )
    peaks = []
    for count in (32, 500):
        with LiveBytes() as tracer:
            (found,) = bounded.segment([image], [boxes[:count]])
        assert len(found) == count
        peaks.append(tracer.peak)
    assert max(decoded) == 16
    assert sum(decoded) == 532
    assert peaks[1] <= 1.05 * peaks[0]


def test_what_inference_does_not_read_is_the_written_list(sam_golden: SimpleNamespace) -> None:
    listed = set(sam_golden.config["keys_not_used_with_box_prompts_and_single_mask"])
    matched = {
        key
        for key in sam_golden.checkpoint
        if any(re.fullmatch(pattern, key) for pattern in NOT_READ_BY_INFERENCE)
    }
    assert matched == listed
    spoilt = {
        key: torch.full_like(tensor, float("nan")) if key in listed else tensor
        for key, tensor in sam_golden.checkpoint.items()
    }
    config = state_dict.config_from_golden(sam_golden.config, spoilt, source="test")
    found = SamSegmenter(build_sam(config, spoilt, source="test"), Runtime()).segment(
        sam_golden.images, sam_golden.boxes
    )
    assert [len(regions) for regions in found] == [len(boxes) for boxes in sam_golden.boxes]
    assert np.isfinite([mask.predicted_iou for regions in found for mask in regions]).all()


def test_bfloat16_stays_near_float32(
    sam_golden: SimpleNamespace, sam_segmenter: SamSegmenter
) -> None:
    half = load_sam(sam_golden.folder / "checkpoint.safetensors", Runtime(dtype="bfloat16"))
    assert half.model.vision_encoder.patch_embed.projection.weight.dtype == torch.bfloat16
    assert half.model.mask_decoder.iou_token.weight.dtype == torch.float32
    found = half.segment(sam_golden.images, sam_golden.boxes)
    assert max(differing(found, sam_segmenter.segment(sam_golden.images, sam_golden.boxes))) < 0.1


def test_sizes_round_as_the_originals_and_never_to_zero(sam_golden: SimpleNamespace) -> None:
    for case in sam_golden.cases.values():
        height, width = case["original_size_hw"]
        frame = longest_side(width, height, sam_golden.config["img_size"])
        assert list(frame.content[::-1]) == case["input_size_hw"]
    assert longest_side(4000, 1, 1024).content == (1024, 1)
    assert squash(50, 30, 1024).content == (1024, 1024)
