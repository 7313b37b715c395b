"""What the benchmarks share: a description of the machine, models that do nothing, result files."""

from __future__ import annotations

import argparse
import datetime
import io
import json
import os
import platform
import tarfile
import time
from collections.abc import Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pad_pipeline import masks
from pad_pipeline.engine.chain import Chain
from pad_pipeline.engine.config import (
    STAGE_NAMES,
    AnnotateConfig,
    DetectConfig,
    SegmentConfig,
    SuppressConfig,
    TagConfig,
)
from pad_pipeline.engine.plan import Pool, StageSpec
from pad_pipeline.engine.sample import Sample
from pad_pipeline.engine.stages import (
    Decode,
    ModelStage,
    Seconds,
    Stage,
    detect_stage,
    segment_stage,
    suppress_stage,
    tag_stage,
)
from pad_pipeline.images import ImageLimits
from pad_pipeline.models.protocols import Boxes, Mask
from pad_pipeline.records import Tag

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "transformers", "ray", "numpy", "pyarrow", "pillow")


# --- results ---------------------------------------------------------------------------------


def make_parser(doc: str | None, name: str) -> argparse.ArgumentParser:
    """A parser with the option that all benchmarks have."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=RESULTS / f"{name}.json")
    return parser


def describe_machine() -> dict[str, Any]:
    """The machine, what it did before the measurement, the versions and the date (UTC)."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": _gpu(),
        "busy_share_before": busy_share(),
        "load_average_before": [round(load, 2) for load in os.getloadavg()],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
    }


def write_result(
    path: Path, machine: dict[str, Any], result: dict[str, Any], *, quiet: bool = False
) -> None:
    """Write and, unless `quiet`, print a result; `machine` is from before the measurement."""
    load = [round(value, 2) for value in os.getloadavg()]
    text = json.dumps({**result, "machine": {**machine, "load_average_after": load}}, indent=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")
    if not quiet:
        say(text)


def say(text: str) -> None:
    """Print at once."""
    print(text, flush=True)  # noqa: T201


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:  # Ray, where only the models are measured
        return None


def _gpu() -> str | None:
    import torch

    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(0)
    return f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"


def busy_share(seconds: float = 2.0) -> float | None:
    """The share of all cores' time that other programs take, over a short while of sleep."""
    try:
        before = _cpu_times()
        time.sleep(seconds)
        after = _cpu_times()
    except OSError:
        return None
    spent = after - before
    return round(1 - float(spent[3:5].sum() / max(spent.sum(), 1)), 3)


def _cpu_times() -> np.ndarray:
    """Ticks of all cores: user, nice, system, idle, waiting for discs, …"""
    return np.array(Path("/proc/stat").read_text().splitlines()[0].split()[1:8], np.int64)


# --- models that do nothing --------------------------------------------------------------------


class NoTagger:
    """The same four tags for every image."""

    tags = tuple(Tag(name, 0.9) for name in ("ball", "chair", "dog", "tree"))

    def tag(self, images: Sequence[np.ndarray]) -> list[list[Tag]]:
        return [list(self.tags) for _ in images]


class NoDetector:
    """The four quarters of every image."""

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        return height, width

    def detect(self, images: Sequence[np.ndarray], tags: Sequence[Sequence[str]]) -> list[Boxes]:
        return [
            Boxes(quarters(*image.shape[:2]), np.full(4, 0.8, np.float32), tuple(names), 1)
            for image, names in zip(images, tags, strict=True)
        ]


class NoSegmenter:
    """Every box's mask is the image's left upper quarter, encoded once per size."""

    max_images: int | None = None

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], Mask] = {}

    def segment(
        self, images: Sequence[np.ndarray], boxes_xyxy: Sequence[np.ndarray]
    ) -> list[list[Mask]]:
        return [
            [self.mask(*image.shape[:2])] * len(boxes)
            for image, boxes in zip(images, boxes_xyxy, strict=True)
        ]

    def mask(self, height: int, width: int) -> Mask:
        """The mask for images of one size."""
        if (height, width) not in self._known:
            pixels = np.zeros((height, width), bool)
            pixels[: height // 2, : width // 2] = True
            counts = masks.encode(pixels)
            self._known[height, width] = Mask(counts, height, width, int(pixels.sum()), 0.9)
        return self._known[height, width]


def quarters(height: int, width: int) -> np.ndarray:
    """(4, 4) float32 xyxy: the quarters of an image, which do not overlap."""
    x, y = width / 2, height / 2
    return np.array(
        [[0, 0, x, y], [x, 0, width, y], [0, y, x, height], [x, y, width, height]], np.float32
    )


def build_no_op(name: str, seconds: Seconds) -> ModelStage:
    """One stage of the package, which decodes the image, around a model that does nothing."""
    decode = Decode(ImageLimits(), seconds)
    options: dict[str, Any] = {"batch_size": 16, "decode": decode, "seconds": seconds}
    match name:
        case "tag":
            return tag_stage(NoTagger(), **options)
        case "detect":
            return detect_stage(NoDetector(), **options)
        case "suppress":
            return suppress_stage(SuppressConfig(), seconds)
        case "segment":
            return segment_stage(NoSegmenter(), **options)
    raise ValueError(name)


def build_no_op_chain(seconds: Seconds) -> Stage:
    """All four stages in one."""
    return Chain([build_no_op(name, seconds) for name in STAGE_NAMES])


def build_filler(seconds: Seconds) -> Stage:
    """A stage that sets four regions without decoding the image."""
    mask = NoSegmenter().mask(48, 64)
    boxes = Boxes(quarters(48, 64), np.full(4, 0.8, np.float32), ("ball", "chair", "dog", "tree"))

    def fill(samples: list[Sample]) -> list[Sample]:
        for sample in samples:
            if sample.error is None:
                sample.width, sample.height = 64, 48
                sample.tags, sample.boxes, sample.masks = NoTagger.tags, boxes, (mask,) * 4
        return samples

    return fill


def no_op_stages(layout: str) -> list[StageSpec]:
    """The stages of the layout `fused` or `pools`; the layout `filled` does not even decode."""
    pool = Pool(1, 1, gpus=0.0, cpus=0.25)
    whole = {"fused": build_no_op_chain, "filled": build_filler}
    if layout in whole:
        return [StageSpec(name="annotate", make=whole[layout], pool=pool, keep_bytes=False)]
    return [
        StageSpec(
            name=name,
            make=partial(build_no_op, name),
            pool=pool,
            keep_bytes=name != STAGE_NAMES[-1],
        )
        for name in STAGE_NAMES
    ]


def no_op_config(**changes: Any) -> AnnotateConfig:
    """A config for runs that bring their own stages."""
    return AnnotateConfig(
        tag=TagConfig(model="none"),
        detect=DetectConfig(model="none"),
        segment=SegmentConfig(model="none"),
        device="cpu",
        **changes,
    )


def write_tiny_images(path: Path, number: int) -> None:
    """A WebDataset tar of `number` JPEG images of 64 × 48 pixels."""
    kinds = [tiny_jpeg(seed) for seed in range(16)]
    with tarfile.open(path, "w") as tar:
        for index in range(number):
            member = tarfile.TarInfo(f"{index:07d}.jpg")
            member.size = len(kinds[index % 16])
            tar.addfile(member, io.BytesIO(kinds[index % 16]))


def write_tiny_image(path: Path) -> None:
    """One of these images as a file."""
    path.write_bytes(tiny_jpeg(0))


def tiny_jpeg(seed: int) -> bytes:
    """An image of 64 × 48 pixels."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((64, 48)).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
