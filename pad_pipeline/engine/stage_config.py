"""The configs of the four stages and of their workers; the docstrings of fields are the help."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge
from tyro.conf import arg

from pad_pipeline.given import BoxFormat
from pad_pipeline.limits import AtLeastOne, Fraction
from pad_pipeline.models.precision import Quantize


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """The workers of one stage, or of the whole chain in the layout `fused`."""

    min_workers: AtLeastOne = 1
    """Workers with which a run may begin where the cluster has no room for all pools at once; where
    it has, all workers start together."""
    max_workers: Annotated[int | None, Ge(1)] = None
    """Workers that the pool may grow to; without it, the stage's share of the cluster's GPUs, in
    the layout `fused` one for each."""
    gpus: Annotated[float | None, Ge(0)] = None
    """Share of a GPU that each worker reserves; without it 1, or less where there are fewer GPUs
    than models."""
    cpus: Annotated[float, Ge(0)] = 1.0
    """CPU slots of the cluster that each worker reserves."""


@dataclass(frozen=True, kw_only=True)
class TagConfig:
    """Recognize Anything: which words apply to the image."""

    from_: Annotated[str | None, arg(name="from")] = None
    """Where tags are from: `model`, `classes`, `captions` (their noun phrases), `column`, or
    several of these, as `model,captions`. Without it the model, or what is given: classes, or the
    labels of boxes. A model that is not needed is not loaded."""
    model: str
    """Directory of a converted RAM or RAM++, its name in the models folder, or `embedded`."""
    batch_size: AtLeastOne = 32
    """Images per forward pass."""
    parser: str | None = None
    """The package of spaCy that finds the phrases of captions; without it the small English one
    that is installed."""
    column: str = "tags"
    """Column, or key of JSON entries, with an image's tags, where they are from a column."""
    pool: PoolConfig = field(default_factory=PoolConfig)


@dataclass(frozen=True, kw_only=True)
class DetectConfig:
    """Grounding DINO: where the tagged things are."""

    from_: Annotated[Literal["model", "boxes"] | None, arg(name="from")] = None
    """`boxes` takes those that are given with their labels, and loads no detector and, unless
    `tag.from` says so, no tagger; without it where boxes are given."""
    boxes: str | None = None
    """The given boxes: COCO's JSON, a folder of YOLO's text files, a PAD data set, or the name of a
    column of the source."""
    box_format: BoxFormat = "xyxy"
    """What the four numbers of a column's boxes are: corners, or corner and size as COCO has
    them, in pixels."""
    model: str
    """Hub id, name in the models folder or directory of Grounding DINO, MM-Grounding-DINO or SAM 3,
    an original checkpoint of Grounding DINO, or `embedded`."""
    batch_size: AtLeastOne = 8
    """Images per forward pass; each prompt past an image's first counts as one more, and for SAM 3
    each tag is a prompt."""
    group_by_size: bool = False
    """Fill forward passes with images of one resized size from the whole chunk, where only
    neighbours share one otherwise: fewer, fuller passes where sizes vary."""
    pad_to: Literal["own", "canvases"] = "own"
    """`canvases` pads images to one of eleven sizes, so that those of unlike sizes share a pass:
    meant to be faster on a GPU where sizes vary; boxes and scores differ a little (docs/gpu.md).
    `own` leaves each at its own size."""
    second: str | None = None
    """Model of a second detector: a box stays where both find it."""
    second_iou: Fraction = 0.5
    """Overlap from which the two find the same."""
    negative: str | None = None
    """Words that are detected too and whose boxes are thrown away after suppression, so that they
    are not taken for a tag: `"shadow, reflection"`, or a file with one a line."""
    box_threshold: Fraction = 0.25
    """Boxes whose score is above this are kept (0–1)."""
    thresholds: str | None = None
    """Box thresholds of single tags in place of it: `"dog=0.4, red car=0.3"`, or a file with one a
    line."""
    text_threshold: Fraction = 0.20
    """Words whose score is above this enter a phrase (0–1); used by the label mode `phrase`."""
    label_mode: Literal["span", "phrase"] = "span"
    """`span` labels a box with its best tag; `phrase` joins all words above the text threshold, as
    the public Grounded-SAM script does."""
    pool: PoolConfig = field(default_factory=PoolConfig)


@dataclass(frozen=True, kw_only=True)
class SuppressConfig:
    """Non-maximum suppression: which of several boxes on one thing stays."""

    iou_threshold: Fraction = 0.5
    """A box that overlaps a better one by more than this is suppressed."""
    per_class: bool = False
    """Let only boxes of the same tag suppress each other."""
    given_boxes: bool = False
    """Suppress given boxes too; without it each has its mask, in their order."""
    pool: PoolConfig = field(default_factory=lambda: PoolConfig(max_workers=1, gpus=0.0, cpus=0.5))


@dataclass(frozen=True, kw_only=True)
class SegmentConfig:
    """SAM: which pixels of a box belong to the thing."""

    from_: Annotated[Literal["model", "masks", "detector"], arg(name="from")] = "model"
    """`masks` takes the masks of the given boxes (polygons or RLE), `detector` those that SAM 3
    draws with its boxes; neither loads a segmenter."""
    model: str
    """Hub id, name in the models folder, directory or original checkpoint of SAM, MobileSAM, SAM-HQ
    or SAM 2, or `embedded`."""
    batch_size: AtLeastOne = 8
    """Images per forward pass of the image encoder."""
    box_batch_size: AtLeastOne = 64
    """Boxes per forward pass of the mask decoder, over all images of a batch."""
    quantize: Quantize = "none"
    """`fp8` multiplies in 8 bits in the encoder of SAM and SAM-HQ, on GPUs that can (L4, RTX 4090,
    H100): meant to be faster, with slightly other masks; `models compare-precision` shows them."""
    pool: PoolConfig = field(default_factory=PoolConfig)
