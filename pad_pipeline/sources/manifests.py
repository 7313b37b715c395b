"""Lists of images: LLaVA's JSON, other JSON lists and JSONL, with a path or base64 bytes each."""

from __future__ import annotations

import logging
import os
import posixpath
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, islice
from typing import Any
from urllib.parse import unquote

from pad_pipeline import storage
from pad_pipeline.errors import Setting, UserError
from pad_pipeline.sources.conversations import (
    ConversationError,
    has_conversation,
    image_paths,
    read_conversation,
)
from pad_pipeline.sources.entries import (
    BYTES_KEYS,
    ID_KEYS,
    PATH_KEYS,
    as_name,
    caption_of,
    describe,
    first_of,
    is_json_lines,
    read_json_array,
    read_json_lines,
)
from pad_pipeline.sources.rows import ManifestRow, in_container, relative_id, stem_below
from pad_pipeline.sources.seen_ids import SeenIds
from pad_pipeline.sources.zips import member_id, zip_index

logger = logging.getLogger(__name__)

Located = tuple[str, int, int]
"""uri, offset and size of an image, as in `ManifestRow`."""

_NUM_SAMPLED = 20


def list_json(url: str, base: str, images: str | None) -> Iterator[ManifestRow]:
    """A row per entry of LLaVA's JSON, of another JSON list or of JSON Lines, in their order.

    The id of an entry with a conversation is its image's path; of another entry its id if it has
    one, else its path. A line may also hold the image's bytes as base64. An image that
    several conversations are about has one row, with the first one's caption. Entries without an
    image, or with several, are skipped and counted.
    """
    if not is_json_lines(url):
        yield from _list_entries(url, read_json_array(url), images)
        return
    lines = read_json_lines(url)
    first = next(lines, None)
    if first is None:
        return
    entry = _as_entry(url, 1, first[2])
    lines = chain([first], lines)
    if first_of(entry, PATH_KEYS) is None and not has_conversation(entry):
        keys = [key for key in BYTES_KEYS if isinstance(entry.get(key), str)]
        if keys:
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
    sampled = [
        path
        for number, entry in enumerate(sample, 1)
        if isinstance(entry, dict)
        for path in _paths(url, number, entry)
    ]
    locate = make_locator(url, images, sampled)
    skipped: Counter[str] = Counter()
    num_rows = 0
    seen = SeenIds()
    keys: list[str] = []
    for number, value in enumerate(chain(sample, entries), 1):
        entry = _as_entry(url, number, value)
        paths = _paths(url, number, entry)
        if len(paths) != 1:
            skipped["with several images" if paths else "without an image"] += 1
            keys = keys or list(entry)
            continue
        [path] = paths
        is_conversation = has_conversation(entry)
        name = path if is_conversation else first_of(entry, ID_KEYS)
        image_id = relative_id(path if name is None else as_name(name, f"{url}: entry {number}"))
        if is_conversation and not seen.add(image_id):
            skipped["about an image that an earlier entry is about"] += 1
            continue
        uri, offset, size = locate(path)
        num_rows += 1
        yield ManifestRow(image_id, uri, caption_of(entry), offset, size)
    if not num_rows and skipped["without an image"]:
        raise UserError(
            f"{url}: no entry names an image: expected one of the keys {', '.join(PATH_KEYS)}; "
            f"the first has {describe(', '.join(keys)) if keys else 'none'}"
        )
    for reason, count in skipped.items():
        logger.warning("%s: skipped %s entries %s", url, f"{count:,}", reason)


def _paths(url: str, number: int, entry: Mapping[str, Any]) -> tuple[str, ...]:
    """The paths of an entry's images; what its conversation holds otherwise does not matter."""
    try:
        paths = image_paths(entry, (*PATH_KEYS, "images"))
    except ConversationError as error:
        raise UserError(f"{url}: entry {number} cannot be read: {error}") from error
    if not paths and has_conversation(entry):
        try:
            paths = read_conversation(entry).images
        except ConversationError:
            paths = ()  # it names no image, whatever else it holds
    if any(path.startswith("data:") for path in paths):
        raise UserError(
            f"{url}: entry {number} holds its image as a data URL; expected a path, or JSON Lines "
            f'with the base64 text alone under a key such as "jpg"'
        )
    return paths


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
        if images.lower().endswith(".zip"):
            return _in_zip(images)
        if not storage.is_folder(images):
            raise UserError(f"expected a folder or .zip of images, found the file {images}")
        return _in_folder(images)
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
        f"{url} names images such as {relative[0][:200]!r}, found neither in {folder or '.'} nor "
        "in images/ or images.zip beside it: set ",
        Setting("images"),
        " to where they are",
    )


def _stands_alone(path: str) -> bool:
    return "://" in path or path.startswith("/")


def _in_folder(folder: str) -> Callable[[str], Located]:
    local = storage.local_path(folder)

    def place(path: str) -> str:
        if local is not None:
            return os.path.normpath(os.path.join(local, path))
        return storage.join(folder, path) if _is_plain(path) else _resolved(folder, path)

    def locate(path: str) -> Located:
        if _stands_alone(path):
            return path, -1, -1
        places = [place(path), *map(place, _spellings(path))]
        if len(places) > 1:
            places = [next(filter(storage.exists, places), places[1])]
        return places[0], -1, -1

    return locate


def _spellings(path: str) -> list[str]:
    """Other ways to write a path that people's files have: of Windows, of URLs, of Unicode."""
    if path.isascii() and not {"%", "\\"}.intersection(path):
        return []
    slashed = path.replace("\\", "/")
    found = [slashed, unquote(slashed)]
    found += [unicodedata.normalize(form, name) for form in ("NFC", "NFD") for name in found[:2]]
    return [name for name in dict.fromkeys(found) if name != path and "\0" not in name]


def _is_plain(path: str) -> bool:
    return not {".", ".."}.intersection(path.split("/"))


def _resolved(folder: str, path: str) -> str:
    """The URL of a path with "." and "..", which an object store would take for names."""
    protocol, separator, rest = folder.partition("://")
    return protocol + separator + posixpath.normpath(posixpath.join(rest, path))


def _in_zip(archive: str) -> Callable[[str], Located]:
    index = zip_index(archive)
    # As other programs write the names, where no two members become one by it.
    written = Counter(map(member_id, index))
    members = {member_id(name): name for name in index}
    members = {name: member for name, member in members.items() if written[name] == 1}
    tops = {name.partition("/")[0] for name in members}
    # Zipping a folder puts its name before every member; the manifest's paths may lack it.
    prefix = f"{tops.pop()}/" if len(tops) == 1 else ""

    def locate(path: str) -> Located:
        if _stands_alone(path):
            return path, -1, -1
        name = relative_id(path)
        for spelt in (name, *_spellings(name)):
            for candidate in (spelt, prefix + spelt, f"images/{spelt}"):
                member = members.get(candidate, candidate)
                if member in index:
                    return in_container("zip", member, archive), *index[member]
        return in_container("zip", name, archive), -1, 0

    return locate
