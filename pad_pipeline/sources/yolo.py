"""YOLO's text files: a line per box, class number and four numbers, or a polygon."""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from pad_pipeline import storage
from pad_pipeline.errors import UserError, short_line
from pad_pipeline.given import GivenRegion
from pad_pipeline.sources.folder import walk

logger = logging.getLogger(__name__)

_NAME_FILES = ("classes.txt", "obj.names", "data.yaml", "dataset.yaml", "data.yml")
_FOLDERS_ABOVE = 2


def list_yolo(folder: str) -> Iterator[tuple[str, list[GivenRegion]]]:
    """The regions of every text file below a folder, by its path without ending.

    A line holds a class number, the centre and size of a box and perhaps a score, or a polygon; all
    are fractions of the image's sides. The classes' names are those of a `classes.txt`, `obj.names`
    or `data.yaml` in the folder or up to two above it; without one a class is called by its number.
    Raises `UserError` for a line that cannot be read.
    """
    names = class_names(folder)
    found = False
    for file in walk(folder, is_label_file):
        found = True
        yield posixpath.splitext(file.relative)[0], read_label_file(file.url, names)
    if not found:
        raise UserError(
            f"{folder} holds neither a PAD data set nor text files of YOLO's boxes (0001.txt, …)"
        )
    if not names:
        logger.warning(
            "%s: no %s, so boxes are labelled with their class numbers", folder, _NAME_FILES[0]
        )


def is_label_file(name: str) -> bool:
    """Whether a file holds an image's labels, by its path."""
    return name.endswith(".txt") and name not in _NAME_FILES


def read_label_file(url: str, names: Mapping[int, str]) -> list[GivenRegion]:
    """The regions of one text file, a line each; raises `UserError` as `list_yolo` does."""
    text = storage.read_bytes(url).decode("utf-8", "replace")
    return [
        _region(url, number, line.split(), names)
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip()
    ]


def _region(url: str, number: int, words: list[str], names: Mapping[int, str]) -> GivenRegion:
    try:
        class_number, *values = int(words[0]), *map(float, words[1:])
    except ValueError:
        values = []
    if len(values) not in (4, 5) and (len(values) < 6 or len(values) % 2):
        raise UserError(
            f"{url}: line {number} should be a class number with a box (4 numbers, perhaps a "
            f"score) or a polygon (6 or more), found {' '.join(words)[:80]!r}"
        )
    if names and class_number not in names:
        raise UserError(f"{url}: line {number} is of class {class_number}, which has no name")
    tag = names.get(class_number, str(class_number))
    if len(values) >= 6:
        xs, ys = values[::2], values[1::2]
        box = (min(xs), min(ys), max(xs), max(ys))
        return GivenRegion(tag, box, is_relative=True, polygons=(tuple(values),))
    x, y, width, height, *score = values
    box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    return GivenRegion(tag, box, score=score[0] if score else 1.0, is_relative=True)


def class_names(folder: str) -> dict[int, str]:
    """The names of the classes of a folder of text files; {} where nothing says them."""
    place = folder.rstrip("/")
    for _ in range(_FOLDERS_ABOVE + 1):
        for name in _NAME_FILES:
            url = storage.join(place, name)
            if storage.exists(url):
                return read_names(url)
        place = posixpath.dirname(place)
    return {}


def read_names(url: str) -> dict[int, str]:
    """The names of a list of classes or a data.yaml; raises `UserError` where it has none."""
    text = storage.read_bytes(url).decode("utf-8-sig", "replace")
    names: Any = [line.strip() for line in text.splitlines() if line.strip()]
    if url.endswith(("yaml", "yml")):
        try:
            names = yaml.safe_load(text)["names"]
        except (yaml.YAMLError, TypeError, KeyError, RecursionError) as error:
            raise UserError(
                f"{url} should give the classes under the key names: {short_line(error)}"
            ) from error
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not all(isinstance(number, int) for number in names):
        raise UserError(f"{url} should give the classes' names as a list or by their numbers")
    return {number: str(name) for number, name in names.items()}
