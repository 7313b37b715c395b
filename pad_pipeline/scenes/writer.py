"""Scenes as files: images, their ground truth as COCO instances, captions in LLaVA's format."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from pad_pipeline import masks, storage
from pad_pipeline.errors import Setting, UserError
from pad_pipeline.scenes.generator import KINDS, Scene, generate_scene

logger = logging.getLogger(__name__)

HELD_OUT_SEED = 20_000_000
"""Scenes from this seed on are never used in training; the demo draws its scenes there."""
MADE = ("images", "ground_truth.json", "captions.json", "annotations", "overview.png")
"""What a demo's folder holds besides `scenes.json`, which records the number and seed."""


def write_scenes(folder: Path, *, num_images: int, seed: int) -> list[Scene]:
    """Draw the scenes with their ground truth and captions; the same call writes the same bytes."""
    stamp = folder / "scenes.json"
    wanted = {"num_images": num_images, "seed": seed}
    try:
        if stamp.exists():
            if json.loads(stamp.read_text()) != wanted:
                raise UserError(
                    f"{folder} holds scenes of another number or seed; choose another ",
                    Setting("output"),
                    " or delete the folder",
                )
        else:
            strange = [name for name in MADE if (folder / name).exists()]
            if strange:
                raise UserError(
                    f"{folder} holds {strange[0]}, which is not the demo's; choose another ",
                    Setting("output"),
                )
        images = folder / "images"
        images.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot use {folder} ({error.strerror}); choose another ", Setting("output")
        ) from error
    # First of all: a folder whose drawing was interrupted is then known as this demo's.
    _write_json(stamp, wanted)
    logger.info("drawing %d scenes into %s", num_images, images)
    first = HELD_OUT_SEED + seed * 1_000_000
    scenes = [generate_scene(first + index) for index in range(num_images)]
    names = [f"scene_{index:05d}.png" for index in range(num_images)]
    for name, scene in zip(names, scenes, strict=True):
        Image.fromarray(scene.image).save(images / name)
    _write_json(folder / "ground_truth.json", to_coco(scenes, names))
    _write_json(folder / "captions.json", to_llava(scenes, names))
    return scenes


def to_coco(scenes: Sequence[Scene], names: Sequence[str]) -> dict[str, Any]:
    """The scenes' ground truth as COCO instances; images and categories are numbered from 1."""
    categories = {kind: number for number, kind in enumerate(KINDS, start=1)}
    annotations: list[dict[str, Any]] = []
    for image_id, scene in enumerate(scenes, start=1):
        height, width = scene.image.shape[:2]
        for thing in scene.things:
            x0, y0, x1, y1 = map(float, thing.bbox_xyxy)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": categories[thing.kind],
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": int(thing.mask.sum()),
                    "iscrowd": 0,
                    "segmentation": {"size": [height, width], "counts": masks.encode(thing.mask)},
                }
            )
    return {
        "info": {"description": "Generated scenes with exact ground truth", "version": "1"},
        "images": [
            {
                "id": number,
                "file_name": name,
                "width": scene.image.shape[1],
                "height": scene.image.shape[0],
            }
            for number, (name, scene) in enumerate(zip(names, scenes, strict=True), start=1)
        ],
        "annotations": annotations,
        "categories": [{"id": number, "name": kind} for kind, number in categories.items()],
    }


def to_llava(scenes: Sequence[Scene], names: Sequence[str]) -> list[dict[str, Any]]:
    """The scenes' captions in the form of LLaVA's pre-training JSON."""
    return [
        {
            "id": name.removesuffix(".png"),
            "image": name,
            "conversations": [
                {"from": "human", "value": "Describe the picture.\n<image>"},
                {"from": "gpt", "value": scene.caption},
            ],
        }
        for name, scene in zip(names, scenes, strict=True)
    ]


def _write_json(path: Path, content: Any) -> None:
    text = json.dumps(content, ensure_ascii=False) + "\n"
    storage.write_atomic(str(path), text.encode())
