"""What a run of `annotate` can be told: frozen dataclasses whose field docstrings are the help."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pad_pipeline.errors import UserError


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """The workers of one stage, or of the whole chain in the layout `fused`."""

    min_workers: int = 1
    """Workers with which a run may begin where the cluster has no room for all pools at once; where
    it has, all workers start together."""
    max_workers: int | None = None
    """Workers that the pool may grow to; without it, the stage's share of the cluster's GPUs."""
    gpus: float | None = None
    """Share of a GPU that each worker reserves; without it 1, or less where there are fewer GPUs
    than models."""
    cpus: float = 1.0
    """CPU slots of the cluster that each worker reserves."""


@dataclass(frozen=True, kw_only=True)
class TagConfig:
    """Recognize Anything: which words apply to the image."""

    model: str
    """Directory of a converted RAM or RAM++, its name in the models folder, or `embedded`."""
    batch_size: int = 32
    """Images per forward pass."""
    pool: PoolConfig = field(default_factory=PoolConfig)


@dataclass(frozen=True, kw_only=True)
class DetectConfig:
    """Grounding DINO: where the tagged things are."""

    model: str
    """Hub id, directory or original checkpoint of Grounding DINO or MM-Grounding-DINO, or
    `embedded`."""
    batch_size: int = 8
    """Images per forward pass; each prompt past an image's first counts as one more."""
    box_threshold: float = 0.25
    """Lowest score of a box that is kept (0–1)."""
    text_threshold: float = 0.20
    """Lowest score of a word that enters a phrase (0–1); used by `--detect.label-mode phrase`."""
    label_mode: Literal["span", "phrase"] = "span"
    """`span` labels a box with its best tag; `phrase` joins all words above the text threshold, as
    the public Grounded-SAM script does."""
    pool: PoolConfig = field(default_factory=PoolConfig)


@dataclass(frozen=True, kw_only=True)
class SuppressConfig:
    """Non-maximum suppression: which of several boxes on one thing stays."""

    iou_threshold: float = 0.5
    """A box falls when it overlaps a better one by more than this."""
    per_class: bool = False
    """Let only boxes of the same tag suppress each other."""
    pool: PoolConfig = field(default_factory=lambda: PoolConfig(max_workers=1, gpus=0.0, cpus=0.5))


@dataclass(frozen=True, kw_only=True)
class SegmentConfig:
    """SAM: which pixels of a box belong to the thing."""

    model: str
    """Hub id, directory or original checkpoint of SAM, SAM-HQ or SAM 2, or `embedded`."""
    batch_size: int = 8
    """Images per forward pass of the image encoder."""
    box_batch_size: int = 64
    """Boxes per forward pass of the mask decoder, over all images of a batch."""
    pool: PoolConfig = field(default_factory=PoolConfig)


