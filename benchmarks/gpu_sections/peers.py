"""The same weights as others run them: the public script's way, and transformers in batches.

The public script (RAM, Grounding DINO, SAM: Grounded-SAM's notebook for automatic labels) takes one
image at a time: Pillow resizes, the networks run in float32, NumPy and the GPU wait for each other.
Its code cannot be had here; these are transformers' networks and processors called in its order,
and this project's RAM, which is the original's network. Batches are what transformers offers beyond
that: images padded to the largest, prompts padded to the longest, boxes padded to the most. Both
end where the chain ends: JPEG bytes in, boxes after suppression, masks as run lengths out.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    GroundingDinoForObjectDetection,
    GroundingDinoProcessor,
    SamModel,
    SamProcessor,
)

from gpu_sections import weights, workload
from gpu_sections.bars import find
from gpu_sections.bench import Bench, Row, Rows
from gpu_sections.workload import Mixture
from pad_pipeline.boxes import nms
from pad_pipeline.models.base import Runtime
from pad_pipeline.models.ram.load import load_ram
from pad_pipeline.models.ram.tagger import RamTagger

TEXT_THRESHOLD, IOU_THRESHOLD = 0.2, 0.5
"""The public script's."""

BOX_THRESHOLD, TINY_THRESHOLD = 0.355, 0.25
"""The script's is 0.25. It scores a box by its best token, the chain by the mean of its best tag's;
with the benchmark's weights, 0.355 leaves the peers as many boxes as 0.25 leaves the chain (4.1 on
average of the seven images of `weights`), so that nobody has more masks to make."""

BATCH, TINY_BATCH = 8, 2
NUM_IMAGES, TINY_IMAGES = 24, 2

CASES: tuple[tuple[str, str, Mixture, bool], ...] = (
    ("public script, float32, web", "float32", "web", False),
    ("batches, bfloat16, web", "bfloat16", "web", True),
    ("public script, bfloat16, web", "bfloat16", "web", False),
    ("batches, bfloat16, uniform", "bfloat16", "uniform", True),
    ("public script, float32, uniform", "float32", "uniform", False),
)


def rows(bench: Bench) -> Rows:
    """The row that a bar is about first."""
    for name, dtype, mixture, in_batches in CASES:
        yield name, partial(measure, bench, dtype, mixture, in_batches)


def measure(bench: Bench, dtype: str, mixture: Mixture, in_batches: bool) -> Row:
    """Images per second, what was found, and how often the chain's rate is this one."""
    number = TINY_IMAGES if bench.tiny else NUM_IMAGES
    data = workload.jpegs(mixture, number, bench.tiny)
    peer = load(bench, dtype, in_batches)
    size = (TINY_BATCH if bench.tiny else BATCH) if in_batches else 1
    found: list[tuple[int, int]] = []

    def step() -> None:
        found.clear()
        for start in range(0, number, size):
            found.extend(annotate(peer, data[start : start + size]))

    row = bench.rate(step, number, lambda: annotate(peer, data[:size]))
    ours = find(bench.found, "chain", mixture, "images_per_s")
    row |= {
        "batch": size,
        "image_processor": type(peer.detector_processor.image_processor).__name__,
        "boxes_per_image": round(sum(boxes for boxes, _ in found) / number, 2),
        "mask_pixels_per_image": round(sum(area for _, area in found) / number),
        "chain_over_this": round(ours / row["images_per_s"], 2) if ours else None,
    }
    return row


@dataclass(frozen=True)
class Peer:
    """The networks and processors as their libraries give them, in one type on one device."""

    tagger: RamTagger
    detector: Any
    detector_processor: Any
    segmenter: Any
    segmenter_processor: Any
    runtime: Runtime
    tiny: bool
    in_batches: bool

    def where_to_resize(self, processor: Any) -> dict[str, Any]:
        """Batches are resized on the GPU, where torchvision is there for transformers to do so."""
        by_pillow = type(processor.image_processor).__name__.endswith("Pil")
        if by_pillow or not self.in_batches:
            return {}
        return {"images_kwargs": {"device": self.runtime.device}}


