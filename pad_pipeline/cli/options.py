"""Options that several commands share, and the flags that stand for the library's settings."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from tyro.conf import Positional, arg

from pad_pipeline.errors import Setting, UserError
from pad_pipeline.limits import AtLeastOne

_Config = TypeVar("_Config")

Source = Positional[
    Annotated[
        str,
        arg(
            metavar="SOURCE",
            help="Folder, LLaVA JSON, zip, WebDataset tars, Parquet, Arrow or JSONL; path or URL.",
        ),
    ]
]

DataSet = Positional[
    Annotated[str, arg(metavar="DATASET", help="The data set, as `annotate` wrote it.")]
]

Run = Positional[Annotated[str, arg(metavar="RUN", help="Folder of a training run.")]]

Preset = Annotated[
    Literal["paper", "fast", "sam3", "demo"],
    arg(
        help="Defaults of the other options: `paper`, `fast` (masks by SAM 2.1 in place of SAM), "
        "`sam3` (boxes and masks by SAM 3) or `demo` (the embedded small models)."
    ),
]
"""Of annotation. Applied in `commands.build_commands`, before a command is parsed."""

TrainingPreset = Annotated[
    Literal["paper", "demo"],
    arg(help="Defaults of the other options: `paper` or `demo` (the embedded small models)."),
]
"""Applied where `Preset` is."""

Images = Annotated[
    str | None, arg(help="Where the images are now, if not where they were annotated.")
]

TrainingImages = Annotated[str | None, arg(help="Where the images are: folder or archive.")]


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """What belongs to a source of images."""

    captions: str | None = None
    """LLaVA JSON or JSONL that gives the images of a folder their captions."""
    images: str | None = None
    """Where the image files of a JSON, JSONL, Parquet or Arrow source are."""


@dataclass(frozen=True, kw_only=True)
class SubsetOptions:
    """Which images of a source are annotated."""

    limit: int | None = None
    """Only the first images, as many as this."""
    sample: int | None = None
    """Only as many images as this, from all over the source, the same ones every time."""
    ids: str | None = None
    """Only the images that this file names, one id per line."""


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """Where a command runs on Ray."""

    ray_address: str | None = None
    """Ray cluster to join; without it the one that runs here, else a local start."""
    ray_logs: bool = False
    """Show Ray's own messages."""


@dataclass(frozen=True, kw_only=True)
class WorkerOptions(RayOptions):
    """How many workers train several models at once, and where."""

    workers: AtLeastOne | None = None
    """Workers on Ray that train at once; by default one for each CPU core, at most 8."""


def choose_preset(name: str, presets: Mapping[str, Callable[[], _Config]]) -> _Config:
    """The config of a preset; raises `UserError` where none has that name."""
    if name not in presets:
        raise UserError(f"unknown preset {name!r}; choose one of {', '.join(presets)}")
    return presets[name]()


_OTHER_NAMES = {"num_gpus": "gpus", "runs": "run", "from_": "from"}
"""Arguments of the library whose option has another name."""


def to_words(setting: Setting) -> list[str]:
    """The words of the command line that stand for a setting: `["--chunk-size", "48"]`."""
    path, _, name = setting.name.rpartition(".")
    prefix = f"--{path}." if path else "--"
    name = _OTHER_NAMES.get(name, name)
    if setting.value is False:
        name = f"no_{name}"
    flag = (prefix + name).replace("_", "-")
    if not setting.has_value or isinstance(setting.value, bool):
        return [flag]
    value = setting.value
    return [flag, f"{value:g}" if isinstance(value, float) else str(value)]


def to_flag(setting: Setting) -> str:
    """A setting in a message, as one types it: `--chunk-size 48`."""
    return shlex.join(to_words(setting))
