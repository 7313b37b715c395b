"""Lists of images: LLaVA's JSON, other JSON lists and JSONL, with a path or base64 bytes each."""

from __future__ import annotations

import logging
import os
import posixpath
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, islice
from typing import Any

from pad_pipeline import storage
from pad_pipeline.errors import Setting, UserError
from pad_pipeline.sources.entries import (
    BYTES_KEYS,
    ID_KEYS,
    PATH_KEYS,
    as_name,
    caption_of,
    describe,
    first_of,
    read_json_array,
    read_json_lines,
)
from pad_pipeline.sources.rows import ManifestRow, in_container, relative_id, stem_below
from pad_pipeline.sources.zips import zip_index

logger = logging.getLogger(__name__)

Located = tuple[str, int, int]
"""uri, offset and size of an image, as in `ManifestRow`."""

_NUM_SAMPLED = 20


def list_json(url: str, images: str | None) -> Iterator[ManifestRow]:
    """A row per entry of LLaVA's JSON or of another JSON list, in its order.

    The id of a LLaVA entry is its `image`; of another entry its id if it has one, else its path.
    Entries without an image are skipped and counted.
    """
    yield from _list_entries(url, read_json_array(url), images)


def list_jsonl(url: str, base: str, images: str | None) -> Iterator[ManifestRow]:
    """As `list_json` for JSONL; a line may also hold the image's bytes as base64."""
    lines = read_json_lines(url)
    first = next(lines, None)
    if first is None:
        return
    entry = _as_entry(url, 1, first[2])
    lines = chain([first], lines)
    if first_of(entry, PATH_KEYS) is None or entry.get("conversations"):
        keys = [key for key in BYTES_KEYS if isinstance(entry.get(key), str)]
        if keys and not entry.get("conversations"):
            yield from _list_inline(url, base, lines, keys[0])
            return
    yield from _list_entries(url, (value for _, _, value in lines), images)


def _list_inline(
    url: str, base: str, lines: Iterator[tuple[int, int, Any]], key: str
) -> Iterator[ManifestRow]:
    shard = stem_below(url, base)
    for number, (offset, size, value) in enumerate(lines):
        entry = _as_entry(url, number + 1, value)
        name = first_of(entry, ID_KEYS)
        where = f"{url}: entry {number + 1}"
        image_id = f"{shard}/{number:08d}" if name is None else relative_id(as_name(name, where))
        uri = in_container("jsonl", f"{key}/{offset}", url)
        yield ManifestRow(image_id, uri, caption_of(entry), offset, size)


def _list_entries(url: str, entries: Iterator[Any], images: str | None) -> Iterator[ManifestRow]:
    sample = list(islice(entries, _NUM_SAMPLED))
    paths = [first_of(e, PATH_KEYS) for e in sample if isinstance(e, dict)]
    locate = make_locator(url, images, [path for path in paths if isinstance(path, str)])
    num_skipped = 0
    for number, value in enumerate(chain(sample, entries), 1):
        entry = _as_entry(url, number, value)
        path = first_of(entry, PATH_KEYS)
        if path is None:
            num_skipped += 1
            continue
        if not isinstance(path, str) or not path:
            raise UserError(
                f"{url}: entry {number} should name its image as text, found {describe(path)}"
            )
        name = path if "conversations" in entry else first_of(entry, ID_KEYS)
        uri, offset, size = locate(path)
        yield ManifestRow(
            relative_id(path if name is None else as_name(name, f"{url}: entry {number}")),
            uri,
            caption_of(entry),
            offset,
            size,
        )
    if num_skipped:
        logger.warning("%s: %d entries without an image were skipped", url, num_skipped)


def _as_entry(url: str, number: int, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise UserError(
            f"{url}: entry {number} should be an object such as "
            f'{{"image": "0.jpg", "caption": "…"}}, found {describe(value)}'
        )
    return value


def make_locator(url: str, images: str | None, paths: list[str]) -> Callable[[str], Located]:
    """A function from an image's path, as the manifest `url` gives it, to where its bytes lie.

    `images` is a folder or a .zip; without it the first of the manifest's own folder, `images/`
    and `images.zip` beside it that holds one of the sample `paths` is taken. Absolute paths and
    URLs stand for themselves. Raises `UserError` where none fits.
    """
    if images is not None:
        if not storage.exists(images):
            raise UserError(f"no such folder or .zip of images: {images}")
        return _in_zip(images) if images.lower().endswith(".zip") else _in_folder(images)
    folder = url.rpartition("/")[0]
    relative = [path for path in paths if not _stands_alone(path)]
    if not relative:
        return _in_folder(folder)
    for place in (folder, storage.join(folder, "images")):
        if any(storage.exists(_in_folder(place)(path)[0]) for path in relative):
            return _in_folder(place)
    archive = storage.join(folder, "images.zip")
    if storage.exists(archive):
        return _in_zip(archive)
    raise UserError(
        f"{url} names images such as {relative[0]!r}, found neither in {folder or '.'} nor in "
        "images/ or images.zip beside it: set ",
        Setting("images"),
        " to where they are",
    )


def _stands_alone(path: str) -> bool:
    return "://" in path or path.startswith("/")


def _in_folder(folder: str) -> Callable[[str], Located]:
    local = storage.local_path(folder)

    def locate(path: str) -> Located:
        if _stands_alone(path):
            return path, -1, -1
        if local is not None:
            return os.path.normpath(os.path.join(local, path)), -1, -1
        return storage.join(folder, path) if _is_plain(path) else _resolved(folder, path), -1, -1

    return locate


def _is_plain(path: str) -> bool:
    return not {".", ".."}.intersection(path.split("/"))


def _resolved(folder: str, path: str) -> str:
    """The URL of a path with "." and "..", which an object store would take for names."""
    protocol, separator, rest = folder.partition("://")
    return protocol + separator + posixpath.normpath(posixpath.join(rest, path))


def _in_zip(archive: str) -> Callable[[str], Located]:
    index = zip_index(archive)
    tops = {name.partition("/")[0] for name in index}
    # Zipping a folder puts its name before every member; the manifest's paths may lack it.
    prefix = f"{tops.pop()}/" if len(tops) == 1 else ""

    def locate(path: str) -> Located:
        if _stands_alone(path):
            return path, -1, -1
        name = relative_id(path)
        for member in (name, prefix + name, f"images/{name}"):
            if member in index:
                return in_container("zip", member, archive), *index[member]
        return in_container("zip", name, archive), -1, 0

    return locate
