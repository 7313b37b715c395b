"""One row per image: its id, where its bytes lie, its caption; to and from Arrow."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from pad_pipeline.given import BoxFormat, GivenRegion
from pad_pipeline.images.formats import has_image_suffix

_ESCAPED_BYTE = re.compile(r"\\u(dc[89a-f][0-9a-f])")

CONTAINERS = ("zip", "tar", "parquet", "arrow", "jsonl")
"""Protocols of items inside a container, written as fsspec chains them: `zip://member::file`."""

_PLACES = frozenset(
    {"http", "https", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss", "r2"}
    | {"hf", "hdfs", "webhdfs", "ftp", "sftp", "memory", "file", "local"}
)
_LEFT_FILES = frozenset({"Thumbs.db", "desktop.ini"})
_LEFT_FOLDERS = frozenset({"__MACOSX", "@eaDir"})  # of macOS' archives, of Synology's thumbnails
_CACHES = frozenset({"simplecache", "filecache", "blockcache"})


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One image of a source, with enough to read its bytes later from any machine.

    `image_id` is unique in the source, relative and "/"-separated. `uri` is the file's path or
    URL, or `zip://member::file`, `tar://member::file`, `parquet://column::file`,
    `arrow://column::file`, `jsonl://column::file` for an item in a container. `offset` and `size`
    are bytes within the container (zip: of the member's local header, and the compressed size; tar:
    of the data; jsonl: of the line); in Arrow `offset` is the batch's byte or number, in Parquet
    the row. For a file of its own `offset` is -1 and `size` is known only where the listing has
    it. In a container both are -1 for a missing member. `captions` are all captions where there are
    several, `caption` first; `tags` and `regions` what a column, key or file gives for the image,
    None where nothing does.
    """

    image_id: str
    uri: str
    caption: str | None
    offset: int = -1
    size: int = -1
    captions: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None
    regions: tuple[GivenRegion, ...] | None = None


def captioned(captions: Sequence[str]) -> dict[str, Any]:
    """The fields `caption` and `captions` of a row for all captions of its image."""
    return {
        "caption": captions[0] if captions else None,
        "captions": tuple(captions) if len(captions) > 1 else None,
    }


@dataclass(frozen=True, slots=True)
class Given:
    """What a source is to give with its images, None for nothing.

    `tags` is a column, or a key of JSON entries; `boxes` is one too, or a file or folder (see
    `boxes.is_box_file`). `masks` are those of the boxes.
    """

    tags: str | None = None
    boxes: str | None = None
    box_format: BoxFormat = "xyxy"
    masks: bool = False

    @property
    def box_column(self) -> str | None:
        """`boxes` where it is a column."""
        return None if self.boxes is None or is_box_file(self.boxes) else self.boxes


NOTHING_GIVEN = Given()


def is_box_file(name: str) -> bool:
    """Whether `Given.boxes` names a file or folder of boxes, and not a column of the source."""
    return "/" in name or name.lower().endswith(".json") or storage.exists(name)


_REGION = pa.struct(
    [
        pa.field("tag", pa.string(), nullable=False),
        pa.field("bbox", pa.list_(pa.float64(), 4), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("is_relative", pa.bool_(), nullable=False),
        pa.field("polygons", pa.list_(pa.list_(pa.float64())), nullable=False),
        pa.field("rle_mask", pa.string()),
        pa.field("image_size", pa.list_(pa.int32(), 2)),
    ]
)

MANIFEST_SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("caption", pa.string()),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("captions", pa.list_(pa.string())),
        pa.field("tags", pa.list_(pa.string())),
        pa.field("regions", pa.list_(_REGION)),
    ]
)
"""The columns of a manifest, in the order of `ManifestRow`'s fields."""


def rows_to_table(rows: Sequence[ManifestRow]) -> pa.Table:
    """The rows as an Arrow table under `MANIFEST_SCHEMA`, in their order."""
    columns = []
    for field in MANIFEST_SCHEMA:
        values = [getattr(row, field.name) for row in rows]
        if field.name == "regions":
            values = [None if value is None else list(map(_fields, value)) for value in values]
        columns.append(pa.array(values, type=field.type))
    return pa.Table.from_arrays(columns, schema=MANIFEST_SCHEMA)