def load(bench: Bench, dtype: str, in_batches: bool) -> Peer:
    """From the directories that the chain loads, without anything of this project but RAM."""
    runtime = Runtime(bench.device, dtype)
    folders = {name: str(weights.path_of(bench, name)) for name in ("detector", "segmenter")}
    options: dict[str, Any] = {"dtype": runtime.torch_dtype, "local_files_only": True}
    detector = GroundingDinoForObjectDetection.from_pretrained(folders["detector"], **options)
    segmenter = SamModel.from_pretrained(folders["segmenter"], **options)
    tokenizer = AutoTokenizer.from_pretrained(folders["detector"])
    # the script resizes by Pillow
    backend = {} if in_batches else {"backend": "pil"}
    processors = {
        name: AutoImageProcessor.from_pretrained(path, **backend) for name, path in folders.items()
    }
    return Peer(
        load_ram(weights.path_of(bench, "tagger"), runtime),
        detector.to(bench.device).eval(),
        GroundingDinoProcessor(processors["detector"], tokenizer),
        segmenter.to(bench.device).eval(),
        SamProcessor(processors["segmenter"]),
        runtime,
        bench.tiny,
        in_batches,
    )


@torch.inference_mode()
def annotate(peer: Peer, data: Sequence[bytes]) -> list[tuple[int, int]]:
    """The number of boxes and the sum of their masks' areas, for each image of one batch."""
    pictures = [Image.open(io.BytesIO(item)).convert("RGB") for item in data]
    pixels = [np.asarray(picture) for picture in pictures]
    peer.tagger.tag(pixels)
    prompts = [". ".join(workload.own_tags(image, peer.tiny)) + "." for image in pixels]
    boxes = detect(peer, pictures, prompts)
    found = [(0, 0)] * len(data)
    wanted = [index for index, of_image in enumerate(boxes) if len(of_image)]
    if wanted:
        masks = segment(peer, [pictures[i] for i in wanted], [boxes[i] for i in wanted])
        for index, of_image in zip(wanted, masks, strict=True):
            runs = coco_mask.encode(np.asfortranarray(of_image.transpose(1, 2, 0).astype(np.uint8)))
            found[index] = (len(of_image), int(coco_mask.area(runs).sum()))
    return found


def detect(peer: Peer, pictures: Sequence[Image.Image], prompts: Sequence[str]) -> list[np.ndarray]:
    """The boxes (N, 4) of each image after suppression; the batch is padded to its largest."""
    inputs = peer.detector_processor(
        images=list(pictures),
        text=list(prompts),
        padding=True,
        return_tensors="pt",
        **peer.where_to_resize(peer.detector_processor),
    ).to(peer.runtime.device, peer.runtime.torch_dtype)
    outputs = peer.detector(**inputs)
    results = peer.detector_processor.post_process_grounded_object_detection(
        outputs,
        inputs["input_ids"],
        threshold=TINY_THRESHOLD if peer.tiny else BOX_THRESHOLD,
        text_threshold=TEXT_THRESHOLD,
        target_sizes=[picture.size[::-1] for picture in pictures],
    )
    kept = []
    for result in results:
        boxes = result["boxes"].float().cpu().numpy()
        kept.append(boxes[nms(boxes, result["scores"].float().cpu().numpy(), IOU_THRESHOLD)])
    return kept


def segment(
    peer: Peer, pictures: Sequence[Image.Image], boxes: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """The masks (N, height, width) of each image; images with fewer boxes repeat their last one."""
    most = max(map(len, boxes))
    padded = [[*of.tolist(), *[of[-1].tolist()] * (most - len(of))] for of in boxes]
    inputs = peer.segmenter_processor(
        list(pictures),
        input_boxes=padded,
        return_tensors="pt",
        **peer.where_to_resize(peer.segmenter_processor),
    )
    outputs = peer.segmenter(
        pixel_values=inputs["pixel_values"].to(peer.runtime.device, peer.runtime.torch_dtype),
        input_boxes=inputs["input_boxes"].to(peer.runtime.device, peer.runtime.torch_dtype),
        multimask_output=False,
    )
    masks = peer.segmenter_processor.post_process_masks(
        outputs.pred_masks.float(), inputs["original_sizes"], inputs["reshaped_input_sizes"]
    )
    return [mask[: len(of), 0].cpu().numpy() for mask, of in zip(masks, boxes, strict=True)]
