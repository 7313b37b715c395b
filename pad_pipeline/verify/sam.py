"""The tensors of a golden folder of SAM, made by our code, for `pad-pipeline models verify`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PillowImage
from safetensors.torch import load_file
from torch import Tensor

from pad_pipeline import masks
from pad_pipeline.models.base import Runtime
from pad_pipeline.models.protocols import Image
from pad_pipeline.models.sam.load import load_sam
from pad_pipeline.models.sam.segmenter import SamSegmenter


def golden_outputs(directory: Path, runtime: Runtime | None = None) -> dict[str, Tensor]:
    """The tensors that expected.safetensors of a golden folder names, `<case>.<output>`.

    Masks come from `SamSegmenter.segment`, all images in one call, as in a user's run. Outputs of
    which the folder keeps only the first boxes are given for all of them.
    """
    segmenter = load_sam(directory / "checkpoint.safetensors", runtime or Runtime())
    inputs = load_file(directory / "inputs.safetensors")
    cases = json.loads((directory / "expected.json").read_text())["cases"]
    images = {name: _read(directory / case["image"]) for name, case in cases.items()}
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


def _read(path: Path) -> Image:
    with PillowImage.open(path) as image:
        return np.asarray(image.convert("RGB"))