def table_to_rows(table: pa.Table) -> list[ManifestRow]:
    """The inverse of `rows_to_table`; raises `KeyError` where a column is missing.

    The lists of runs that an earlier version began end with the sizes.
    """
    columns = []
    for field in MANIFEST_SCHEMA:
        if field.nullable and field.name not in table.column_names:
            columns.append([None] * table.num_rows)
            continue
        values = table.column(field.name).to_pylist()
        if field.name in ("captions", "tags"):
            values = [None if value is None else tuple(value) for value in values]
        elif field.name == "regions":
            values = [None if value is None else tuple(map(_region, value)) for value in values]
        columns.append(values)
    return [ManifestRow(*values) for values in zip(*columns, strict=True)]


def _fields(region: GivenRegion) -> dict[str, Any]:
    # not `asdict`, which copies every number
    return {field.name: getattr(region, field.name) for field in _REGION}


def _region(values: dict[str, Any]) -> GivenRegion:
    values["bbox"] = tuple(values["bbox"])
    values["polygons"] = tuple(map(tuple, values["polygons"]))
    values["image_size"] = values["image_size"] and tuple(values["image_size"])
    return GivenRegion(**values)


def in_container(kind: str, member: str, container: str) -> str:
    """The uri of an item in a container; its member name may hold anything, also "::".

    Raises `UserError` where the container's own path holds "::".
    """
    if "::" in container:
        raise UserError(f'{container}: the path of a file that holds images must be without "::"')
    return f"{kind}://{member}::{container}"


def split_uri(uri: str) -> tuple[str, str, str] | None:
    """(kind, member, container) of an item in a container; None for a file of its own."""
    kind, separator, rest = uri.partition("://")
    if not separator or kind not in CONTAINERS:
        return None
    member, _, container = rest.rpartition("::")
    return kind, member, container


def location_error(url: str) -> UserError | None:
    """Why a path or URL that stands in a file is not followed; None for usual places.

    A list of images or a data set may come from anyone, and some of fsspec's protocols interpret
    what they are given: chained "reference://", for one, renders templates that it reads.
    """
    if storage.local_path(url) is not None or storage.protocol(url) in ("s3", "s3a"):
        return None  # in a key of S3, "::" is a name like any other
    *outer, last = (part.partition("://")[0] for part in url.split("::"))
    if last in _PLACES and _CACHES.issuperset(outer):
        return None
    return UserError(
        f"{url[:200]!r} is not read, because images are taken only from local paths and "
        f"{', '.join(sorted(_PLACES - {'local', 'memory'}))} URLs; copy it to such a place"
    )


def is_leaving(path: str) -> bool:
    """Whether an operating system left this beside people's files: `._x.jpg`, thumbnails."""
    *folders, base = path.split("/")
    return base.startswith("._") or base in _LEFT_FILES or not _LEFT_FOLDERS.isdisjoint(folders)


def is_image_name(name: str) -> bool:
    """Whether the name ends as an image's, is not hidden and not left by an operating system."""
    base = name.rsplit("/", 1)[-1]
    return not base.startswith(".") and not is_leaving(name) and has_image_suffix(base)


def stem_below(url: str, base: str) -> str:
    """The file's path below `base` without its ending, as a prefix for ids."""
    relative = url.removeprefix(base.rstrip("/") + "/") if base else url
    return posixpath.splitext(relative)[0].strip("/")


def relative_id(path: str) -> str:
    """An id from a path or URL: without protocol, leading "/" and "..", with "/" between parts.

    Raises `UserError` where nothing is left.
    """
    _, _, rest = path.replace("\\", "/").rpartition("://")
    parts = [part for part in posixpath.normpath(rest).split("/") if part not in ("", ".", "..")]
    if not parts:
        raise UserError(f"expected the path of an image, found {path!r}")
    return "/".join(parts)


def utf8(text: str) -> str:
    """`text` with what UTF-8 cannot hold, as file names and JSON may, written as `\\udcff`."""
    return text.encode("utf-8", "backslashreplace").decode()


def file_name(text: str) -> str:
    """The file name that `utf8` made `text` from, where it was one that is not UTF-8."""
    return _ESCAPED_BYTE.sub(lambda found: chr(int(found[1], 16)), text)
