"""Which columns of a table hold images, ids and captions, in every type that Arrow has for them."""

from __future__ import annotations

import base64
import binascii
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pad_pipeline.errors import UserError
from pad_pipeline.sources.conversations import CONVERSATION_KEYS
from pad_pipeline.sources.entries import BYTES_KEYS, CAPTION_KEYS, ID_KEYS, PATH_KEYS
from pad_pipeline.sources.rows import NOTHING_GIVEN, Given

logger = logging.getLogger(__name__)

_IMAGE_LISTS = ("images",)
_PAD_COLUMNS = {"image_id", "status", "labels"}
_STATUS = "status"
_LONGEST_LISTING = 500
_DATA_URL = re.compile(r"data:[^,]{0,100};base64,")
_BASE64 = re.compile(r"[A-Za-z0-9+/=\s]{256,}")  # longer than a path, and without a dot


@dataclass(frozen=True, slots=True)
class Columns:
    """What the columns of a table of images are, each by its name in the table.

    `image` is "image.bytes" or "image.path" for a field of a struct or of a list of structs, and
    `is_path` whether it holds paths and not bytes. `captions` are those that may hold the caption,
    by the key that each stands for. `status` is img2dataset's outcome of the download. `given` are
    those that the user has named.
    """

    image: str
    is_path: bool
    id: str | None
    captions: dict[str, str]
    status: str | None
    given: tuple[str, ...] = ()

    def small(self) -> list[str]:
        """The columns that are read for every row, when images are listed."""
        names = (
            self.id,
            *self.captions.values(),
            self.status,
            self.is_path and self.image,
            *self.given,
        )
        return list(dict.fromkeys(name for name in names if name))


def find_columns(
    url: str,
    schema: pa.Schema,
    is_null: Callable[[str], bool],
    first_value: Callable[[str], Any],
    given: Given = NOTHING_GIVEN,
) -> Columns:
    """The columns of `schema` to use, where two functions know more of a column.

    `is_null` says whether it holds nothing in any row, `first_value` which value it has first. The
    log names columns of images that are not used. Raises `UserError` where none can be, and for a
    PAD data set.
    """
    names = schema.names
    if set(names) >= _PAD_COLUMNS:
        raise UserError(
            f"{url} belongs to a PAD data set (an output of annotate), not to a source of images"
        )
    wanted = tuple(name for name in (given.tags, given.box_column) if name is not None)
    if missing := [name for name in wanted if name not in names]:
        raise UserError(f"{url} has no column {missing[0]!r}; it has {_shown(names)}")
    image = _bytes_column(url, schema, is_null)
    is_path = image is None
    if image is None and (image := _path_column(schema)) in (*BYTES_KEYS, *_IMAGE_LISTS):
        is_path = not any(map(is_base64, images_of(first_value(image), image)))
    if image is None:
        raise UserError(
            f"{url} should have a column of image paths (one of {', '.join(PATH_KEYS)}) or "
            f"bytes (one of {', '.join(BYTES_KEYS)}); found {_shown(names)}"
        )
    captions = {key: _named(names, key) for key in (*CONVERSATION_KEYS, *CAPTION_KEYS)}
    is_conversation = "conversations" in names or any(
        key in names and _is_turns(schema.field(key).type) for key in CONVERSATION_KEYS
    )
    return Columns(
        image=image,
        is_path=is_path,
        id=None
        if is_conversation
        else next(filter(None, (_named(names, k) for k in ID_KEYS)), None),
        captions={key: name for key, name in captions.items() if name is not None},
        status=_STATUS if _STATUS in names and not is_path else None,
        given=wanted,
    )


def _shown(names: Sequence[str]) -> str:
    found = ", ".join(name if name.isprintable() else repr(name) for name in names)
    return found[:_LONGEST_LISTING]


def images_of(value: Any, column: str) -> list[Any]:
    """The paths or bytes in a value of the `Columns.image` column; null and empty ones are none."""
    field = column.partition(".")[2]
    values = value if isinstance(value, list) else [value]
    if field:
        values = [one and one.get(field) for one in values]
    return [one for one in values if one]


def image_bytes(value: Any, column: str) -> bytes | None:
    """The bytes of the one image in a value of the `Columns.image` column; None without one."""
    images = images_of(value, column)
    if len(images) != 1:
        return None
    [image] = images
    if isinstance(image, str):
        try:
            return base64.b64decode(_DATA_URL.sub("", image, count=1))
        except binascii.Error:
            return None
    return image if isinstance(image, bytes) else None


def count_images(values: pa.Array, column: str) -> list[int]:
    """How many images with bytes each row of the `Columns.image` column holds."""
    return [len(images_of(value.as_py(), column)) for value in values]


def is_base64(value: Any) -> bool:
    """Whether text is a picture in base64, alone or as a data URL, and not a path."""
    return isinstance(value, str) and bool(_DATA_URL.match(value) or _BASE64.fullmatch(value))


def _named(names: Sequence[str], key: str) -> str | None:
    """The column that `key` stands for: of this name, else of this name in another case."""
    return key if key in names else next((name for name in names if name.lower() == key), None)


def _bytes_column(url: str, schema: pa.Schema, is_null: Callable[[str], bool]) -> str | None:
    """The first column of image bytes that is not null throughout, "image.bytes" for a struct.

    Known names come first; of another name it has to be the only column of the datasets library's
    images.
    """
    known = [key for key in (*BYTES_KEYS, *_IMAGE_LISTS) if key in schema.names]
    found = [column for key in known if (column := _bytes_of(schema, key)) and not is_null(column)]
    structs = [
        f"{field.name}.bytes"
        for field in schema
        if field.name not in known and _is_image_struct(_item(field.type))
    ]
    others = [column for column in structs if not is_null(column)]
    if not found and len(others) > 1:
        raise UserError(
            f"{url} has several columns of images: {_listed(others)}; expected one, or one that is "
            f"named {BYTES_KEYS[0]!r}"
        )
    chosen = [*found, *others]
    if not chosen:
        return None
    if len(chosen) > 1:
        logger.warning(
            "%s: %s is read, other images are not: %s", url, chosen[0], _listed(chosen[1:])
        )
    return chosen[0]


def _bytes_of(schema: pa.Schema, key: str) -> str | None:
    kind = _item(schema.field(key).type)
    if _is_binary(kind):
        return key
    # Where all are null, as for images kept as files, the field may have no type either.
    if pa.types.is_struct(kind) and any(f.name == "bytes" and _is_binary(f.type) for f in kind):
        return f"{key}.bytes"
    return None


def _is_image_struct(kind: pa.DataType) -> bool:
    return (
        pa.types.is_struct(kind)
        and {field.name for field in kind} == {"bytes", "path"}
        and any(field.name == "bytes" and _is_binary(field.type) for field in kind)
    )


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(column.partition(".")[0] for column in columns)[:_LONGEST_LISTING]


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


def _is_turns(kind: pa.DataType) -> bool:
    kind = _plain(kind)
    return _is_list(kind) and pa.types.is_struct(_plain(kind.value_type))
