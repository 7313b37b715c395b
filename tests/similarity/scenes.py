"""A data set of generated scenes, two of them in a second copy as the web makes them."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pad_pipeline import masks
from pad_pipeline.records import PadRecord, Region
from pad_pipeline.scenes.generator import generate_scene
from tests.dataset.example import failed, write_dataset

NUM_SCENES = 6
COPIES = {"copy/jpeg.jpg": 0, "copy/smaller.jpg": 1}
"""Of which scene each is: one encoded again, one resized as well."""


def write_scenes_with_copies(folder: Path, **manifest: Any) -> str:
    """Six scenes, two copies and a failed image with their regions, in shards of three rows."""
    records, pictures = [], {}
    for number in range(NUM_SCENES):
        scene = generate_scene(9_000_000 + number)
        name = f"scene_{number}.png"
        pictures[name] = Image.fromarray(scene.image)
        regions = [(thing.kind, thing.mask) for thing in scene.things]
        records.append(_record(folder, name, pictures[name], regions))
    for name, number in COPIES.items():
        picture = pictures[f"scene_{number}.png"]
        scale = 0.7 if "smaller" in name else 1.0
        size = (round(picture.width * scale), round(picture.height * scale))
        buffer = io.BytesIO()
        picture.resize(size).save(buffer, "JPEG", quality=60)
        pictures[name] = Image.open(buffer)
        things = generate_scene(9_000_000 + number).things
        regions = [
            (thing.kind, np.asarray(Image.fromarray(thing.mask).resize(size))) for thing in things
        ]
        records.append(_record(folder, name, pictures[name], regions))
    for name, picture in pictures.items():
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(folder / "images" / name)
    records.insert(4, replace(failed(0), image_id="broken.png"))
    models = {"tag": {"model": "embedded"}}
    return write_dataset(folder / "set", records, models=models, **manifest)


def _record(
    folder: Path, name: str, picture: Image.Image, regions: list[tuple[str, np.ndarray]]
) -> PadRecord:
    labels = []
    for tag, mask in regions:
        ys, xs = mask.nonzero()
        box = (float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1))
        labels.append(Region(tag, 0.9, box, masks.encode(mask), int(mask.sum()), 0.9))
    return PadRecord(
        image_id=name,
        uri=str(folder / "images" / name),
        width=picture.width,
        height=picture.height,
        caption=f"scene {name}",
        status="ok",
        error=None,
        tags=(),
        labels=tuple(labels),
    )
