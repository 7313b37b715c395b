"""The image files that lie beside what an export writes: their bytes and their names."""

from __future__ import annotations

import logging
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath
from urllib.parse import quote, unquote

from pad_pipeline import storage
from pad_pipeline.dataset.record_images import UNREADABLE, read_record_images
from pad_pipeline.errors import Setting, UserError
from pad_pipeline.export.chosen import Chosen, Entry
from pad_pipeline.images import ImageError, ImageLimits, image_size
from pad_pipeline.images.formats import IMAGE_SUFFIXES, format_of
from pad_pipeline.records import PadRecord

logger = logging.getLogger(__name__)

_NO_LIMITS = ImageLimits(max_pixels=sys.maxsize, max_bytes=sys.maxsize)
_READ_TOGETHER = 64


@dataclass(frozen=True, slots=True)
class EntryImage:
    """A record with its image's encoded bytes, as they were annotated."""

    entry: Entry
    data: bytes


def iter_images(chosen: Chosen, counts: Counter[str]) -> Iterator[EntryImage]:
    """The entries whose image can be read, in order; the others are counted and logged.

    Raises `UserError` where not one image can be read.
    """
    entries = chosen.entries(counts)
    num_read = 0
    while group := list(islice(entries, _READ_TOGETHER)):
        records = [entry.record for entry in group]
        read = read_record_images(records, chosen.options.images)
        for entry, data in zip(group, read, strict=True):
            fault = data if isinstance(data, Exception) else _fault(data)
            if isinstance(data, Exception) or fault is not None:
                counts["images"] -= 1
                counts["regions"] -= len(entry.record.labels)
                counts[UNREADABLE] += 1
                logger.warning("left out %s: %s", entry.record.image_id, fault)
                continue
            num_read += 1
            yield EntryImage(entry, data)
    if counts[UNREADABLE] and not num_read:
        raise UserError(
            f"none of the {counts[UNREADABLE]:,} images could be read from "
            f"{chosen.options.images or 'where they were annotated'}; set ",
            Setting("images"),
            " to where they are now",
        )


def _fault(data: bytes) -> ImageError | None:
    try:
        image_size(data, _NO_LIMITS)
    except ImageError as error:
        # A data set from elsewhere may name any file of this machine as its image.
        return error
    return None


class FileNames:
    """Names of files below a folder, one for each image id, that differ without their ending too.

    Programs that keep labels in `cat.txt` beside `cat.jpg` would give those of `cat.png` to both,
    so that one becomes `cat.png.png`. What is no name of a file is percent-encoded.
    """

    def __init__(self) -> None:
        self._stems: set[str] = set()

    def __call__(self, record: PadRecord, data: bytes) -> str:
        """The relative path for the image; ends with the image's own ending."""
        name = safe_name(record.image_id)
        suffix = suffix_of(record, data)
        stem = name[: -len(suffix)] if name.lower().endswith(suffix) else name
        if stem.lower() in self._stems:
            stem = name
        number = 1
        base = stem
        while stem.lower() in self._stems:
            number += 1
            stem = f"{base}-{number}"
        self._stems.add(stem.lower())
        return stem + suffix


def safe_name(image_id: str) -> str:
    """An id as a relative path that leads nowhere else, on every common file system."""
    parts = [part for part in image_id.replace("\\", "/").split("/") if part]
    return "/".join(
        part.replace(".", "%2E") if set(part) == {"."} else _UNSAFE.sub(_encode, part)
        for part in parts
    )


def image_id_of(name: str) -> str:
    """The id whose `safe_name` a path is; another program's path stands for itself."""
    image_id = unquote(name, errors="surrogatepass")
    return image_id if safe_name(image_id) == name else name


_UNSAFE = re.compile('[\0-\x1f\x7f<>:"|?*%\ud800-\udfff]')


def _encode(match: re.Match[str]) -> str:
    return quote(match[0], safe="", errors="surrogatepass")


def suffix_of(record: PadRecord, data: bytes) -> str:
    """The ending of the image's file, in small letters: its id's, else its format's."""
    suffix = PurePosixPath(record.image_id).suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return suffix
    form = format_of(data)
    return form.suffixes[0] if form else ".jpg"


def write_file(folder: str, name: str, data: bytes) -> None:
    """Writes one file below a new folder, whose other files come with it into their place."""
    url = storage.join(folder, name)
    path = storage.local_path(url)
    if path is None:
        storage.write_atomic(url, data)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
