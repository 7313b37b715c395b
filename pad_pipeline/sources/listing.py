"""A source named by a path or URL becomes manifest rows, in a fixed order and with unique ids."""

from __future__ import annotations

import logging
import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from pad_pipeline import storage
from pad_pipeline.dataset.manifest import MANIFEST
from pad_pipeline.errors import UserError, plural
from pad_pipeline.images.formats import IMAGE_SUFFIXES
from pad_pipeline.sources.arrow import current_files, list_arrow
from pad_pipeline.sources.boxes import sound_boxes, with_boxes
from pad_pipeline.sources.captions import with_captions
from pad_pipeline.sources.folder import FoundFile, walk
from pad_pipeline.sources.left_out import LeftOut
from pad_pipeline.sources.manifests import list_json
from pad_pipeline.sources.parquet import list_parquet
from pad_pipeline.sources.patterns import expand
from pad_pipeline.sources.rows import (
    NOTHING_GIVEN,
    Given,
    ManifestRow,
    captioned,
    is_image_name,
    relative_id,
    utf8,
)
from pad_pipeline.sources.tars import list_tars
from pad_pipeline.sources.zips import list_zip

logger = logging.getLogger(__name__)

_NUM_NAMED = 5

Lister = Callable[[Sequence[str], str, str | None, Given, LeftOut], Iterator[ManifestRow]]
"""Rows of files of one kind, from their URLs, the folder that ids are relative to, `images`, and
the columns that are wanted besides; what is no image is counted."""


def list_source(
    source: str,
    *,
    captions: str | None = None,
    images: str | None = None,
    given: Given | None = None,
) -> Iterator[ManifestRow]:
    """A row per image of `source`, in the same order every time.

    `source` is a folder, an image, LLaVA's JSON (or another JSON list), a .jsonl, .zip, .tar,
    .parquet or .arrow file, or a pattern of such files; local or behind an fsspec URL. `captions`
    is a file of captions by image id (see `captions.read_captions`), `images` the folder or .zip
    that the paths in a JSON, JSONL, Parquet or Arrow file are relative to; `given` says what the
    rows carry besides.

    Raises `UserError` for a missing, unreadable, empty or unknown source, and, after the last
    row, for ids that occur twice: rows are to be trusted only once the iterator has ended.
    """
    source, images = storage.absolute(source), images and storage.absolute(images)
    left_out = LeftOut()
    given = given or NOTHING_GIVEN
    rows = _unique(lambda: _list(source, images, given, left_out), source)
    rows = with_captions(rows, captions) if captions else rows
    if given.boxes is not None and given.box_column is None:
        rows = with_boxes(rows, storage.absolute(given.boxes), masks=given.masks)
    elif given.boxes is not None:
        rows = sound_boxes(rows, source, masks=given.masks)
    yield from rows


def _list(
    source: str, images: str | None, given: Given, left_out: LeftOut
) -> Iterator[ManifestRow]:
    base, urls = expand(source)
    if len(urls) == 1 and storage.is_folder(urls[0]):
        yield from _list_folder(urls[0], images, given, left_out)
        left_out.report(source)
        return
    kinds = {_kind(url) for url in urls}
    if len(kinds) > 1:
        raise UserError(
            f"{source} stands for several kinds of files ({', '.join(sorted(kinds))}); "
            f"expected one kind"
        )
    yield from _LISTERS[kinds.pop()](urls, base, images, given, left_out)
    left_out.report(source)


def _list_folder(
    folder: str, images: str | None, given: Given, left_out: LeftOut
) -> Iterator[ManifestRow]:
    """The folder's images; where it has none, its tars, else its Parquet or Arrow files."""
    num_images = 0
    others: dict[str, list[str]] = {}
    for found in walk(folder, _is_known, left_out):
        if is_image_name(found.relative):
            num_images += 1
            _refuse_columns(folder, given)
            yield _row(found)
        elif found.relative == MANIFEST:
            others["pad"] = [found.url]
        else:
            others.setdefault(_kind(found.url), []).append(found.url)
    if "pad" in others and "parquet" in others:
        raise UserError(
            f"{folder} is a PAD data set (an output of annotate), not a source of images"
        )
    if num_images:
        if unread := sorted(others.keys() & {"tar", "parquet", "arrow", "zip"}):
            logger.warning(
                "%s holds images, so its %s files are not read", folder, ", ".join(unread)
            )
        for url in others.get("json", []):
            left_out.add(url)
        return
    kind = next((kind for kind in ("tar", "parquet", "arrow") if kind in others), None)
    if kind is not None:
        files = others.pop(kind)
        if kind == "parquet" and any("/_delta_log/" in url for url in others.get("json", [])):
            raise UserError(
                f"{folder} is a Delta table, whose log says which of its Parquet files and rows "
                "count; write the table to plain Parquet files and name these"
            )
        for unread in ("parquet", "arrow", "zip"):
            for url in others.get(unread, []):
                left_out.add(url)
        files = current_files(files) if kind == "arrow" else files
        yield from _LISTERS[kind](files, folder, images, given, left_out)
        return
    candidates = [url for kind in ("json", "zip") for url in others.get(kind, [])]
    usable = next((url for url in candidates if _is_source(url, images)), None)
    hint = f"; name the file itself to use it: {usable}" if usable else ""
    found = f" (there are {sentence})" if (sentence := left_out.sentence()) else ""
    raise UserError(
        f"no images in {folder}{found}: looked below it for {', '.join(IMAGE_SUFFIXES)}, .tar, "
        f".parquet and .arrow files{hint}"
    )