@dataclass(frozen=True, kw_only=True)
class AnnotateConfig:
    """One run of the annotation chain."""

    tag: TagConfig
    detect: DetectConfig
    suppress: SuppressConfig = field(default_factory=SuppressConfig)
    segment: SegmentConfig
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the models run; `auto` takes the GPU where there is one."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of the models; `auto` is bfloat16 on a GPU and float32 on a CPU."""
    compile: bool = False
    """Compile the models with torch.compile: a slower start, then more images per second."""
    threads: int = 0
    """CPU threads of each model worker; 0 takes one per core."""
    layout: Literal["auto", "fused", "pools"] = "auto"
    """`fused` puts the whole chain on one worker per GPU and decodes each image once; `pools` gives
    every stage its own workers; `auto` is `fused` on at most one GPU, else `pools`."""
    fused: PoolConfig = field(default_factory=PoolConfig)
    """The workers of the layout `fused`; without a number, one per GPU."""
    costs: str | None = None
    """Seconds per image of each model on its GPU, as `tag=0.005,detect=0.04,segment=0.07`, by
    which pools without a number are sized: `plan` measures them, else those of an H200 count."""
    chunk_size: int = 16
    """Images that travel together and are committed together; part of what makes shards
    reproducible."""
    rows_per_shard: int = 2048
    """Images per Parquet shard; a multiple of the chunk size."""
    max_pixels: int = 178_956_970
    """Larger images are recorded as failed before they are decoded."""
    max_bytes: int = 128 * 1024 * 1024
    """Larger files are recorded as failed before they are decoded."""
    hang_after_s: float = 1800.0
    """A worker in which no batch ends for so many seconds is replaced, and the image at fault
    recorded as failed."""
    max_failed_share: float = 0.05
    """The run ends with an error when more than this share of the images fail (0–1)."""

    def __post_init__(self) -> None:
        """Refuse values that cannot work, all before a weight is loaded."""
        _ = self.seconds_by_model
        shares = {
            "--detect.box-threshold": self.detect.box_threshold,
            "--detect.text-threshold": self.detect.text_threshold,
            "--suppress.iou-threshold": self.suppress.iou_threshold,
            "--max-failed-share": self.max_failed_share,
        }
        for name, value in shares.items():
            if not 0 <= value <= 1:
                raise UserError(f"{name} must lie between 0 and 1, not {value}")
        counts = {
            "--tag.batch-size": self.tag.batch_size,
            "--detect.batch-size": self.detect.batch_size,
            "--segment.batch-size": self.segment.batch_size,
            "--segment.box-batch-size": self.segment.box_batch_size,
            "--chunk-size": self.chunk_size,
            "--rows-per-shard": self.rows_per_shard,
            "--max-pixels": self.max_pixels,
            "--max-bytes": self.max_bytes,
        }
        for name, count in counts.items():
            if count < 1:
                raise UserError(f"{name} must be at least 1, not {count}")
        if self.hang_after_s <= 0:
            raise UserError(f"--hang-after-s must be positive, not {self.hang_after_s}")
        if self.threads < 0:
            raise UserError(f"--threads must not be negative, not {self.threads}")
        if self.rows_per_shard % self.chunk_size:
            raise UserError(
                f"--rows-per-shard {self.rows_per_shard} is not a multiple of --chunk-size "
                f"{self.chunk_size}; {self._next_multiple()} is"
            )
        pools = {f"{name}.pool": stage.pool for name, stage in self.stages.items()}
        for name, pool in {**pools, "fused": self.fused}.items():
            most = pool.max_workers if pool.max_workers is not None else pool.min_workers
            if not 1 <= pool.min_workers <= most:
                raise UserError(
                    f"--{name}.min-workers {pool.min_workers} and --{name}.max-workers "
                    f"{pool.max_workers}: expected 1 <= min <= max"
                )
            if (pool.gpus or 0) < 0 or pool.cpus < 0:
                raise UserError(f"--{name}.gpus and --{name}.cpus must not be negative")

    @property
    def stages(self) -> dict[str, TagConfig | DetectConfig | SuppressConfig | SegmentConfig]:
        """The configs of the four stages by name, in the order in which they run."""
        return {
            "tag": self.tag,
            "detect": self.detect,
            "suppress": self.suppress,
            "segment": self.segment,
        }

    @property
    def seconds_by_model(self) -> dict[str, float] | None:
        """What `costs` says; raises `UserError` where it says it wrongly."""
        if self.costs is None:
            return None
        expected = {"tag", "detect", "segment"}
        seconds = {}
        for part in self.costs.split(","):
            name, _, value = part.partition("=")
            try:
                seconds[name.strip()] = float(value)
            except ValueError:
                seconds.clear()
                break
        if set(seconds) != expected or not all(0 < value < 1e6 for value in seconds.values()):
            raise UserError(
                "--costs must give the seconds per image of all three models, such as "
                f"tag=0.005,detect=0.04,segment=0.07, not {self.costs!r}"
            )
        return {name: seconds[name] for name in ("tag", "detect", "segment")}

    def _next_multiple(self) -> int:
        return -(-self.rows_per_shard // self.chunk_size) * self.chunk_size


# What shapes the run and not the records: it may differ when an interrupted run goes on.
_NOT_IDENTITY = ("layout", "fused", "costs", "hang_after_s", "max_failed_share")


def identity(config: AnnotateConfig, fingerprints: Mapping[str, str]) -> dict[str, Any]:
    """Everything that decides what the records of a run say, as plain JSON values.

    `fingerprints` gives the checksum of each stage's model. Two runs with equal identities on the
    same source and hardware write the same bytes. Model paths are left out: the checksum counts.
    """
    values = dataclasses.asdict(config)
    for name in _NOT_IDENTITY:
        del values[name]
    for stage in config.stages:
        del values[stage]["pool"]
        if stage in fingerprints:
            values[stage]["model"] = fingerprints[stage]
    return values


def paper() -> AnnotateConfig:
    """RAM Swin-L, Grounding DINO Swin-T and SAM ViT-H (arXiv 2505.17316, section 4)."""
    return AnnotateConfig(
        tag=TagConfig(model="ram"),
        detect=DetectConfig(model="IDEA-Research/grounding-dino-tiny", batch_size=16),
        segment=SegmentConfig(model="facebook/sam-vit-huge"),
        chunk_size=32,
    )


def demo() -> AnnotateConfig:
    """The embedded small models, which know the illustrated scenes of `pad-pipeline demo` only."""
    return AnnotateConfig(
        tag=TagConfig(model="embedded", batch_size=16),
        detect=DetectConfig(model="embedded", box_threshold=0.2),
        segment=SegmentConfig(model="embedded"),
    )


PRESETS = {"paper": paper, "demo": demo}
