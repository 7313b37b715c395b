"""A question about an image, with what its scoring needs; and the places of images."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pad_pipeline import storage
from pad_pipeline.errors import Setting, UserError, plural
from pad_pipeline.images import ImageError, decode_image
from pad_pipeline.sources import ManifestRow, read_many
from pad_pipeline.sources.manifests import make_locator
from pad_pipeline.sources.rows import relative_id, split_uri


@dataclass(frozen=True, slots=True)
class Question:
    """One question. `image` is where its image lies, or the image itself in base64; None for text
    alone. `entry` goes into the line of its answer: references, category and the like."""

    question_id: str
    text: str
    image: ManifestRow | str | None
    entry: dict[str, Any] = field(default_factory=dict)


def place_images(
    source: str,
    images: str | None,
    questions: Sequence[tuple[str, str, str | None, dict[str, Any]]],
) -> list[Question]:
    """Questions from (id, text, path of the image, entry), the paths relative to `images`.

    Without `images` they are looked for beside `source`. Raises `UserError` where local files are
    not there: nothing is left out.
    """
    paths = [path for _, _, path, _ in questions if path is not None]
    locate = make_locator(source, images, paths[:20]) if paths else None
    placed = []
    for name, text, path, entry in questions:
        row = None
        if path is not None and locate is not None:
            row = ManifestRow(relative_id(path), *_reordered(locate(path)))
        placed.append(Question(name, text, row, entry))
    _check_there(placed, images or source)
    return placed


def read_image(question: Question) -> NDArray[np.uint8]:
    """The question's image, (height, width, 3) uint8 RGB.

    Raises `UserError` where it cannot be read or decoded.
    """
    assert question.image is not None
    if isinstance(question.image, str):
        try:
            data: bytes | Exception = base64.b64decode(question.image, validate=True)
        except binascii.Error as error:
            data = error
    else:
        [data] = read_many([question.image])
    if isinstance(data, Exception):
        raise UserError(
            f"the image of question {question.question_id} cannot be read ({data}); give the place "
            "of the images with ",
            Setting("images"),
        )
    try:
        return decode_image(data)
    except ImageError as error:
        raise UserError(
            f"the image of question {question.question_id} cannot be decoded: {error}"
        ) from error


def _reordered(located: tuple[str, int, int]) -> tuple[str, None, int, int]:
    uri, offset, size = located
    return uri, None, offset, size


def _check_there(questions: Sequence[Question], where: str) -> None:
    """Raise `UserError` where files of this machine or members of archives are missing."""
    missing = []
    for question in questions:
        row = question.image
        if not isinstance(row, ManifestRow):
            continue
        if split_uri(row.uri) is not None:
            if row.offset < 0 and not row.uri.startswith("parquet"):
                missing.append(row)
        elif storage.local_path(row.uri) is not None and not storage.exists(row.uri):
            missing.append(row)
    if missing:
        raise UserError(
            f"{plural(len(missing), 'image')} of {len(questions):,} questions not in {where}, such "
            f"as {missing[0].image_id}; complete the folder, or name another with ",
            Setting("images"),
        )
