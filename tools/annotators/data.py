"""Training data: packed scenes on disk, read back at random with flips and changes of colour."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor, from_numpy, tensor

from pad_pipeline.normalisation import IMAGENET_MEAN, IMAGENET_STD
from pad_pipeline.scenes.generator import KINDS, generate_scene

EVALUATION_SEED = 10_000_000
"""Seeds from here on belong to evaluation; training only ever uses smaller ones."""

MONITOR_SEED = 15_000_000
"""Scenes from here on tell during training how it goes; the reported figures use others."""

_MAX_THINGS = 8
_CHUNK = 250


@dataclass(frozen=True, slots=True)
class Sample:
    """One scene as training sees it.

    `image` is (H, W, 3) uint8 RGB, `owner` (H, W) uint8 says which thing a pixel shows (0 none,
    k the k-th), `boxes` is (N, 4) float32 xyxy in pixels, `kinds` (N,) indexes `KINDS`.
    """

    image: np.ndarray
    owner: np.ndarray
    boxes: np.ndarray
    kinds: np.ndarray


@dataclass(frozen=True, slots=True)
class ScenePack:
    """Scenes of consecutive seeds in two memory-mapped files of pixels."""

    pixels: np.ndarray
    owners: np.ndarray
    sizes: np.ndarray
    offsets: np.ndarray
    boxes: np.ndarray
    kinds: np.ndarray

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> Sample:
        height, width = (int(side) for side in self.sizes[index])
        span = slice(int(self.offsets[index]), int(self.offsets[index]) + height * width)
        present = self.kinds[index] >= 0
        return Sample(
            np.asarray(self.pixels[span]).reshape(height, width, 3),
            np.asarray(self.owners[span]).reshape(height, width),
            self.boxes[index][present],
            self.kinds[index][present],
        )


def _draw(start: int, count: int) -> tuple[bytes, bytes, np.ndarray, np.ndarray, np.ndarray]:
    pixels, owners = [], []
    sizes = np.zeros((count, 2), np.int32)
    boxes = np.zeros((count, _MAX_THINGS, 4), np.float32)
    kinds = np.full((count, _MAX_THINGS), -1, np.int16)
    for row in range(count):
        scene = generate_scene(start + row)
        owner = np.zeros(scene.image.shape[:2], np.uint8)
        for k, thing in enumerate(scene.things):
            owner[thing.mask] = k + 1
            boxes[row, k] = thing.bbox_xyxy
            kinds[row, k] = KINDS.index(thing.kind)
        pixels.append(scene.image.tobytes())
        owners.append(owner.tobytes())
        sizes[row] = owner.shape
    return b"".join(pixels), b"".join(owners), sizes, boxes, kinds


def open_pack(directory: Path, num_scenes: int, first_seed: int = 0, workers: int = 1) -> ScenePack:
    """The scenes of `num_scenes` seeds from `first_seed` on, drawn into `directory` if needed.

    About 0.2 MB a scene. Raises `ValueError` where the seeds would reach into evaluation's.
    """
    if first_seed < EVALUATION_SEED < first_seed + num_scenes:
        raise ValueError(f"training seeds must stay below {EVALUATION_SEED}")
    wanted = {"first_seed": first_seed, "num_scenes": num_scenes, "kinds": list(KINDS)}
    header = directory / "pack.json"
    if not header.is_file() or json.loads(header.read_text(encoding="utf-8")) != wanted:
        directory.mkdir(parents=True, exist_ok=True)
        header.unlink(missing_ok=True)
        starts = range(first_seed, first_seed + num_scenes, _CHUNK)
        counts = [min(_CHUNK, first_seed + num_scenes - start) for start in starts]
        tables: list[tuple[np.ndarray, ...]] = []
        with (
            ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool,
            (directory / "pixels.bin").open("wb") as pixels_file,
            (directory / "owners.bin").open("wb") as owners_file,
        ):
            for pixels, owners, *table in pool.map(_draw, starts, counts):
                pixels_file.write(pixels)
                owners_file.write(owners)
                tables.append(tuple(table))
        sizes, boxes, kinds = (np.concatenate(part) for part in zip(*tables, strict=True))
        np.savez(directory / "tables.npz", sizes=sizes, boxes=boxes, kinds=kinds)
        header.write_text(json.dumps(wanted), encoding="utf-8")
    tables_file = np.load(directory / "tables.npz")
    sizes = tables_file["sizes"]
    offsets = np.concatenate([[0], np.cumsum(sizes.astype(np.int64).prod(1))])
    return ScenePack(
        np.memmap(directory / "pixels.bin", np.uint8, "r").reshape(-1, 3),
        np.memmap(directory / "owners.bin", np.uint8, "r"),
        sizes,
        offsets,
        tables_file["boxes"],
        tables_file["kinds"],
    )


def augment(sample: Sample, rng: np.random.Generator) -> Sample:
    """The sample mirrored half of the time and with slightly other brightness and colours."""
    image, owner, boxes = sample.image, sample.owner, sample.boxes
    if rng.random() < 0.5:
        image, owner = image[:, ::-1], owner[:, ::-1]
        width = image.shape[1]
        boxes = np.stack(
            [width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1
        )
    gain = rng.uniform(0.88, 1.12) * rng.uniform(0.95, 1.05, 3)
    shift = rng.uniform(-12, 12)
    table = np.clip(np.arange(256)[:, None] * gain + shift, 0, 255).astype(np.uint8)
    bright = np.stack([table[:, c][image[..., c]] for c in range(3)], axis=-1)
    return Sample(bright, np.array(owner), boxes, sample.kinds)


def draw_batch(
    pack: ScenePack,
    size: int,
    seed: int,
    step: int,
    *,
    same_size: bool = False,
    among: np.ndarray | None = None,
) -> tuple[list[Sample], np.random.Generator]:
    """The batch of a step and the generator for what else is random in it.

    Both depend on the seed and the step alone, so that a run can be continued. With `same_size`
    all images of a batch have one size, and need no padding; `among` are the rows of the pack to
    draw from, by default all.
    """
    rng = np.random.default_rng((seed, step))
    rows = np.arange(len(pack)) if among is None else among
    if same_size:
        first = pack.sizes[int(rng.integers(len(pack)))]
        rows = rows[(pack.sizes[rows] == first).all(1)]
    chosen = rng.choice(rows, size, replace=len(rows) < size)
    return [augment(pack[int(row)], rng) for row in chosen], rng


def shares_covered(boxes: np.ndarray) -> np.ndarray:
    """(..., N) largest share of each of (..., N, 4) boxes xyxy that one other box covers."""
    low = np.maximum(boxes[..., :, None, :2], boxes[..., None, :, :2])
    high = np.minimum(boxes[..., :, None, 2:], boxes[..., None, :, 2:])
    inner = np.clip(high - low, 0, None).prod(-1)
    inner[..., np.arange(boxes.shape[-2]), np.arange(boxes.shape[-2])] = 0
    area = (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    return inner.max(-1) / np.maximum(area, 1)


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """HWC uint8 resized by Pillow's bilinear filter, as the models' own preprocessing does it."""
    if image.shape[:2] == (height, width):
        return image
    size = (width, height)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


def to_tensor(image: np.ndarray) -> Tensor:
    """HWC uint8 -> (3, H, W) float32, normalised by ImageNet's mean and deviation."""
    pixels = from_numpy(np.array(image, dtype=np.float32)).permute(2, 0, 1) / 255
    return (pixels - tensor(IMAGENET_MEAN).view(3, 1, 1)) / tensor(IMAGENET_STD).view(3, 1, 1)
