"""SAM against a golden folder: every tensor, and the masks pixel by pixel."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from pad_pipeline import masks
from pad_pipeline.models.base import Runtime
from pad_pipeline.models.protocols import Image
from pad_pipeline.models.sam.load import load_sam
from pad_pipeline.models.sam.segmenter import SamSegmenter
from pad_pipeline.verify.rows import (
    VerifyRow,
    compare,
    compare_all,
    compare_packed_masks,
    read_image,
    read_json,
)


def check_sam(directory: Path, tolerance: float, runtime: Runtime) -> list[VerifyRow]:
    """SAM: every tensor of every image, and the masks of a call of `segment`, pixel by pixel."""
    cases: Mapping[str, Any] = read_json(directory / "expected.json")["cases"]
    sizes = {name: tuple(case["original_size_hw"]) for name, case in cases.items()}

    def packed(name: str, found: Any, wanted: Tensor) -> VerifyRow:
        size = sizes[name.removesuffix(".masks_packed")]
        return compare_packed_masks(name, found, wanted, [size] * len(wanted))

    def grey_levels(name: str, found: Any, wanted: Tensor) -> VerifyRow:
        return compare(name, found.float(), wanted.float(), 1.0, "grey levels")

    def first_boxes(name: str, found: Any, wanted: Tensor) -> VerifyRow:
        return compare(name, found[: len(wanted)], wanted, tolerance)

    return compare_all(
        golden_outputs(directory, runtime),
        load_file(directory / "expected.safetensors"),
        tolerance,
        special={
            ".masks_packed": packed,
            ".resized_image_u8": grey_levels,
            "_multi": first_boxes,
            "_first2": first_boxes,
        },
    )


def golden_outputs(directory: Path, runtime: Runtime | None = None) -> dict[str, Tensor]:
    """The tensors that expected.safetensors of a golden folder names, `<case>.<output>`.

    Masks come from `SamSegmenter.segment`, all images in one call, as in a user's run. Outputs of
    which the folder keeps only the first boxes are given for all of them.
    """
    segmenter = load_sam(directory / "checkpoint.safetensors", runtime or Runtime())
    inputs = load_file(directory / "inputs.safetensors")
    cases = read_json(directory / "expected.json")["cases"]
    images = {name: read_image(directory / case["image"]) for name, case in cases.items()}
    boxes = {name: inputs[f"{name}.boxes"].numpy() for name in cases}
    outputs: dict[str, Tensor] = {}
    for name, image in images.items():
        for output, tensor in _tensors(segmenter, image, boxes[name]).items():
            outputs[f"{name}.{output}"] = tensor
    found = segmenter.segment(list(images.values()), list(boxes.values()))
    for name, regions in zip(images, found, strict=True):
        bits = [masks.decode(mask.counts, mask.height, mask.width).ravel() for mask in regions]
        outputs[f"{name}.masks_packed"] = torch.from_numpy(np.packbits(np.stack(bits), axis=1))
    return outputs


@torch.inference_mode()
def _tensors(
    segmenter: SamSegmenter, image: Image, boxes_xyxy: NDArray[np.float32]
) -> dict[str, Tensor]:
    model: Any = segmenter.model
    blocks: list[Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda _module, _inputs, output: blocks.append(output))
        for layer in model.vision_encoder.layers
    ]
    (frame,), features = segmenter.embed([image])
    for hook in hooks:
        hook.remove()
    boxes = frame.to_frame(boxes_xyxy, np.float32)
    prompts = torch.from_numpy(boxes).to(segmenter.runtime.device)
    sparse, dense = model.prompt_encoder(None, None, prompts[:, None], None)
    of_image = np.zeros(len(boxes), np.int64)
    low_res, predicted_iou = segmenter.decode(features, of_image, boxes)
    low_res_multi, predicted_iou_multi = segmenter.decode(features, of_image, boxes, True)
    return {
        **{f"encoder_block{index}": block for index, block in enumerate(blocks)},
        "resized_image_u8": segmenter.resize(image, frame).permute(1, 2, 0),
        "image_embedding": features[0],
        "dense_pe": model.get_image_wide_positional_embeddings(),
        "transformed_boxes": torch.from_numpy(boxes),
        "sparse_prompt": sparse[:, 0],
        "dense_prompt_first": dense[:1],
        "low_res_masks": low_res,
        "low_res_masks_multi": low_res_multi,
        "iou_predictions": predicted_iou,
        "iou_predictions_multi": predicted_iou_multi,
        "mask_logits_first2": segmenter.upsample(low_res[:2], frame),
    }
