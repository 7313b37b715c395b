"""Which image of a ground truth is which of a data set, and which tag names which category."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from pad_pipeline import storage
from pad_pipeline.errors import Setting, UserError, one_line, plural
from pad_pipeline.ground_truth.coco import GroundTruth

_NUM_NAMED = 5


def pair_images(ids: Sequence[str], truth: GroundTruth, annotations: str) -> dict[str, int]:
    """Id in the data set -> place in `truth.images`, by the path or else by the file's name alone.

    Raises `UserError` where the truth has images that the data set `annotations` lacks.
    """
    known = set(ids)
    by_name: dict[str, list[str]] = {}
    for image_id in known:
        by_name.setdefault(PurePosixPath(image_id).name, []).append(image_id)
    found: dict[str, int] = {}
    missing = []
    for place, image in enumerate(truth.images):
        path = image.file_name
        alike = by_name.get(PurePosixPath(path).name, [])
        image_id = path if path in known else alike[0] if len(alike) == 1 else None
        if image_id is None:
            missing.append(path)
        elif image_id in found:
            raise UserError(
                f"{truth.images[found[image_id]].file_name} and {path} of {truth.url} are both "
                f"{image_id} in {annotations}: give each image once, by its path"
            )
        else:
            found[image_id] = place
    if missing:
        raise UserError(
            f"{plural(len(missing), 'image')} of {len(truth.images):,} in {truth.url} not in "
            f"{annotations}, such as {missing[0]}; annotate them, or give the truth of what was "
            "annotated alone"
        )
    return found


def pair_tags(tags: Collection[str], names: Mapping[int, str], match: str | None) -> dict[str, int]:
    """Tag -> number of the category that it names, in lower case or by the file `match`.

    `match` is a JSON object of tag -> category. Raises `UserError` where it names a category that
    is not in `names`, and where no tag names one.
    """
    numbers = {name.lower(): number for number, name in names.items()}
    found = {tag: numbers[tag.lower()] for tag in tags if tag.lower() in numbers}
    for tag, name in ({} if match is None else _read_match(match)).items():
        if str(name).lower() not in numbers:
            raise UserError(f"{match} names the category {name!r}, which the truth has not")
        found[tag] = numbers[str(name).lower()]
    if not found.keys() & set(tags):
        raise UserError(
            f"no tag names a category: the tags are {_some(tags)}, the categories "
            f"{_some(numbers)}; say which belong together with ",
            Setting("match"),
        )
    return found


def _read_match(match: str) -> dict[str, Any]:
    try:
        named = json.loads(storage.read_bytes(match))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{match} is not valid JSON: {one_line(error)}") from error
    if not isinstance(named, dict):
        raise UserError(Setting("match"), ' should be a JSON object {"tag": "category"}')
    return named


def _some(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:_NUM_NAMED]) or "none"