def _is_source(url: str, images: str | None) -> bool:
    """Whether a file names at least one image that can be listed."""
    try:
        rows = _LISTERS[_kind(url)]([url], url.rpartition("/")[0], images, NOTHING_GIVEN, LeftOut())
        return next(rows, None) is not None
    except (UserError, *storage.backend_errors()):
        return False


def _row(found: FoundFile) -> ManifestRow:
    return ManifestRow(found.relative, found.url, None, size=found.size)


def _list_images(
    urls: Sequence[str], base: str, images: str | None, given: Given, left_out: LeftOut
) -> Iterator[ManifestRow]:
    del images, left_out
    _refuse_columns(urls[0], given)
    for url in urls:
        relative = url.removeprefix(base.rstrip("/") + "/") if base else url
        yield ManifestRow(relative_id(relative), url, None)


def _list_zips(
    urls: Sequence[str], base: str, images: str | None, given: Given, left_out: LeftOut
) -> Iterator[ManifestRow]:
    del base, images
    _refuse_columns(urls[0], given)
    for url in urls:
        yield from list_zip(url, left_out)


def _list_tars(
    urls: Sequence[str], base: str, images: str | None, given: Given, left_out: LeftOut
) -> Iterator[ManifestRow]:
    del images
    _refuse_columns(urls[0], given)
    yield from list_tars(urls, base, left_out)


def _refuse_columns(url: str, given: Given) -> None:
    """Raise `UserError` where a column is wanted of what has none."""
    column = given.tags or given.box_column
    if column is not None:
        raise UserError(
            f"{url} has no column {column!r}: columns are those of Parquet, Arrow and JSON files"
        )


def _each(list_one: Callable[[str, str, str | None, Given], Iterator[ManifestRow]]) -> Lister:
    """A lister of many files from one for a single file."""

    def list_all(
        urls: Sequence[str], base: str, images: str | None, given: Given, left_out: LeftOut
    ) -> Iterator[ManifestRow]:
        del left_out
        for url in urls:
            yield from list_one(url, base, images, given)

    return list_all


_LISTERS: dict[str, Lister] = {
    "image": _list_images,
    "zip": _list_zips,
    "tar": _list_tars,
    "json": _each(list_json),
    "parquet": _each(list_parquet),
    "arrow": _each(list_arrow),
}

_KINDS = {
    ".zip": "zip",
    ".tar": "tar",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
} | dict.fromkeys(IMAGE_SUFFIXES, "image")


def _is_known(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in _KINDS


def _kind(url: str) -> str:
    suffix = os.path.splitext(url)[1].lower()
    if suffix not in _KINDS:
        compressed = ".tar." in url.lower() or suffix in (".tgz", ".tbz2", ".txz")
        hint = "; decompress the tar first" if compressed else ""
        if suffix in (".7z", ".rar", ".gz", ".zst", ".bz2", ".xz") and not compressed:
            hint = "; unpack it first"
        raise UserError(
            f"cannot read images from {url}: expected a folder, an image, a .zip, .tar, .parquet, "
            f".arrow, .jsonl or LLaVA .json file{hint}"
        )
    return _KINDS[suffix]


def _storable(row: ManifestRow) -> ManifestRow:
    """The row with its text in UTF-8: a file name or a JSON escape may hold half a character."""
    captions = row.captions or (() if row.caption is None else (row.caption,))
    try:
        "".join((row.image_id, row.uri, *captions, *(row.tags or ()))).encode()
    except UnicodeEncodeError:
        return replace(
            row,
            image_id=utf8(row.image_id),
            uri=utf8(row.uri),
            tags=None if row.tags is None else tuple(map(utf8, row.tags)),
            **captioned([utf8(caption) for caption in captions]),
        )
    return row


def _unique(make_rows: Callable[[], Iterator[ManifestRow]], source: str) -> Iterator[ManifestRow]:
    """The rows; raises `UserError` behind the last where there were none or ids occur twice.

    Keeps 8 bytes per row. Equal hashes only raise a suspicion, which a second pass over the source
    confirms by the ids themselves.
    """
    hashes = array("q")
    with storage.user_errors(source, "list"):
        for row in map(_storable, make_rows()):
            hashes.append(hash(row.image_id))
            yield row
        if not hashes:
            raise UserError(f"no images in {source}: looked for {', '.join(IMAGE_SUFFIXES)}")
        values, counts = np.unique(np.frombuffer(hashes, dtype=np.int64), return_counts=True)
        suspects = set(values[counts > 1].tolist())
        if not suspects:
            return
        seen = Counter(
            row.image_id for row in map(_storable, make_rows()) if hash(row.image_id) in suspects
        )
    repeated = [image_id for image_id, count in seen.items() if count > 1]
    if repeated:
        named = ", ".join(repr(image_id) for image_id in repeated[:_NUM_NAMED])
        more = f" and {len(repeated) - _NUM_NAMED:,} more" if len(repeated) > _NUM_NAMED else ""
        raise UserError(
            f"{source} names {plural(len(repeated), 'image')} more than once: {named}{more}; every "
            "image needs an id of its own"
        )
