"""From a segmenter's low-resolution logits to run-length strings, a bounded number at a time."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pad_pipeline.geometry import ImageGeometry
from pad_pipeline.masks import encode_changes

Runs = list[tuple[str, int]]
"""The `counts` string and the area in pixels of each mask."""


def upsample(low_res_NMHW: Tensor, frame: ImageGeometry, *, padded: bool) -> Tensor:
    """Logits (N, M, h, w) -> float32 logits (N, M, height, width) at the image's own size.

    Bilinear without antialiasing. With `padded`, by way of the model's whole frame, of which the
    content shows the image (SAM); without, in one step (SAM 2).
    """
    logits = low_res_NMHW.float()
    if padded:
        width, height = frame.content
        logits = F.interpolate(logits, frame.frame[::-1], mode="bilinear", align_corners=False)
        logits = logits[..., :height, :width]
    return F.interpolate(logits, frame.size[::-1], mode="bilinear", align_corners=False)


@dataclass
class MaskEncoder:
    """Collects masks on their device and writes their COCO compressed `counts`, group by group.

    The pixels stay where they are: for a group of masks of any sizes, the places where a
    column-major mask changes are found at once and copied to the CPU at once, some kilobytes in
    place of a megabyte. `threads` write the strings meanwhile; without them this thread does. At
    most `max_pixels` pixels (but always one mask) are upsampled, or collected, at once.

    With `stability`, that of each mask of `add_logits` is measured: the share of the pixels above
    the threshold minus 1 that are above the threshold plus 1 too, as SAM's automatic masks have it.
    """

    max_pixels: int
    threshold: float
    threads: Executor | None = None
    stability: bool = False
    _stabilities: list[Tensor] = field(default_factory=list)
    _changes: list[Tensor] = field(default_factory=list)
    _sizes: list[tuple[int, int]] = field(default_factory=list)
    _groups: list[Future[Runs] | Runs] = field(default_factory=list)

    def add_logits(self, low_res_NMHW: Tensor, frame: ImageGeometry, *, padded: bool) -> None:
        """The first mask of each row, at the image's own size.

        A pixel belongs to the mask where its logit there is strictly above the threshold.
        """
        largest = max(
            width * height for width, height in (frame.size, frame.frame if padded else (0, 0))
        )
        for logits_NMHW in low_res_NMHW.split(max(1, self.max_pixels // largest)):
            full = upsample(logits_NMHW, frame, padded=padded)
            if self.stability:
                self._stabilities.append(_stability(full[:, 0], self.threshold))
            self.add((full > self.threshold)[:, 0])

    def add(self, masks_NHW: Tensor) -> None:
        """Bool masks (N, H, W) of one size."""
        held = sum(height * width for height, width in self._sizes)
        if self._sizes and held + masks_NHW.numel() > self.max_pixels:
            self.flush()
        num, height, width = masks_NHW.shape
        pixels = masks_NHW.transpose(1, 2).reshape(num, height * width)
        changes = torch.empty_like(pixels)
        # The pixel before the first counts as unset: a mask that begins inside changes there.
        changes[:, 0] = pixels[:, 0]
        torch.ne(pixels[:, 1:], pixels[:, :-1], out=changes[:, 1:])
        self._changes.append(changes.flatten())
        self._sizes += [(height, width)] * num

    def flush(self) -> None:
        """Write what was collected."""
        if not self._sizes:
            return
        places = torch.nonzero(torch.cat(self._changes))[:, 0].cpu().numpy()
        self._groups.append(
            self.threads.submit(write_runs, places, self._sizes)
            if self.threads
            else write_runs(places, self._sizes)
        )
        self._changes, self._sizes = [], []

    def stabilities(self) -> list[float]:
        """The stability of every mask in that order; none where it was not asked for."""
        return torch.cat(self._stabilities).tolist() if self._stabilities else []

    def results(self) -> Runs:
        """The string and the area in pixels of every mask, in the order in which they came."""
        self.flush()
        groups, self._groups = self._groups, []
        return [
            runs
            for group in groups
            for runs in (group.result() if isinstance(group, Future) else group)
        ]


_STABILITY_OFFSET = 1.0


def _stability(logits_NHW: Tensor, threshold: float) -> Tensor:
    """(N,) float32 in 0–1; 0 where not even the larger mask has a pixel."""
    inner = (logits_NHW > threshold + _STABILITY_OFFSET).sum(dim=(1, 2))
    outer = (logits_NHW > threshold - _STABILITY_OFFSET).sum(dim=(1, 2))
    return inner / outer.clamp(min=1)


def write_runs(places: NDArray[np.int64], sizes: Sequence[tuple[int, int]]) -> Runs:
    """COCO's `counts` and the area of masks that lie end to end, each by columns.

    `places` are the sorted indices of all pixels that differ from the one before them in their own
    mask, `sizes` the (height, width) of each mask.
    """
    ends = np.cumsum([height * width for height, width in sizes])
    own = np.split(places, np.searchsorted(places, ends[:-1]))
    return [
        encode_changes(changes - (end - height * width), height, width)
        for changes, end, (height, width) in zip(own, ends, sizes, strict=True)
    ]
