"""The settings of `conversations`: a frozen dataclass whose field docstrings are the help."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from pad_pipeline.cognition.answers import longest_indices, longest_rgb
from pad_pipeline.cognition.regions import FrameRegion, RegionSet, named_regions
from pad_pipeline.cognition.sampling import RgbSampling
from pad_pipeline.engine.stage_config import PoolConfig
from pad_pipeline.errors import Setting, UserError
from pad_pipeline.limits import AtLeastOne, Fraction, NotNegative, check_limits


@dataclass(frozen=True, kw_only=True)
class CognitionConfig:
    """What is asked about each image, and how the answers are made."""

    codes: str = "embedded"
    """VQ model: hub id or directory of transformers or diffusers, a checkpoint of
    taming-transformers, or `embedded`."""
    size: AtLeastOne = 672
    """Side of the square frame in which the model sees an image, in pixels, as in Table 6."""
    geometry: Literal["pad", "squash", "crop"] = "pad"
    """How an image becomes that frame; `pad`, as in fine-tuning, adds borders."""
    regions: tuple[RegionSet, ...] = ("quarters",)
    """What questions are about: quarters, as in Table 6, halves, the whole image, or several of
    these."""
    region_codes: Literal["crop", "grid"] = "crop"
    """`crop` encodes the region by itself; `grid` takes its part of the whole frame's indices."""
    same_region: bool = True
    """Ask for indices and RGB values of the same region, as in Table 6."""
    rgb_grid: AtLeastOne = 16
    """RGB values along the longer side of a region."""
    rgb_sampling: RgbSampling = "nearest"
    """`nearest` gives the pixel in the middle of each cell of the grid, `mean` that of its area."""
    max_answer_tokens: AtLeastOne = 12_500
    """Longest answer; each character counts as a token, the most that a tokenizer makes of it."""
    seed: int = 0
    """Seed of templates, regions and turns."""
    batch_size: AtLeastOne = 8
    """Regions per pass of the VQ model."""
    rows_per_shard: AtLeastOne = 512
    """Conversations per file, which are worked on and kept together."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the VQ model runs; `auto` takes the GPU where there is one."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """dtype of the VQ model; less than float32 changes some of the indices."""
    threads: NotNegative = 0
    """CPU threads of each worker; 0 takes one per core."""
    max_pixels: AtLeastOne = 178_956_970
    """Larger images count as failed before they are decoded."""
    max_bytes: AtLeastOne = 128 * 1024 * 1024
    """Larger files count as failed before they are decoded."""
    max_failed_share: Fraction = 0.05
    """The run ends with an error when more than this share of the conversations with an image get
    no questions (0–1)."""
    pool: PoolConfig = field(default_factory=PoolConfig)

    def __post_init__(self) -> None:
        """Refuse values that cannot work, before anything is loaded."""
        check_limits(self)
        if not self.regions:
            raise UserError(Setting("regions"), " names nothing to ask about; give `quarters`")
        needed = longest_rgb(self.rgb_grid**2)
        if needed > self.max_answer_tokens:
            raise UserError(
                Setting("rgb_grid", self.rgb_grid),
                f" gives answers of up to {needed:,} characters, where ",
                Setting("max_answer_tokens", self.max_answer_tokens),
                " allows fewer; lower the first or raise the second",
            )

    def named_regions(self, factor: int, num_codes: int) -> list[FrameRegion]:
        """The regions of `regions` for a VQ model; raises `UserError` where its codes do not divide
        them, or are more than an answer may hold."""
        found = named_regions(self.regions, self.size, factor)
        for region in found:
            number = region.height * region.width // factor**2
            needed = longest_indices(number, num_codes)
            if needed > self.max_answer_tokens:
                raise UserError(
                    f"{region.words.removesuffix(' of') or 'the whole image'} has {number:,} "
                    f"indices, an answer of up to {needed:,} characters, where ",
                    Setting("max_answer_tokens", self.max_answer_tokens),
                    " allows fewer; raise it, or lower ",
                    Setting("size", self.size),
                )
        return found


# What shapes the run and not what it writes: it may differ when an interrupted run goes on.
_NOT_IDENTITY = ("codes", "device", "threads", "max_failed_share", "pool")


def identity(config: CognitionConfig, fingerprint: str) -> dict[str, Any]:
    """Everything of a config that decides what is written, as plain JSON values.

    `fingerprint` is the VQ model's, which counts in place of its name.
    """
    values = dataclasses.asdict(config)
    for name in _NOT_IDENTITY:
        del values[name]
    return {**values, "regions": list(config.regions), "codes": fingerprint}
