"""Conversations about drawn scenes, and a VQ model that takes milliseconds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pad_pipeline.cognition.config import CognitionConfig
from pad_pipeline.models.vq.load import save_vq_network
from tests.models.vq.small import small_vqgan

SIZE = 32


def make_image(number: int, width: int = 48, height: int = 40) -> np.ndarray:
    """(height, width, 3) uint8, smooth and another one for each number."""
    rng = np.random.default_rng(number)
    small = Image.fromarray(rng.integers(0, 256, (4, 5, 3), np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def entry(number: int, turns: int = 2) -> dict[str, Any]:
    """A conversation of LLaVA about the image `number`, which also has a key of its own."""
    spoken = []
    for turn in range(turns):
        front = "" if turn else "<image>\n"
        spoken += [
            {"from": "human", "value": f"{front}Question {turn}?"},
            {"from": "gpt", "value": f"Answer {turn}."},
        ]
    name = f"{number:05d}"
    return {"id": name, "image": f"{name}.png", "model": "made", "conversations": spoken}


def write_source(folder: Path, entries: Sequence[Any], images: Sequence[int] = ()) -> Path:
    """conversations.json of the entries beside the images of these numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in images:
        Image.fromarray(make_image(number)).save(folder / f"{number:05d}.png")
    path = folder / "conversations.json"
    path.write_text(json.dumps(list(entries)), encoding="utf-8")
    return path


def write_model(folder: Path, factor: int = 8) -> Path:
    """The directory of a small VQ model."""
    save_vq_network(small_vqgan(factor), folder / f"vq{factor}")
    return folder / f"vq{factor}"


def small_config(model: Path | str, **changes: Any) -> CognitionConfig:
    """Quarters of a 32 pixel frame: 2 x 2 codes of 8 pixels each."""
    values = {"size": SIZE, "rgb_grid": 4, "rows_per_shard": 3, "batch_size": 2, "threads": 1}
    return CognitionConfig(**{"codes": str(model), "device": "cpu", **values, **changes})


def read_lines(output: Path) -> list[dict[str, Any]]:
    """All entries of a finished folder."""
    paths = sorted(output.glob("*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def read_bytes(output: Path) -> dict[str, bytes]:
    """Every shard by name."""
    return {path.name: path.read_bytes() for path in sorted(output.glob("*.jsonl"))}
