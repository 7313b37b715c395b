"""Scenes as the vision tower sees them: frames of 112 px, what each patch shows, and captions."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from pad_pipeline.geometry import Kind, geometry
from pad_pipeline.scenes.generator import KINDS, Scene, generate_scene
from tools.annotators.data import EVALUATION_SEED

IMAGE_SIZE = 112
PATCH_SIZE = 14
GRID = IMAGE_SIZE // PATCH_SIZE
FRAMES: tuple[Kind, ...] = ("crop", "pad")
"""The two ways in which an image becomes a square: stage 1 crops, stage 2 pads."""

_CHUNK = 250


@dataclass(frozen=True, slots=True)
class FramePack:
    """Scenes of consecutive seeds, each in the two frames of `FRAMES`.

    `pixels` is (N, 2, 112, 112, 3) uint8 RGB; `shares` (N, 2, 64, kinds + 1) uint8 in 255ths says
    what share of a patch shows each kind, or (last) none; `captions` has N sentences.
    """

    pixels: np.ndarray
    shares: np.ndarray
    captions: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.captions)


def scene_frames(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """(2, 112, 112, 3) uint8 pixels and (2, 64, kinds + 1) uint8 shares in 255ths."""
    height, width = scene.image.shape[:2]
    masks = [thing.mask for thing in scene.things]
    kinds = [KINDS.index(thing.kind) for thing in scene.things]
    pixels, shares = [], []
    for frame in FRAMES:
        way = geometry(frame, width, height, IMAGE_SIZE)
        pixels.append(way.apply(scene.image))
        share = np.zeros((GRID * GRID, len(KINDS) + 1))
        np.add.at(share.T, kinds, way.coverage_many(masks, GRID))
        share[:, -1] = 1 - share.sum(1)
        shares.append(np.rint(np.clip(share, 0, 1) * 255))
    return np.stack(pixels), np.stack(shares).astype(np.uint8)


def _draw(start: int, count: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    scenes = [generate_scene(seed) for seed in range(start, start + count)]
    pixels, shares = zip(*(scene_frames(scene) for scene in scenes), strict=True)
    return np.stack(pixels), np.stack(shares), [scene.caption for scene in scenes]


def open_frames(
    directory: Path, num_scenes: int, first_seed: int = 0, workers: int = 1
) -> FramePack:
    """The frames of `num_scenes` seeds from `first_seed` on, drawn into `directory` if needed.

    About 80 kB a scene. Raises `ValueError` where the seeds would reach into evaluation's.
    """
    if first_seed < EVALUATION_SEED < first_seed + num_scenes:
        raise ValueError(f"training seeds must stay below {EVALUATION_SEED}")
    wanted = {"first_seed": first_seed, "num_scenes": num_scenes, "kinds": list(KINDS)}
    header = directory / "frames.json"
    if not header.is_file() or json.loads(header.read_text(encoding="utf-8")) != wanted:
        directory.mkdir(parents=True, exist_ok=True)
        header.unlink(missing_ok=True)
        starts = range(first_seed, first_seed + num_scenes, _CHUNK)
        counts = [min(_CHUNK, first_seed + num_scenes - start) for start in starts]
        captions: list[str] = []
        with (
            ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool,
            (directory / "pixels.bin").open("wb") as pixels_file,
            (directory / "shares.bin").open("wb") as shares_file,
        ):
            for pixels, shares, texts in pool.map(_draw, starts, counts):
                pixels_file.write(pixels.tobytes())
                shares_file.write(shares.tobytes())
                captions.extend(texts)
        (directory / "captions.json").write_text(json.dumps(captions), encoding="utf-8")
        header.write_text(json.dumps(wanted), encoding="utf-8")
    sides = len(FRAMES), IMAGE_SIZE, IMAGE_SIZE, 3
    cells = len(FRAMES), GRID * GRID, len(KINDS) + 1
    return FramePack(
        np.memmap(directory / "pixels.bin", np.uint8, "r").reshape(-1, *sides),
        np.memmap(directory / "shares.bin", np.uint8, "r").reshape(-1, *cells),
        tuple(json.loads((directory / "captions.json").read_text(encoding="utf-8"))),
    )
