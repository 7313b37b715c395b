"""Arguments and options that several commands share, one definition each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import Positional, arg

DataSet = Positional[
    Annotated[str, arg(metavar="OUTPUT", help="The data set, as `annotate` wrote it.")]
]

Run = Positional[Annotated[str, arg(metavar="RUN", help="Folder of a training run.")]]

Preset = Annotated[
    Literal["paper", "demo"],
    arg(help="Defaults of the other options: `paper` or `demo` (the embedded small models)."),
]
"""It has chosen the defaults before a command is parsed, see `commands`."""

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
    """Where the image files of a JSON, JSONL or Parquet source are."""


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """Where a command runs on Ray."""

    ray_address: str | None = None
    """Ray cluster to join; without it the one that runs here, else a local start."""
    ray_logs: bool = False
    """Show Ray's own messages."""
