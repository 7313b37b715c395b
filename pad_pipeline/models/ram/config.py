"""What a RAM or RAM++ is made of: sizes, tags and thresholds, and where they are read from."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pad_pipeline.errors import UserError
from pad_pipeline.normalisation import IMAGENET_MEAN, IMAGENET_STD
from pad_pipeline.resampling import Filter

DEFAULT_THRESHOLD = 0.68
"""The original's threshold for every tag where no list of thresholds is given."""

RELEASED_TAGS = Path(__file__).parent / "released" / "ram_tag_list.txt"
"""The 4,585 tags of the released models, in the order of their checkpoints."""

RELEASED_THRESHOLDS = RELEASED_TAGS.with_name("ram_tag_list_threshold.txt")

DESCRIPTIONS_PER_CLASS = 51
"""How many sentences describe each tag in the original RAM++."""

MODEL_TYPES = ("ram", "ram-plus")


@dataclass(frozen=True, kw_only=True)
class RamConfig:
    """Sizes, tags and preprocessing of one RAM or RAM++; the defaults are the released models'.

    `descriptions_per_class` tells the two apart: 0 for RAM, which has one vector per tag. A tag
    is given where its probability is strictly above its threshold; the tags at `delete_tag_index`
    never are. The images are squashed to `image_size` squared with `resize_filter` ("bicubic" as
    in the Grounded-Segment-Anything pipeline, "bilinear" as in RAM's own transform).
    """

    tags: tuple[str, ...]
    thresholds: tuple[float, ...]
    delete_tag_index: tuple[int, ...] = ()
    image_size: int = 384
    patch_size: int = 4
    window_size: int = 12
    embed_dim: int = 192
    depths: tuple[int, ...] = (2, 2, 18, 2)
    num_heads: tuple[int, ...] = (6, 12, 24, 48)
    mlp_ratio: float = 4.0
    norm_eps_swin: float = 1e-5
    image_proj_dim: int = 512
    label_dim: int = 512
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 2
    num_attention_heads: int = 4
    layer_norm_eps: float = 1e-12
    descriptions_per_class: int = 0
    pixel_mean: tuple[float, ...] = IMAGENET_MEAN
    pixel_std: tuple[float, ...] = IMAGENET_STD
    resize_filter: Filter = "bicubic"

    def __post_init__(self) -> None:
        for name, wrong in (
            ("tags: at least one is needed", not self.tags),
            (
                f"thresholds: one per tag is needed, found {len(self.thresholds)} thresholds "
                f"for {len(self.tags)} tags",
                len(self.thresholds) != len(self.tags),
            ),
            (
                f"delete_tag_index: indices below {len(self.tags)} are needed",
                any(not 0 <= index < len(self.tags) for index in self.delete_tag_index),
            ),
            (
                f"depths {self.depths} and num_heads {self.num_heads}: one of each per stage",
                len(self.depths) != len(self.num_heads),
            ),
            (
                f"image_size {self.image_size}: a multiple of {self.smallest_image} is needed "
                "(patch size times 2 per down-sampling)",
                self.image_size % self.smallest_image != 0,
            ),
            (
                f"hidden_size {self.hidden_size}: a multiple of num_attention_heads "
                f"({self.num_attention_heads}) is needed",
                self.hidden_size % self.num_attention_heads != 0,
            ),
            (
                f"label_dim {self.label_dim}: RAM++ compares labels with image tokens, so it must "
                f"equal image_proj_dim ({self.image_proj_dim})",
                self.descriptions_per_class > 0 and self.label_dim != self.image_proj_dim,
            ),
            (
                f"resize_filter {self.resize_filter!r}: bicubic or bilinear",
                self.resize_filter not in ("bicubic", "bilinear"),
            ),
        ):
            if wrong:
                raise UserError(f"the tagger's configuration is wrong at {name}")

    @property
    def model_type(self) -> str:
        """One of `MODEL_TYPES`."""
        return "ram-plus" if self.descriptions_per_class else "ram"

    @property
    def smallest_image(self) -> int:
        """The image side, in pixels, that leaves one token in the last stage."""
        return self.patch_size * 2 ** (len(self.depths) - 1)

    @property
    def vision_width(self) -> int:
        """The width of the image encoder's tokens."""
        return self.embed_dim * 2 ** (len(self.depths) - 1)

    @property
    def num_label_vectors(self) -> int:
        """The rows of `label_embed`: one per tag, in RAM++ one per description."""
        return len(self.tags) * (self.descriptions_per_class or 1)


