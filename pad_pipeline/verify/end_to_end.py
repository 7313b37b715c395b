"""The comparison of `verify` for a photo that went through the whole chain of the public script."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from pad_pipeline import masks
from pad_pipeline.boxes import nms
from pad_pipeline.errors import UserError
from pad_pipeline.models.base import Runtime
from pad_pipeline.models.checkpoints import read_checkpoint
from pad_pipeline.models.grounding_dino.detector import GroundingDinoDetector
from pad_pipeline.models.grounding_dino.encode import encode_images
from pad_pipeline.models.grounding_dino.forward import detect_pairs
from pad_pipeline.models.grounding_dino.load import (
    build_grounding_dino,
    load_tokenizer,
    to_runtime,
)
from pad_pipeline.models.grounding_dino.phrases import encode_texts
from pad_pipeline.models.grounding_dino.preprocessing import Preprocessing
from pad_pipeline.models.grounding_dino.prompts import build_prompts
from pad_pipeline.models.grounding_dino.state_dict import config_from_golden
from pad_pipeline.models.protocols import Image
from pad_pipeline.models.ram.tagger import RamTagger, preprocess
from pad_pipeline.models.sam.load import load_sam
from pad_pipeline.models.sam.segmenter import SamSegmenter
from pad_pipeline.verify.grounding_dino import pad_logits, without_score
from pad_pipeline.verify.ram import golden_ram
from pad_pipeline.verify.rows import (
    MASK_SHARE,
    VerifyRow,
    compare,
    compare_all,
    compare_decisions,
    compare_packed_masks,
    read_image,
    read_json,
)


def check_whole_chain(directory: Path, tolerance: float, runtime: Runtime) -> list[VerifyRow]:
    """Tags, boxes, suppression, masks and index image of one photo.

    The three models are those of the folders beside this one that `uses` names; labels are by
    phrase, as in the public script.
    """
    recorded: Mapping[str, Any] = read_json(directory / "expected.json")
    if "uses" not in recorded:
        raise UserError(
            f"{directory} holds no config.json, and its expected.json names no models (`uses`); "
            "give a folder of recorded outputs"
        )
    image = read_image(directory / recorded["image"])
    height, width = image.shape[:2]
    tagger, detector, segmenter = _models(directory.parent, recorded, runtime)
    found: dict[str, Any] = {
        "ram_input": preprocess([image], tagger.model.config, runtime.device)[0]
    }
    (tags,) = tagger.tag([image])
    names = [tag.tag for tag in tags]
    found |= _raw_detection(detector, image, names)
    (boxes,) = detector.detect([image], [names])
    kept = nms(boxes.xyxy, boxes.scores, recorded["iou_threshold"])
    found |= {
        "boxes_xyxy_before_nms": boxes.xyxy,
        "scores": boxes.scores,
        "nms_idx": kept,
        "boxes_xyxy": boxes.xyxy[kept],
    }
    found |= _masks(segmenter, image, boxes.xyxy[kept])
    labels = list(boxes.labels)
    rows = [
        compare_decisions("ram_tags", names, recorded["ram_tags"].split(" | ")),
        _phrases("phrases_before_nms", labels, recorded),
        _phrases("phrases", [labels[index] for index in kept], recorded),
    ]

    side = float(max(height, width))

    def in_pixels(name: str, ours: Any, wanted: Any) -> VerifyRow:
        return compare(name, ours, wanted, tolerance * side, "pixels; tolerance × longest side")

    def packed(name: str, ours: Any, wanted: Any) -> VerifyRow:
        return compare_packed_masks(name, ours, wanted, [(height, width)] * len(wanted))

    def shares(name: str, ours: Any, wanted: Any) -> VerifyRow:
        differing = float(np.mean(np.asarray(ours) != np.asarray(wanted)))
        return VerifyRow(name, differing, MASK_SHARE, differing <= MASK_SHARE, "share of pixels")

    rows += compare_all(
        found,
        load_file(directory / "expected.safetensors"),
        tolerance,
        special={
            "masks_packed": packed,
            "index_image": shares,
            "boxes_xyxy": in_pixels,
            "boxes_xyxy_before_nms": in_pixels,
            "sam_boxes": in_pixels,
        },
    )
    return rows


def _models(folder: Path, recorded: Mapping[str, Any], runtime: Runtime) -> tuple[Any, Any, Any]:
    """Tagger, detector and segmenter of the folders that are used, by their config's `model`."""
    shortest, longest = recorded["gdino_resize"]
    tagger = detector = segmenter = None
    for name in recorded["uses"]:
        directory = folder / name
        config = read_json(directory / "config.json")
        if config["model"] in ("ram", "ram_plus"):
            tagger = RamTagger(golden_ram(directory), runtime)
        elif config["model"] == "groundingdino":
            checkpoint = directory / "checkpoint.safetensors"
            model = build_grounding_dino(
                read_checkpoint(checkpoint),
                source=str(checkpoint),
                config=config_from_golden(config),
            )
            detector = GroundingDinoDetector(
                to_runtime(model, runtime),
                load_tokenizer(directory / "vocab.txt"),
                runtime,
                preprocessing=Preprocessing(shortest, longest),
                box_threshold=recorded["box_threshold"],
                text_threshold=recorded["text_threshold"],
                label_mode="phrase",
            )
        elif config["model"] == "sam":
            segmenter = load_sam(directory / "checkpoint.safetensors", runtime)
    if tagger is None or detector is None or segmenter is None:
        raise UserError(f"{folder}: a chain needs a tagger, a detector and a segmenter in `uses`")
    return tagger, detector, segmenter


@torch.inference_mode()
def _raw_detection(detector: Any, image: Image, names: list[str]) -> dict[str, Any]:
    """The detector's input and output before it becomes pixels, of the first prompt."""
    prompt = build_prompts(names, detector.tokenizer, label_mode="phrase")[0]
    pixels = detector.pixels([image])
    encoded = encode_images(detector.network, pixels)
    texts = encode_texts(detector.network, [prompt.token_ids])
    logits, pred_boxes = detect_pairs(detector.network, encoded, texts)
    logits = pad_logits(detector.model, logits)
    [(boxes, _, _)] = detector.select([prompt], logits, pred_boxes)
    return {
        "gdino_input": pixels[0],
        "pred_logits": logits,
        "pred_boxes": pred_boxes,
        "boxes_cxcywh_normalised": boxes,
    }


def _masks(segmenter: SamSegmenter, image: Image, boxes_xyxy: Any) -> dict[str, Any]:
    """The segmenter's tensors, the masks of a call of `segment`, and the script's index image."""
    (frame,), features = segmenter.embed([image])
    sam_boxes = frame.to_frame(boxes_xyxy, np.float32)
    low_res, predicted_iou = segmenter.decode(
        features, np.zeros(len(sam_boxes), np.int64), sam_boxes
    )
    (regions,) = segmenter.segment([image], [boxes_xyxy])
    pixels = [masks.decode(region.counts, region.height, region.width) for region in regions]
    index_image = np.zeros(image.shape[:2], np.uint8)
    for index, mask in enumerate(pixels):  # later masks overwrite earlier ones
        index_image[mask] = index + 1
    return {
        "sam_boxes": sam_boxes,
        "low_res_masks": low_res,
        "iou_predictions": predicted_iou,
        "masks_packed": np.stack([np.packbits(mask) for mask in pixels]),
        "index_image": index_image,
    }


def _phrases(name: str, labels: list[str], recorded: Mapping[str, Any]) -> VerifyRow:
    return compare_decisions(name, labels, [without_score(phrase) for phrase in recorded[name]])
