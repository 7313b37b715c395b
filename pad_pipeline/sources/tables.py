"""Tables of images, in Parquet or Arrow files: what their columns mean, and a row per image."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pad_pipeline.errors import UserError
from pad_pipeline.sources.conversations import CONVERSATION_KEYS
from pad_pipeline.sources.entries import BYTES_KEYS, CAPTION_KEYS, ID_KEYS, PATH_KEYS, caption_of
from pad_pipeline.sources.manifests import Located, make_locator
from pad_pipeline.sources.rows import ManifestRow, relative_id, stem_below
from pad_pipeline.sources.seen_ids import SeenIds

logger = logging.getLogger(__name__)

DAMAGED = (pa.ArrowException, ValueError, OverflowError, LookupError)
"""What Arrow raises on damage beside OSError: text that is not UTF-8, times out of range, columns
of one name, counts that do not fit."""

_IMAGE_LISTS = ("images",)
_PAD_COLUMNS = {"image_id", "status", "labels"}
_STATUS = "status"
_NUM_SAMPLED = 20
_LONGEST_LISTING = 500


@dataclass(frozen=True, slots=True)
class Columns:
    """What the columns of a table of images are, each by its name in the table.

    `image` is "image.bytes" or "image.path" for a field of a struct or of a list of structs, and
    `is_path` whether it holds paths and not bytes. `captions` is the key that `caption` stands
    for. `status` is img2dataset's column with the outcome of a download.
    """

    image: str
    is_path: bool
    id: str | None
    caption: str | None
    captions: str
    status: str | None

    def small(self) -> list[str]:
        """The columns that are read for every row, when images are listed."""
        names = (self.id, self.caption, self.status, self.image if self.is_path else None)
        return list(dict.fromkeys(name for name in names if name is not None))


def find_columns(url: str, schema: pa.Schema, is_null: Callable[[str], bool]) -> Columns:
    """The columns of `schema` to use; `is_null` says whether one holds nothing in any row.

    Raises `UserError` where none holds images, and for a PAD data set.
    """
    names = schema.names
    if set(names) >= _PAD_COLUMNS:
        raise UserError(f"{url} belongs to a PAD data set, which is a result; expected images")
    conversation = next((k for k in CONVERSATION_KEYS if k in names and _is_turns(schema, k)), None)
    captions = conversation or _first(names, CAPTION_KEYS) or ""
    image = _bytes_column(schema, is_null)
    is_path = image is None
    if image is None:
        image = _path_column(schema)
    if image is None:
        found = ", ".join(name if name.isprintable() else repr(name) for name in names)
        raise UserError(
            f"{url} should have a column of image paths (one of {', '.join(PATH_KEYS)}) or "
            f"bytes (one of {', '.join(BYTES_KEYS)}); found {found[:_LONGEST_LISTING]}"
        )
    return Columns(
        image=image,
        is_path=is_path,
        id=None if conversation else _named(names, _first(names, ID_KEYS)),
        caption=_named(names, captions),
        captions=captions,
        status=_STATUS if _STATUS in names and not is_path else None,
    )


class RowMaker:
    """The manifest rows of one table, batch by batch; what it skips is counted and reported.

    The id is the id column's; without one the path, or for bytes
    `<file's path below base without its ending>/<row>`. Rows of one path, or of one value in a
    column `image_id`, are about one image: the first stands for them.
    """

    def __init__(self, url: str, base: str, images: str | None, columns: Columns) -> None:
        self.row = 0
        self._url, self._images, self._columns = url, images, columns
        self._shard = stem_below(url, base)
        self._locate: Callable[[str], Located] | None = None
        self._skipped: Counter[str] = Counter()
        self._seen = SeenIds()

    def make(
        self,
        batch: pa.RecordBatch,
        counts: Sequence[int] | None,
        place: Callable[[int], Located],
    ) -> Iterator[ManifestRow]:
        """The rows of a batch that has the columns `Columns.small`.

        For bytes, `counts` is how many images each row holds, None for one in each, and `place`
        says where those of the batch's n-th row lie.
        """
        columns = self._columns
        ids, captions, statuses = (
            _values(batch, name) for name in (columns.id, columns.caption, columns.status)
        )
        paths = _values(batch, columns.image) if columns.is_path else []
        found = [[_text(one) for one in images_of(path, columns.image)] for path in paths]
        if found and self._locate is None:
            sample = [path for paths in found for path in paths][:_NUM_SAMPLED]
            self._locate = make_locator(self._url, self._images, sample) if sample else None
        for n in range(batch.num_rows):
            row, self.row = self.row, self.row + 1
            num_images = len(found[n]) if columns.is_path else counts[n] if counts else 1
            if num_images != 1:
                self._skip("with several images" if num_images else "without an image", statuses[n])
                continue
            path = found[n][0] if columns.is_path else None
            name = path if ids[n] is None else str(_text(ids[n]))
            if name is None:
                image_id = f"{self._shard}/{row:08d}"
            else:
                image_id = relative_id(name)
                is_of_image = columns.id == "image_id" or ids[n] is None
                if is_of_image and not self._seen.add(image_id):
                    self._skip("about an image that an earlier row is about", None)
                    continue
            uri, offset, size = self._locate(path) if path and self._locate else place(n)
            yield ManifestRow(image_id, uri, self._caption(captions[n]), offset, size)

    def _skip(self, reason: str, status: Any) -> None:
        self._skipped[reason if status in (None, "success") else f"{reason} ({status})"] += 1

    def report(self) -> None:
        """Log how many rows were skipped, by reason."""
        for reason, count in self._skipped.most_common():
            logger.warning("%s: skipped %s rows %s", self._url, f"{count:,}", reason)

    def _caption(self, value: Any) -> str | None:
        if isinstance(value, dict):  # one text in several languages
            value = next(iter(value.values()), None)
        return caption_of({self._columns.captions: _text(value)}) if value is not None else None


def images_of(value: Any, column: str) -> list[Any]:
    """The paths or bytes in a value of the `Columns.image` column; null and empty ones are none."""
    field = column.partition(".")[2]
    values = value if isinstance(value, list) else [value]
    if field:
        values = [one and one.get(field) for one in values]
    return [one for one in values if one]


def count_images(values: pa.Array, column: str) -> list[int]:
    """How many images with bytes each row of the `Columns.image` column holds."""
    return [len(images_of(value.as_py(), column)) for value in values]


def _values(batch: pa.RecordBatch, name: str | None) -> list[Any]:
    if name is None:
        return [None] * batch.num_rows
    # "image.path" selects one field of a struct; the batch may hold the struct with that field.
    return batch.column(name if name in batch.schema.names else name.partition(".")[0]).to_pylist()


def _text(value: Any) -> Any:
    """Text that a writer without a type for text has stored as bytes; all else as it is."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value