def config_from_golden(config: Mapping[str, Any]) -> RamConfig:
    """The `RamConfig` of a golden folder's `config.json` (`model` is "ram" or "ram_plus")."""
    values = dict(config)
    is_plus = {"ram": False, "ram_plus": True}.get(values.pop("model", ""))
    if is_plus is None:
        raise UserError(
            f"the configuration is of the model {config.get('model')!r}, not of ram or ram_plus"
        )
    tags = tuple(values["tags"])
    values.setdefault("thresholds", [DEFAULT_THRESHOLD] * len(tags))
    values.setdefault("descriptions_per_class", DESCRIPTIONS_PER_CLASS if is_plus else 0)
    # both say twice what other entries already say
    for name, implied in (("num_classes", len(tags)), ("vision_width", None)):
        stated = values.pop(name, implied)
        if implied is not None and stated != implied:
            raise UserError(f"the configuration has {name} {stated} but {implied} tags")
    known = {field.name for field in fields(RamConfig)}
    return _from_values({name: value for name, value in values.items() if name in known})


def config_to_json(config: RamConfig) -> dict[str, Any]:
    """`config` as the content of a model directory's `config.json`."""
    return {"model_type": config.model_type, **asdict(config)}


def read_config(directory: Path) -> RamConfig:
    """The configuration of a converted model; raises `UserError` where it is not one of ours."""
    path = directory / "config.json"
    if not path.is_file():
        raise UserError(
            f"no config.json in {directory}; give a directory that `pad-pipeline models convert "
            "ram` or `ram-plus` wrote"
        )
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); convert the checkpoint again") from error
    model_type = values.pop("model_type", None) if isinstance(values, dict) else None
    if model_type not in MODEL_TYPES:
        raise UserError(
            f"{path} has model_type {model_type!r}; a tagger has {' or '.join(MODEL_TYPES)}"
        )
    try:
        config = _from_values(values)
    except TypeError as error:
        raise UserError(f"{path} does not describe a tagger: {error}") from error
    if config.model_type != model_type:
        raise UserError(
            f"{path} has model_type {model_type!r} but descriptions_per_class "
            f"{config.descriptions_per_class}"
        )
    return config


def read_tags(path: str | Path) -> tuple[str, ...]:
    """The tags of a UTF-8 text file, one per line; blank lines are allowed at the end alone."""
    lines = _read_lines(path, "tags")
    if "" in lines:
        raise UserError(f"{path} has no tag in line {lines.index('') + 1}; remove the blank line")
    return tuple(lines)


def read_thresholds(path: str | Path) -> tuple[float, ...]:
    """The thresholds of a text file, one number per line in the order of the tags."""
    thresholds = []
    for number, line in enumerate(_read_lines(path, "thresholds"), start=1):
        try:
            thresholds.append(float(line))
        except ValueError:
            thresholds.append(math.nan)
        if not 0 <= thresholds[-1] <= 1:
            raise UserError(f"{path} has {line!r} in line {number}, not a threshold from 0 to 1")
    return tuple(thresholds)


def _read_lines(path: str | Path, what: str) -> list[str]:
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no file of {what} at {path}; give a text file with one per line")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text; give a file of {what}, one a line") from error
    return [line.strip() for line in text.rstrip().splitlines()]


def _from_values(values: Mapping[str, Any]) -> RamConfig:
    """A `RamConfig` from values as JSON has them, lists in the place of tuples."""
    return RamConfig(**{name: _hashable(value) for name, value in values.items()})


def _hashable(value: Any) -> Any:
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    return tuple(value) if is_list else value
