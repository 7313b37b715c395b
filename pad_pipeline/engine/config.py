"""The config of a run of `annotate`: frozen dataclasses whose field docstrings are the help."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, get_args

from annotated_types import Ge, Gt

from pad_pipeline.engine.costs import MODELS
from pad_pipeline.engine.stage_config import (
    DetectConfig,
    PoolConfig,
    SegmentConfig,
    SuppressConfig,
    TagConfig,
)
from pad_pipeline.engine.words import as_lines, read_numbers, read_words
from pad_pipeline.errors import Setting, UserError
from pad_pipeline.limits import AtLeastOne, Fraction, NotNegative, check_limits
from pad_pipeline.records import COMMON_VERSION, SCHEMA_VERSION, TagOrigin

StageConfig = TagConfig | DetectConfig | SuppressConfig | SegmentConfig

STAGE_CONFIGS: dict[str, type[StageConfig]] = {
    "tag": TagConfig,
    "detect": DetectConfig,
    "suppress": SuppressConfig,
    "segment": SegmentConfig,
}
STAGE_NAMES = tuple(STAGE_CONFIGS)
"""The stages in the order in which they run."""


@dataclass(frozen=True, kw_only=True)
class AnnotateConfig:
    """One run of the annotation chain."""

    tag: TagConfig
    detect: DetectConfig
    suppress: SuppressConfig = field(default_factory=SuppressConfig)
    segment: SegmentConfig
    classes: str | None = None
    """Tags for all images in place of the tagger's: `"dog, red car"`, or a file with one a line."""
    min_predicted_iou: Fraction = 0.0
    """Regions stay whose masks the segmenter itself gives at least this quality (0–1)."""
    min_stability: Fraction = 0.0
    """Regions stay whose masks keep at least this share of their pixels when the threshold of their
    logits moves by 1 (0–1), as in SAM's automatic masks."""
    min_area: NotNegative = 0
    """Regions stay whose masks have at least so many pixels."""
    max_area: Annotated[int | None, Ge(0)] = None
    """Regions stay whose masks have at most so many pixels."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the models run; `auto` takes the GPU where there is one."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """dtype of the models; `auto` is bfloat16 on a GPU and float32 on a CPU."""
    compile: bool = False
    """Compile the layers that models repeat with torch.compile, and keep the result for later
    runs. SAM's own kernels need none of it."""
    threads: NotNegative = 0
    """CPU threads of each model worker; 0 takes one per core."""
    layout: Literal["auto", "fused", "pools"] = "auto"
    """`fused` puts the whole chain on one worker per GPU and decodes each image once; `pools` gives
    every stage its own workers; `auto` is `fused` on at most one GPU, else `pools`."""
    fused: PoolConfig = field(default_factory=PoolConfig)
    """The workers of the layout `fused`; without a number, one per GPU."""
    costs: str | None = None
    """Seconds per image of each model on its GPU, as `tag=0.005,detect=0.04,segment=0.07`, by
    which pools without a number are sized: `plan` measures them, else those of an H200 count."""
    chunk_size: AtLeastOne = 16
    """Images that travel together and are committed together; part of what makes shards
    reproducible."""
    max_chunk_bytes: Annotated[int | None, Ge(1)] = None
    """Decoded pixels that a chunk holds in memory at most, in bytes; a chunk with more goes through
    the models in parts, which changes the batches. Without it there is no bound."""
    in_flight: Annotated[int | None, Ge(1)] = None
    """Chunks that each worker has in hand at once, so that images are decoded and masks written
    while the GPU computes; each takes its own memory. Without it 2 on a GPU and 1 on a CPU."""
    rows_per_shard: AtLeastOne = 2048
    """Images per Parquet shard; a multiple of the chunk size."""
    max_pixels: AtLeastOne = 178_956_970
    """Larger images are recorded as failed before they are decoded."""
    max_bytes: AtLeastOne = 128 * 1024 * 1024
    """Larger files are recorded as failed before they are decoded."""
    hang_after_s: Annotated[float, Gt(0)] = 1800.0
    """A worker in which no batch ends for this many seconds is replaced, and the image at fault
    recorded as failed."""
    max_failed_share: Fraction = 0.05
    """The run ends with an error when more than this share of the images fail (0–1)."""

    def __post_init__(self) -> None:
        """Refuse values that cannot work, all before a weight is loaded."""
        _ = self.seconds_by_model
        check_limits(self)
        self._check_origins()
        if self.rows_per_shard % self.chunk_size:
            raise UserError(
                Setting("rows_per_shard", self.rows_per_shard),
                " is not a multiple of ",
                Setting("chunk_size", self.chunk_size),
                f"; {self._next_multiple()} is",
            )
        pools = {f"{name}.pool": stage.pool for name, stage in self.stages.items()}
        for name, pool in {**pools, "fused": self.fused}.items():
            if pool.max_workers is not None and pool.max_workers < pool.min_workers:
                raise UserError(
                    Setting(f"{name}.max_workers", pool.max_workers),
                    " is less than ",
                    Setting(f"{name}.min_workers", pool.min_workers),
                )

    @property
    def stages(self) -> dict[str, StageConfig]:
        """The configs of the four stages by name, in the order in which they run."""
        return {name: getattr(self, name) for name in STAGE_CONFIGS}

    @property
    def draws_masks(self) -> bool:
        """Whether the detector draws the masks too, in one stage for detect to segment."""
        return self.segment.from_ == "detector"

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The stages that run, in their order."""
        return ("tag", "detect") if self.draws_masks else STAGE_NAMES

    @property
    def schema_version(self) -> int:
        """The version of the records: data sets without presence have none of its columns."""
        return SCHEMA_VERSION if self.draws_masks else COMMON_VERSION

    @property
    def class_names(self) -> tuple[str, ...]:
        """The words of `classes`; raises `UserError` where a file of them cannot be read."""
        return read_words("classes", self.classes) if self.classes is not None else ()

    @property
    def negative_words(self) -> tuple[str, ...]:
        """The words of `detect.negative`; raises `UserError` as `class_names` does."""
        text = self.detect.negative
        return read_words("detect.negative", text) if text is not None else ()

    @property
    def tag_thresholds(self) -> dict[str, float]:
        """The thresholds of `detect.thresholds` by tag in lower case; raises `UserError` too."""
        text = self.detect.thresholds
        return read_numbers("detect.thresholds", text) if text is not None else {}

    @property
    def takes_boxes(self) -> bool:
        """Whether boxes are given and not detected."""
        return self.detect.from_ == "boxes" or self.detect.boxes is not None

    @property
    def tag_origins(self) -> tuple[TagOrigin, ...]:
        """Where the tags are from, in the order in which a record has them."""
        if self.tag.from_ is None:
            return ("boxes",) if self.takes_boxes else ("classes" if self.classes else "model",)
        named = tuple(dict.fromkeys(part.strip() for part in self.tag.from_.split(",")))
        return (*named, "boxes") if self.takes_boxes else named  # pyright: ignore

    @property
    def models(self) -> tuple[str, ...]:
        """The stages that need their model."""
        needed = {
            "tag": "model" in self.tag_origins,
            "detect": not self.takes_boxes,
            "segment": self.segment.from_ == "model",
        }
        return tuple(name for name in MODELS if needed[name])

    def _check_origins(self) -> None:
        """Refuse settings that contradict each other, or that nothing would read."""
        origins = self.tag_origins
        known = [name for name in get_args(TagOrigin) if name != "boxes"]
        if not set(origins) <= {*known, "boxes"} or "boxes" in (self.tag.from_ or ""):
            raise UserError(
                Setting("tag.from_"),
                f" is one of {', '.join(known)} or several of them with commas, not "
                f"{self.tag.from_!r}",
            )
        if self.classes is not None and "classes" not in origins:
            classes, origin = Setting("classes"), Setting("tag.from_")
            message = (" would not be read: leave ", origin, " out or add classes to it")
            raise UserError(classes, *message)
        if self.detect.boxes is not None and self.detect.from_ == "model":
            other = Setting("detect.from_", "model")
            raise UserError(Setting("detect.boxes"), " would not be read with ", other)
        for name in ("negative", "thresholds", "second"):
            if self.takes_boxes and getattr(self.detect, name) is not None:
                raise UserError(
                    Setting(f"detect.{name}"), " would not be read: no detector runs on given boxes"
                )
        if self.draws_masks:
            self._check_drawn_masks()
        if self.segment.from_ == "masks" and self.min_stability:
            raise UserError(Setting("min_stability"), " cannot be known of masks that are given")
        if self.max_area is not None and self.max_area < self.min_area:
            limits = Setting("max_area", self.max_area), Setting("min_area", self.min_area)
            raise UserError("no region can pass: ", limits[0], " is below ", limits[1])
        if self.segment.from_ == "masks" and not self.takes_boxes:
            masks, boxes = Setting("segment.from_", "masks"), Setting("detect.boxes")
            raise UserError(masks, " takes the masks of given boxes: add ", boxes)

    def _check_drawn_masks(self) -> None:
        drawn = Setting("segment.from_", "detector")
        if self.takes_boxes:
            boxes = Setting("detect.boxes" if self.detect.boxes is not None else "detect.from_")
            model = Setting("segment.from_", "model")
            message = " cannot be combined with ", drawn, ", as no detector runs on them; use "
            raise UserError(boxes, *message, model)
        if self.min_predicted_iou:
            raise UserError(
                Setting("min_predicted_iou"),
                " cannot be known with ",
                drawn,
                ", as SAM 3 does not estimate it; use ",
                Setting("min_stability"),
            )
        if self.segment.quantize != "none":
            quantize = Setting("segment.quantize", self.segment.quantize)
            raise UserError(quantize, " would not be read with ", drawn)

    @property
    def seconds_by_model(self) -> dict[str, float] | None:
        """`costs` parsed; raises `UserError` where it cannot be."""
        if self.costs is None:
            return None
        seconds = {}
        for part in self.costs.split(","):
            name, _, value = part.partition("=")
            try:
                seconds[name.strip()] = float(value)
            except ValueError:
                seconds.clear()
                break
        known = set(self.models) <= set(seconds) <= set(MODELS)
        if not known or not all(0 < value < 1e6 for value in seconds.values()):
            raise UserError(
                Setting("costs"),
                f" must give the seconds per image of {_all(self.models)}, such as "
                f"tag=0.005,detect=0.04,segment=0.07, not {self.costs!r}",
            )
        return {name: seconds[name] for name in self.models}

    def _next_multiple(self) -> int:
        return -(-self.rows_per_shard // self.chunk_size) * self.chunk_size


def _all(models: tuple[str, ...]) -> str:
    return "all three models" if len(models) == len(MODELS) else f"the models {', '.join(models)}"


def resolve_words(config: AnnotateConfig) -> AnnotateConfig:
    """The config with the words in place of the files that it names.

    Raises `UserError` where such a file is not there or holds no words.
    """
    detect = config.detect
    if detect.negative is not None:
        detect = replace(detect, negative=as_lines(config.negative_words))
    if detect.thresholds is not None:
        numbers = config.tag_thresholds.items()
        detect = replace(detect, thresholds=as_lines(f"{tag}={value}" for tag, value in numbers))
    config = replace(config, detect=detect)
    if config.classes is not None:
        config = replace(config, classes=as_lines(config.class_names))
    return config


def paper() -> AnnotateConfig:
    """RAM Swin-L, Grounding DINO Swin-T and SAM ViT-H (arXiv 2505.17316, section 4)."""
    return AnnotateConfig(
        tag=TagConfig(model="ram"),
        detect=DetectConfig(
            model="IDEA-Research/grounding-dino-tiny", batch_size=16, group_by_size=True
        ),
        segment=SegmentConfig(model="facebook/sam-vit-huge"),
        chunk_size=128,
        max_chunk_bytes=512 * 1024 * 1024,
    )


def fast() -> AnnotateConfig:
    """The tags and boxes of `paper`, and masks by SAM 2.1 Hiera-L, whose encoder computes less.

    1.8 TFLOP per image (counted) in place of the 6.0 of ViT-H.
    """
    return replace(paper(), segment=SegmentConfig(model="facebook/sam2.1-hiera-large"))


def demo() -> AnnotateConfig:
    """The embedded small models, which know the illustrated scenes of `pad-pipeline demo` only."""
    return AnnotateConfig(
        tag=TagConfig(model="embedded", batch_size=16),
        detect=DetectConfig(model="embedded", box_threshold=0.2),
        segment=SegmentConfig(model="embedded"),
    )


def sam3() -> AnnotateConfig:
    """The tags of `paper`, and boxes and masks by SAM 3, which encodes an image once for all tags.

    The threshold is that of its authors' own code. Given boxes are for its tracker, as a segmenter.
    """
    base = paper()
    return replace(
        base,
        detect=replace(base.detect, model="facebook/sam3", box_threshold=0.5),
        segment=replace(base.segment, from_="detector", model="facebook/sam3"),
    )


PRESETS = {"paper": paper, "fast": fast, "sam3": sam3, "demo": demo}
