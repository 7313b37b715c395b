"""What 8-bit products change in the masks of some images: two segmenters on the same boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pad_pipeline.annotate.samples import read_samples
from pad_pipeline.engine.build import build_stage, locate_models
from pad_pipeline.engine.config import STAGE_NAMES, AnnotateConfig
from pad_pipeline.engine.device import resolve_device
from pad_pipeline.engine.sample import Sample
from pad_pipeline.errors import Setting, UserError
from pad_pipeline.masks import decode
from pad_pipeline.models.protocols import Mask, Segmenter
from pad_pipeline.sources import ManifestRow


@dataclass(frozen=True, slots=True)
class Change:
    """One mask: `iou` of the two, and how much higher the second's predicted IoU is."""

    image_id: str
    label: str
    iou: float
    predicted_iou: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionChanges:
    """The masks of all images, and how the two segmenters ran."""

    quantize: str
    emulated: bool
    """Whether the 8-bit numbers were multiplied in float32, because this is no GPU."""
    device: str
    dtype: str
    """Of everything that is not quantized, in both."""
    num_images: int
    num_failed: int
    changes: Sequence[Change]

    @property
    def ious(self) -> np.ndarray:
        """(N,) of the masks."""
        return np.array([change.iou for change in self.changes])

    @property
    def predicted_iou_differences(self) -> np.ndarray:
        """(N,) of the masks, without sign."""
        return np.abs([change.predicted_iou for change in self.changes])

    def worst_images(self, number: int) -> list[Change]:
        """The mask that changes most of each of `number` images, most first."""
        worst: dict[str, Change] = {}
        for change in sorted(self.changes, key=lambda change: change.iou):
            worst.setdefault(change.image_id, change)
        return list(worst.values())[:number]

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        ious, differences = self.ious, self.predicted_iou_differences
        return {
            "quantize": self.quantize,
            "emulated": self.emulated,
            "device": self.device,
            "dtype": self.dtype,
            "num_images": self.num_images,
            "num_failed": self.num_failed,
            "num_masks": len(self.changes),
            "mask_iou_mean": float(ious.mean()),
            "mask_iou_quantile_5": float(np.quantile(ious, 0.05)),
            "mask_iou_least": float(ious.min()),
            "predicted_iou_difference_median": float(np.median(differences)),
            "predicted_iou_difference_largest": float(differences.max()),
            "masks": [
                {
                    "image_id": change.image_id,
                    "label": change.label,
                    "iou": change.iou,
                    "predicted_iou_change": change.predicted_iou,
                }
                for change in self.changes
            ],
        }


def compare_precision(
    config: AnnotateConfig,
    rows: Sequence[ManifestRow],
    progress: Callable[[int], None] = lambda done: None,
) -> PrecisionChanges:
    """The masks of the images with the config's segmenter, and with its encoder in 8 bits.

    Tags and boxes are found once, by the config's models, which 8 bits do not touch. On a CPU the
    8-bit numbers are multiplied in float32, which gives what a GPU would but for the order of its
    sums. `progress` is told how many images are done. Raises `UserError` where models are missing,
    the GPU cannot do it, or no box is found.
    """
    if config.draws_masks:
        raise UserError(
            "SAM 3 draws the masks, and it is not quantized; compare with ",
            Setting("segment.from_", "model"),
        )
    plain = replace(config, segment=replace(config.segment, quantize="none"))
    plain = locate_models(resolve_device(plain))
    emulated = plain.device == "cpu"
    if "segment" not in plain.models:
        raise UserError("the masks are given, so there is no segmenter to compare")
    stages = [build_stage(plain, name, {}) for name in STAGE_NAMES]
    in_8_bits = load_segmenter_in_8_bits(plain, emulate=emulated)
    changes: list[Change] = []
    failed = 0
    size = plain.segment.batch_size
    for start in range(0, len(rows), size):
        samples = read_samples(rows[start : start + size])
        for stage in stages:
            samples = stage(samples)
        good = [sample for sample in samples if sample.error is None]
        failed += len(samples) - len(good)
        for sample in good:
            changes += _changes_of(sample, in_8_bits)
        progress(start + len(samples))
    if not changes:
        raise UserError(
            f"no thing was found in {len(rows)} images ({failed} of them failed), so there are no "
            "masks to compare; give images that show things the tagger knows"
        )
    return PrecisionChanges(
        quantize="fp8", emulated=emulated, device=plain.device, dtype=plain.dtype,
        num_images=len(rows), num_failed=failed, changes=changes,
    )  # fmt: skip


def load_segmenter_in_8_bits(config: AnnotateConfig, *, emulate: bool) -> Segmenter:
    """The config's segmenter with `fp8`; its device and dtype must be resolved."""
    from pad_pipeline.models.base import Runtime
    from pad_pipeline.models.registry import load_segmenter

    return load_segmenter(
        config.segment.model,
        Runtime(device=config.device, dtype=config.dtype),
        max_boxes=config.segment.box_batch_size,
        quantize="fp8",
        emulate=emulate,
    )


def _changes_of(sample: Sample, in_8_bits: Segmenter) -> list[Change]:
    assert sample.boxes is not None
    if sample.image is None or not len(sample.boxes_xyxy):
        return []
    [masks] = in_8_bits.segment([sample.image], [sample.boxes_xyxy])
    pairs = zip(sample.boxes.labels, sample.masks or (), masks, strict=True)
    return [
        Change(sample.image_id, label, _iou(one, other), other.predicted_iou - one.predicted_iou)
        for label, one, other in pairs
    ]


def _iou(one: Mask, other: Mask) -> float:
    """Of two masks of the same image; two empty ones are the same."""
    a, b = (decode(mask.counts, mask.height, mask.width) for mask in (one, other))
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 1.0
