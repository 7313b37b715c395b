"""Lists of images: LLaVA's JSON, other JSON lists and JSONL, with a path or base64 bytes each."""

from __future__ import annotations

import logging
import os
import posixpath
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from pad_pipeline import storage
from pad_pipeline.errors import Setting, UserError, plural
from pad_pipeline.given import read_regions
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
    as_tags,
    captions_of,
    describe,
    first_of,
    is_json_lines,
    read_json_lines,
)
from pad_pipeline.sources.json_stream import read_json_array
from pad_pipeline.sources.rows import (
    NOTHING_GIVEN,
    Given,
    ManifestRow,
    captioned,
    in_container,
    relative_id,
    stem_below,
)
from pad_pipeline.sources.seen_ids import SeenIds
from pad_pipeline.sources.zips import member_id, zip_index

logger = logging.getLogger(__name__)

Located = tuple[str, int, int]
"""uri, offset and size of an image, as in `ManifestRow`."""

_NUM_SAMPLED = 20


def list_json(
    url: str, base: str, images: str | None, given: Given = NOTHING_GIVEN
) -> Iterator[ManifestRow]:
    """A row per image of LLaVA's JSON, of another JSON list or of JSON Lines, in their order.

    The id of an entry with a conversation is its image's path; of another entry its id if it has
    one, else its path. A line may also hold the image's bytes as base64. An image of which several
    entries say something, by its path, has one row, with the captions of all; the file is read
    twice for it. Entries without an image, or with several, are skipped and counted.
    """
    if not is_json_lines(url):
        yield from _list_entries(url, lambda: read_json_array(url), images, given)
        return

    def read() -> Iterator[Any]:
        return (value for _, _, value in read_json_lines(url))

    first = next(read(), None)
    if first is None:
        return
    entry = _as_entry(url, 1, first)
    if first_of(entry, PATH_KEYS) is None and not has_conversation(entry):
        keys = [key for key in BYTES_KEYS if isinstance(entry.get(key), str)]
        if keys:
            yield from _list_inline(url, base, keys[0], given)
            return
    yield from _list_entries(url, read, images, given)


def _list_inline(url: str, base: str, key: str, given: Given) -> Iterator[ManifestRow]:
    shard = stem_below(url, base)
    for number, (offset, size, value) in enumerate(read_json_lines(url)):
        entry = _as_entry(url, number + 1, value)
        name = first_of(entry, ID_KEYS)
        where = f"{url}: entry {number + 1}"
        image_id = f"{shard}/{number:08d}" if name is None else relative_id(as_name(name, where))
        uri = in_container("jsonl", f"{key}/{offset}", url)
        yield ManifestRow(
            image_id,
            uri,
            offset=offset,
            size=size,
            **captioned(captions_of(entry)),
            **_given(entry, where, given),
        )


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry about one image: where it says so, and the image's id.

    `names_image` where entries of the same id are about the same image; of others the id is their
    own and must not occur twice.
    """

    where: str
    entry: Mapping[str, Any]
    path: str
    image_id: str
    names_image: bool


def _read_entries(
    url: str, entries: Iterator[Any], skipped: Counter[str], keys: list[str]
) -> Iterator[_Entry]:
    """The entries about one image; the others are counted, and `keys` gets those of the first."""
    for number, value in enumerate(entries, 1):
        entry = _as_entry(url, number, value)
        paths = _paths(url, number, entry)
        if len(paths) != 1:
            skipped["with several images" if paths else "without an image"] += 1
            keys[:] = keys or list(entry)
            continue
        [path] = paths
        name = None if has_conversation(entry) else first_of(entry, ID_KEYS)
        where = f"{url}: entry {number}"
        image_id = relative_id(path if name is None else as_name(name, where))
        # A list that names an image twice and says nothing of it has a mistake.
        names_image = has_conversation(entry) or (name is None and bool(captions_of(entry)))
        yield _Entry(where, entry, path, image_id, names_image)


def _list_entries(
    url: str, read: Callable[[], Iterator[Any]], images: str | None, given: Given
) -> Iterator[ManifestRow]:
    skipped: Counter[str] = Counter()
    keys: list[str] = []
    sampled: list[str] = []
    further: dict[str, list[str]] = {}
    seen = SeenIds()
    num_repeated = 0
    for one in _read_entries(url, read(), skipped, keys):
        if len(sampled) < _NUM_SAMPLED:
            sampled.append(one.path)
        if one.names_image and not seen.add(one.image_id):
            num_repeated += 1
            further.setdefault(one.image_id, []).extend(captions_of(one.entry))
    if not sampled:
        if skipped["without an image"]:
            raise UserError(
                f"{url}: no entry names an image: expected one of the keys "
                f"{', '.join(PATH_KEYS)}; the first has "
                f"{describe(', '.join(keys)) if keys else 'none'}"
            )
        return
    locate = make_locator(url, images, sampled)
    repeated = set(further)
    for one in _read_entries(url, read(), Counter(), []):
        more: list[str] = []
        if one.names_image and one.image_id in repeated:
            if one.image_id not in further:
                continue
            more = further.pop(one.image_id)
        uri, offset, size = locate(one.path)
        yield ManifestRow(
            one.image_id,
            uri,
            offset=offset,
            size=size,
            **captioned((*captions_of(one.entry), *more)),
            **_given(one.entry, one.where, given),
        )
    if num_repeated:
        logger.info(
            "%s: %s about an image that an earlier one names; it is annotated once, with the "
            "captions of all",
            url,
            plural(num_repeated, "entry is", "entries are"),
        )
    for reason, count in skipped.items():
        logger.warning("%s: skipped %s entries %s", url, f"{count:,}", reason)


def _given(entry: Mapping[str, Any], where: str, given: Given) -> dict[str, Any]:
    """The fields of a row that an entry's keys give it."""
    fields: dict[str, Any] = {}
    if given.tags is not None:
        fields["tags"] = as_tags(entry.get(given.tags), where)
    if given.box_column is not None:
        fields["regions"] = read_regions(entry.get(given.box_column), where, given.box_format)
    return fields


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
