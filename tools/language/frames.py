"""Scenes as the vision tower sees them: frames of 112 px, what each patch shows, and captions."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pad_pipeline.geometry import Kind, geometry
from pad_pipeline.scenes.generator import KINDS, Scene, generate_scene
from pad_pipeline.scenes.kinds import SPECS
from tools.annotators.data import EVALUATION_SEED

IMAGE_SIZE = 112
PATCH_SIZE = 14
GRID = IMAGE_SIZE // PATCH_SIZE
FRAMES: tuple[Kind, ...] = ("crop", "pad")
"""The two ways in which an image becomes a square: stage 1 crops, stage 2 pads."""

COLOURS = sorted({colour for spec in SPECS.values() for colour in spec.variants})
"""The words for the colours of things."""
NOTHING = 255
"""In the place of a colour where a patch shows hardly anything of a thing."""

_SIDES: dict[str, tuple[int, ...]] = {
    "pixels": (len(FRAMES), IMAGE_SIZE, IMAGE_SIZE, 3),
    "shares": (len(FRAMES), GRID * GRID, len(KINDS) + 1),
    "colours": (len(FRAMES), GRID * GRID),
    "boxes": (len(FRAMES), GRID * GRID, 4),
}
"""The files of a pack, and the shape of a scene in each."""

_CHUNK = 250
_LEAST_SHARE = 0.25


class SceneFrames(NamedTuple):
    """One scene in the two frames of `FRAMES`: what is seen, and what each patch shows."""

    pixels: np.ndarray
    """(2, 112, 112, 3) uint8 RGB."""
    shares: np.ndarray
    """(2, 64, kinds + 1) uint8, in 255ths: the share of each kind in a patch, last that of none."""
    colours: np.ndarray
    """(2, 64) uint8: the place in `COLOURS` of the thing that fills most of a patch, or `NOTHING`
    where that is less than a quarter."""
    boxes: np.ndarray
    """(2, 64, 4) uint8, in 255ths of the frame's side: that thing's box, cut at the frame."""


@dataclass(frozen=True, slots=True)
class FramePack:
    """Scenes of consecutive seeds: the arrays of `SceneFrames`, stacked, and N captions."""

    pixels: np.ndarray
    shares: np.ndarray
    colours: np.ndarray
    boxes: np.ndarray
    captions: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.captions)


def scene_frames(scene: Scene) -> SceneFrames:
    """The scene as the tower sees it, and what its patches show."""
    height, width = scene.image.shape[:2]
    masks = [thing.mask for thing in scene.things]
    kinds = [KINDS.index(thing.kind) for thing in scene.things]
    colours = np.array([COLOURS.index(thing.variant) for thing in scene.things])
    pixels, shares, shown, boxes = [], [], [], []
    for frame in FRAMES:
        way = geometry(frame, width, height, IMAGE_SIZE)
        pixels.append(way.apply(scene.image))
        covered = way.coverage_many(masks, GRID)
        share = np.zeros((GRID * GRID, len(KINDS) + 1))
        np.add.at(share.T, kinds, covered)
        share[:, -1] = 1 - share.sum(1)
        shares.append(np.rint(np.clip(share, 0, 1) * 255))
        first = covered.argmax(0)
        shown.append(np.where(covered.max(0) < _LEAST_SHARE, NOTHING, colours[first]))
        framed = way.to_frame([thing.bbox_xyxy for thing in scene.things]) / IMAGE_SIZE
        boxes.append(np.rint(np.clip(framed, 0, 1) * 255)[first])
    return SceneFrames(
        np.stack(pixels), *(np.stack(parts).astype(np.uint8) for parts in (shares, shown, boxes))
    )


def _draw(start: int, count: int) -> tuple[SceneFrames, list[str]]:
    scenes = [generate_scene(seed) for seed in range(start, start + count)]
    parts = zip(*(scene_frames(scene) for scene in scenes), strict=True)
    return SceneFrames(*map(np.stack, parts)), [scene.caption for scene in scenes]


def open_frames(
    directory: Path, num_scenes: int, first_seed: int = 0, workers: int = 1
) -> FramePack:
    """The frames of `num_scenes` seeds from `first_seed` on, drawn into `directory` if needed.

    About 80 kB a scene. Raises `ValueError` where the seeds would reach into evaluation's.
    """
    if first_seed < EVALUATION_SEED < first_seed + num_scenes:
        raise ValueError(f"training seeds must stay below {EVALUATION_SEED}")
    wanted = {
        "first_seed": first_seed,
        "num_scenes": num_scenes,
        "kinds": list(KINDS),
        "files": list(_SIDES),
    }
    header = directory / "frames.json"
    if not header.is_file() or json.loads(header.read_text(encoding="utf-8")) != wanted:
        directory.mkdir(parents=True, exist_ok=True)
        header.unlink(missing_ok=True)
        starts = range(first_seed, first_seed + num_scenes, _CHUNK)
        counts = [min(_CHUNK, first_seed + num_scenes - start) for start in starts]
        captions: list[str] = []
        with ExitStack() as opened:
            pool = opened.enter_context(
                ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
            )
            files = [
                opened.enter_context((directory / f"{name}.bin").open("wb")) for name in _SIDES
            ]
            for drawn, texts in pool.map(_draw, starts, counts):
                for file, part in zip(files, drawn, strict=True):
                    file.write(part.tobytes())
                captions.extend(texts)
        (directory / "captions.json").write_text(json.dumps(captions), encoding="utf-8")
        header.write_text(json.dumps(wanted), encoding="utf-8")
    return FramePack(
        **{
            name: np.memmap(directory / f"{name}.bin", np.uint8, "r").reshape(-1, *sides)
            for name, sides in _SIDES.items()
        },
        captions=tuple(json.loads((directory / "captions.json").read_text(encoding="utf-8"))),
    )
