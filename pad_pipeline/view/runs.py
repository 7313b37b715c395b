"""What `analyze` and `reproduce` leave of single images: Align masks and tokenmaps, variant by
variant of the projector."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pad_pipeline import storage
from pad_pipeline.errors import UserError

MAPS = "maps"
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_MOST_BYTES = 64 << 20
_NO_MAPS = (
    "has no maps of single images: give the folder that `pad-pipeline analyze RUN --annotations "
    "DATA --output FOLDER`, `pad-pipeline reproduce` or `pad-pipeline evaluate … --against RUN` "
    "wrote"
)


@dataclass(frozen=True, slots=True)
class ProjectorVariant:
    """One variant of a projector: its name, its figures, and its maps of single images.

    `grid` is (rows, columns) of tokens. An image of `images` has `frame`, the name of the picture
    as the model sees it, `regions` of {tag, covered, predicted, iou} with numbers of tokens,
    `words` (iteration, token) and `cosines` of matching pursuit, the `colours` of some words, and
    where no data set has the image a `caption`.
    """

    name: str
    folder: Path
    grid: tuple[int, int]
    threshold: str
    measures: dict[str, float]
    images: dict[str, dict[str, Any]]


def read_runs(url: str) -> list[ProjectorVariant]:
    """The variants in a folder, in the order of their files' names.

    Raises `UserError` where there is none or one is damaged.
    """
    folder = storage.local_path(url)
    if folder is None or not folder.is_dir():
        raise UserError(f"expected a folder on this machine with an analysis, found {url}")
    paths = sorted((folder / MAPS).glob("*.json"))
    if not paths:
        raise UserError(f"{url} {_NO_MAPS}")
    return [_read(path) for path in paths]


def _read(path: Path) -> ProjectorVariant:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"it is larger than {_MOST_BYTES >> 20} MiB")
        found = json.loads(path.read_text(encoding="utf-8"))
        rows, columns = (int(side) for side in found["grid"])
        run = ProjectorVariant(
            name=str(found["name"]),
            folder=path.parent,
            grid=(rows, columns),
            threshold=str(found["threshold"]),
            measures={str(name): float(value) for name, value in found["measures"].items()},
            images={str(image["image_id"]): image for image in found["images"]},
        )
        for image in run.images.values():
            _check(image, rows * columns)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path} is damaged ({type(error).__name__}: {error}): run `pad-pipeline analyze` again"
        ) from error
    return run


def _check(image: dict[str, Any], num_tokens: int) -> None:
    if not isinstance(image.get("caption"), str | None):
        raise ValueError("a caption is not a string")
    name = image["frame"]
    if not isinstance(name, str) or Path(name).name != name:
        raise ValueError(f"{name!r} is not a file in the same folder")
    for words, cosines in zip(image["words"], image["cosines"], strict=True):
        if len(words) != num_tokens or len(cosines) != num_tokens:
            raise ValueError(f"a map has not {num_tokens} tokens")
        if not all(isinstance(word, str) for word in words):
            raise ValueError("a word is not a string")
        if not all(-1 <= float(cosine) <= 1 for cosine in cosines):
            raise ValueError("a cosine is not from -1 to 1")
    for region in image["regions"]:
        if not isinstance(region["tag"], str) or not 0 <= float(region["iou"]) <= 1:
            raise ValueError("a region lacks a tag or an IoU between 0 and 1")
        for kind in ("covered", "predicted"):
            if not all(0 <= int(token) < num_tokens for token in region[kind]):
                raise ValueError("a region has a token outside of the grid")
    if not all(_COLOUR.fullmatch(colour) for colour in image["colours"].values()):
        raise ValueError("a colour is not of the form #rrggbb")


def frame_of(run: ProjectorVariant, image_id: str) -> bytes | None:
    """The picture that the model saw, a PNG; None where the run has no such image."""
    image = run.images.get(image_id)
    if image is None:
        return None
    try:
        data = (run.folder / image["frame"]).read_bytes()
    except OSError:
        return None
    return data if data.startswith(b"\x89PNG") else None
