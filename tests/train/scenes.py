"""A small data set of generated scenes with their exact regions, for the training tests."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image

from pad_pipeline import masks
from pad_pipeline.records import PadRecord, Region, records_to_table
from pad_pipeline.scenes.generator import generate_scene

FIRST_SEED = 50_000_000


def write_annotations(folder: Path, number: int, *, captions: bool = True) -> Path:
    """`number` scenes as images and as a data set of PAD records; returns the data set's folder."""
    images, output = folder / "images", folder / "annotations"
    images.mkdir(parents=True)
    output.mkdir()
    records = []
    for index in range(number):
        scene = generate_scene(FIRST_SEED + index)
        path = images / f"{index:04d}.png"
        Image.fromarray(scene.image).save(path)
        height, width = scene.image.shape[:2]
        regions = tuple(
            Region(
                thing.kind,
                0.9,
                thing.bbox_xyxy,
                masks.encode(thing.mask),
                int(thing.mask.sum()),
                0.9,
            )
            for thing in scene.things
        )
        records.append(
            PadRecord(
                image_id=path.name,
                uri=str(path),
                width=width,
                height=height,
                caption=scene.caption if captions else None,
                status="ok",
                error=None,
                tags=(),
                labels=regions,
            )
        )
    pq.write_table(records_to_table(records), output / "pad-00000.parquet")
    return output


def write_conversations(folder: Path, number: int) -> Path:
    """LLaVA's JSON over the images of `write_annotations`: two turns, every third text alone."""
    entries = []
    for index in range(number):
        scene = generate_scene(FIRST_SEED + index)
        question = "what is there ?" if index % 3 == 2 else "<image>\nwhat is there ?"
        entry = {
            "id": str(index),
            "conversations": [
                {"from": "human", "value": question},
                {"from": "gpt", "value": scene.caption},
                {"from": "human", "value": "name the things"},
                {"from": "gpt", "value": " and ".join(scene.tags)},
            ],
        }
        if index % 3 != 2:
            entry["image"] = f"images/{index:04d}.png"
        entries.append(entry)
    path = folder / "conversations.json"
    path.write_text(json.dumps(entries))
    return path