def _first(names: Sequence[str], keys: Sequence[str]) -> str | None:
    """The first of `keys` that names a column, in whatever case."""
    lower = {name.lower() for name in names}
    return next((key for key in keys if key in lower), None)


def _named(names: Sequence[str], key: str | None) -> str | None:
    """The column that `key` stands for: of this name, else of this name in another case."""
    return key if key in names else next((name for name in names if name.lower() == key), None)


def _bytes_column(schema: pa.Schema, is_null: Callable[[str], bool]) -> str | None:
    """The first column of image bytes that is not null throughout, "image.bytes" for a struct."""
    for key in (*BYTES_KEYS, *_IMAGE_LISTS):
        if key not in schema.names:
            continue
        kind = _item(schema.field(key).type)
        if _is_binary(kind):
            return key
        # Where all are null, as for images kept as files, the field may have no type either.
        if pa.types.is_struct(kind) and any(f.name == "bytes" and _is_binary(f.type) for f in kind):
            column = f"{key}.bytes"
            if not is_null(column):
                return column
    return None


def _path_column(schema: pa.Schema) -> str | None:
    for key in (*PATH_KEYS, *_IMAGE_LISTS):
        name = _named(schema.names, key)
        if name is None:
            continue
        kind = _item(schema.field(name).type)
        if pa.types.is_struct(kind) and "path" in [field.name for field in kind]:
            return f"{name}.path"
        if _is_string(kind) or (_is_binary(kind) and key not in BYTES_KEYS):
            return name
    return None


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type of the values behind dictionaries and extensions."""
    while True:
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        elif isinstance(kind, pa.BaseExtensionType):
            kind = kind.storage_type
        else:
            return kind


def _is_list(kind: pa.DataType) -> bool:
    return (
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_large_list_view(kind)
    )


def _item(kind: pa.DataType) -> pa.DataType:
    """The type of a column's values; for lists that of what they hold."""
    kind = _plain(kind)
    return _plain(kind.value_type) if _is_list(kind) else kind


def _is_binary(kind: pa.DataType) -> bool:
    kind = _plain(kind)
    return (
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def _is_string(kind: pa.DataType) -> bool:
    kind = _plain(kind)
    return (
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _is_turns(schema: pa.Schema, key: str) -> bool:
    kind = _plain(schema.field(key).type)
    return _is_list(kind) and pa.types.is_struct(_plain(kind.value_type))
