"""YOLO's segmentation data: images, a text file of polygons for each, the classes' names."""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from pad_pipeline import storage
from pad_pipeline.errors import Setting, UserError, plural, short_line
from pad_pipeline.export.image_files import image_id_of
from pad_pipeline.importer.labelled import LabelledImage, Labels
from pad_pipeline.sources.boxes import Problems
from pad_pipeline.sources.folder import FoundFile, walk
from pad_pipeline.sources.rows import is_image_name
from pad_pipeline.sources.yolo import class_names, is_label_file, read_label_file, read_names

logger = logging.getLogger(__name__)

_YAML = (".yaml", ".yml")
_OTHER_KEYS = ("path", "names", "nc", "download", "channels", "kpt_shape", "flip_idx")
"""Keys of data.yaml that are no parts."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A folder of images and that of their labels."""

    images: str
    labels: str


def read_yolo(source: str, images: str | None, problems: Problems) -> Labels:
    """The images of a data.yaml, of the folder that has one, or of a folder of text files.

    An image's id is its path below the folder of its part, or below `images` where that is given;
    one without a text file has no regions. Raises `UserError` where folders are missing or a line
    cannot be read.
    """
    parts, names = _parts(source)
    if images is not None:
        parts = [_Part(images, part.labels) for part in parts]
    files: dict[tuple[str, str], str] = {}
    for part in parts:
        for file in walk(part.labels, is_label_file):
            key = (part.images, posixpath.splitext(file.relative)[0])
            if key in files:
                problems.add("label files of a name that another part has", file.relative)
            files.setdefault(key, file.url)
    if not files:
        raise UserError(f"{source} leads to no text files of labels (labels/train/0001.txt, …)")
    found: list[tuple[FoundFile, str | None]] = []
    used = set()
    for folder in dict.fromkeys(part.images for part in parts):
        for image in walk(folder, is_image_name):
            key = (folder, posixpath.splitext(image.relative)[0])
            found.append((image, files.get(key)))
            used.add(key)
    for key in files.keys() - used:
        problems.add("label files of unknown images", f"{key[1]}.txt")
    return Labels(len(found), _images(found, names))


def _images(
    found: list[tuple[FoundFile, str | None]], names: dict[int, str]
) -> Iterator[LabelledImage]:
    num_without = 0
    for file, labels in found:
        num_without += labels is None
        regions = () if labels is None else tuple(read_label_file(labels, names))
        yield LabelledImage(image_id_of(file.relative), file.url, None, regions)
    if num_without:
        logger.info(
            "%s no label file: nothing is marked there",
            plural(num_without, "image has", "images have"),
        )


def _parts(source: str) -> tuple[list[_Part], dict[int, str]]:
    """The folders that a source names, and the names of its classes."""
    if not storage.is_folder(source):
        if not source.lower().endswith(_YAML):
            raise UserError(f"expected data.yaml or a folder with it, found {source}")
        return _parts_of(source), read_names(source)
    described = next(
        (
            url
            for name in storage.list_files(source)
            if name.endswith(_YAML) and _keys(url := storage.join(source, name))
        ),
        None,
    )
    if described is not None:
        return _parts_of(described), read_names(described)
    labels = storage.join(source, "labels")
    labels = labels if storage.is_folder(labels) else source
    return [_Part(_beside(labels), labels)], class_names(labels)


def _beside(labels: str) -> str:
    """The images' folder for a folder of labels: `images` in place of `labels`, else itself."""
    return _swapped(labels, "labels", "images")


def _swapped(folder: str, old: str, new: str) -> str:
    """The path with its last part called `old` called `new`, as Ultralytics has it."""
    parts = folder.split("/")
    for place in range(len(parts) - 1, -1, -1):
        if parts[place] == old:
            return "/".join([*parts[:place], new, *parts[place + 1 :]])
    return folder


def _read(url: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load(storage.read_bytes(url).decode("utf-8-sig", "replace"))
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{url} is no YAML: {short_line(error)}") from error
    return content if isinstance(content, dict) else {}


def _keys(url: str) -> dict[str, list[str]]:
    """The folders of each part of a data.yaml."""
    parts = {}
    for key, value in _read(url).items():
        values = value if isinstance(value, list) else [value]
        if key not in _OTHER_KEYS and values and all(isinstance(one, str) for one in values):
            parts[str(key)] = values
    return parts


def _parts_of(url: str) -> list[_Part]:
    base = storage.join(url.rpartition("/")[0], str(_read(url).get("path") or ""))
    folders = [folder for values in _keys(url).values() for folder in values]
    parts = []
    for name in dict.fromkeys(folders):
        folder = storage.join(base, name).rstrip("/")
        if name.endswith(".txt"):
            raise UserError(
                f"{url} names {name}, a list of images; name their folder, or set ",
                Setting("images"),
                " and give the folder of the text files",
            )
        if storage.is_folder(folder):
            parts.append(_Part(folder, _swapped(folder, "images", "labels")))
    if not parts:
        raise UserError(
            f"{url} names no folder of images that is there: {', '.join(folders)[:200]}"
        )
    return parts
